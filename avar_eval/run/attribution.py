"""What makes two protocols differ: one setting after the other is changed from one's to the other's."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from avar_eval.atomic import write_atomically
from avar_eval.errors import UsageError
from avar_eval.judge.model import JudgeModel
from avar_eval.protocols.protocol import PublishedProtocol, find_protocol
from avar_eval.ranks import launched
from avar_eval.results.compare import Comparison, compare
from avar_eval.run.asking import Asking
from avar_eval.run.evaluate import RunConfig, evaluate
from avar_eval.run.model import ResolvedModel, resolve
from avar_eval.run.named_protocol import NamedProtocol
from avar_eval.tasks.catalog import TaskEntry, find_tasks
from avar_eval.terminal import note

SETTINGS: Final = ("prompts", "system prompt", "pixels", "decoding", "token limit")
"""In the order in which they are changed."""


@dataclass(frozen=True)
class Step:
    """One run. setting: what was changed before it, None for the first. comparisons: with the run before it."""

    setting: str | None
    folder: Path
    comparisons: list[Comparison]

    def to_json(self) -> dict[str, Any]:
        """As attribution.json has it."""
        found = [comparison.to_json() for comparison in self.comparisons]
        return {"setting": self.setting, "run": str(self.folder), "comparisons": found}


def attribute(
    asking: Asking, other: str, tasks: Sequence[str], output: Path, judge: JudgeModel | None = None, command: str = ""
) -> list[Step]:
    """Ask a model under `asking.protocol`, then with one setting after the other as `other` has it.

    The change of a step depends on what was changed before it: the order is that of `SETTINGS`. Settings in which the
    two do not differ, for this model and these tasks, are not a step. Each step is a run in a folder of its own under
    `output`, which goes on where it was stopped; attribution.json has what was found. Of several processes only the
    first gets the comparisons. Raises UsageError, and what evaluating raises.
    """
    entries = find_tasks(tasks)
    runs = list(_runs(asking, find_protocol(other), entries))
    if len(runs) == 1:
        raise UsageError(f"--attribute {other}: it asks {asking.model} the same of these tasks as {asking.protocol}")
    steps: list[Step] = []
    for number, (setting, model) in enumerate(runs):
        folder = output / f"{number}-{(setting or str(asking.protocol)).replace(' ', '-')}"
        note(f"step {number} of {len(runs) - 1}: {setting or asking.protocol}")
        evaluate(RunConfig(model, tasks, folder, judge=judge, command=command))
        found = compare(steps[-1].folder, folder) if steps and launched().first else []
        steps.append(Step(setting, folder, found))
    if launched().first:
        text = json.dumps([step.to_json() for step in steps], indent=2, ensure_ascii=False)
        write_atomically(output / "attribution.json", [text + "\n"])
    return steps


def _runs(
    asking: Asking, other: PublishedProtocol, tasks: Sequence[TaskEntry]
) -> Iterator[tuple[str | None, ResolvedModel]]:
    """The models of the steps, each with the setting that was changed before it."""
    named = NamedProtocol.of(asking)
    if named is None:
        raise UsageError("--attribute needs --protocol: it changes one setting at a time from one to the other")
    last = resolve(asking)
    yield None, last
    fields = _fields(named.protocol, tasks)
    theirs = _fields(other, tasks)
    for setting in SETTINGS:
        for name in _NAMES[setting]:
            fields.pop(name, None)
            fields |= {name: theirs[name]} if name in theirs else {}
        changed = {**named.changed, setting: (named.protocol.name, other.name)}
        named = replace(named, protocol=_protocol(named.protocol, fields), changed=changed)
        model = resolve(asking, protocol=named)
        if _varied_settings(model, tasks) != _varied_settings(last, tasks):
            yield setting, model
            last = model


_NAMES: Final = {
    "prompts": ("prompts",),
    "system prompt": ("system_prompt",),
    "pixels": ("image_min_pixels", "image_max_pixels", "image_architectures"),
    "decoding": ("decoding",),
    "token limit": ("limits",),
}


def _fields(protocol: PublishedProtocol, tasks: Sequence[TaskEntry]) -> dict[str, Any]:
    """A protocol's settings that can be exchanged one by one; what it does not set is absent."""
    kept = ("system_prompt", *_NAMES["pixels"], "decoding")
    fields = {name: getattr(protocol, name) for name in kept if name in protocol.model_fields_set}
    of = {task.name: protocol.of_task(task) for task in tasks}
    fields["prompts"] = {name: {"prompt": one.prompt, "style": one.style} for name, one in of.items()}
    fields["limits"] = {
        name: {"max_new_tokens": one.max_new_tokens or protocol.max_new_tokens, "stop": one.stop}
        for name, one in of.items()
    }
    return fields


def _protocol(named: PublishedProtocol, fields: dict[str, Any]) -> PublishedProtocol:
    """A protocol of settings of two; its name and source are the first one's."""
    settings = {name: value for name, value in fields.items() if name not in ("prompts", "limits")}
    benchmarks = {task: {**prompt, **fields["limits"][task]} for task, prompt in fields["prompts"].items()}
    kept = {name: getattr(named, name) for name in ("name", "description", "source", "verdict")}
    return PublishedProtocol(**kept, **settings, benchmarks=benchmarks)


def _varied_settings(model: ResolvedModel, tasks: Sequence[TaskEntry]) -> list[Any]:
    """All of a model's settings that the steps may change."""
    of_tasks = [(model.prompt_settings(task), model.task_decoding(task)) for task in tasks]
    return [model.system_prompt, model.image_limits, *of_tasks]
