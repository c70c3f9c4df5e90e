"""The lists of models and tasks that `avar-eval models` and `avar-eval tasks` print."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from avar_eval.console import wide_console
from avar_eval.models.registry import ModelEntry
from avar_eval.tables import print_table
from avar_eval.tasks.catalog import TaskEntry, is_included
from avar_eval.tasks.groups import Group
from avar_eval.terminal import say


def print_models(entries: Sequence[ModelEntry], as_json: bool) -> None:
    """All registered models."""
    if as_json:
        say(json.dumps([_model(entry) for entry in entries], indent=2))
        return
    print_table(
        ("model", "source", "description"),
        [(entry.name, _source(entry), entry.description) for entry in entries],
    )


def _source(entry: ModelEntry) -> str:
    """Where the model comes from, in a word."""
    if entry.bundled is not None or entry.assembled:
        return "embedded"
    served = entry.api.url if entry.api else ""
    return entry.repository or str(entry.folder or served)


def print_model(entry: ModelEntry, as_json: bool) -> None:
    """One entry, field by field."""
    fields = _model(entry)
    if as_json:
        say(json.dumps(fields, indent=2))
        return
    if entry.repository is not None and entry.revision is None:
        fields["revision"] = "main, not pinned: a run records the commit that it used"
    print_table(
        ("field", "value"), [(name, _shown(value)) for name, value in fields.items() if value not in (None, [])]
    )


def _shown(value: object) -> str:
    """A field's value in the words of the YAML file."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items() if part is not None)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _model(entry: ModelEntry) -> dict[str, object]:
    return entry.model_dump(mode="json") | {"path": None if entry.path is None else str(entry.path)}


def print_tasks(
    entries: Sequence[TaskEntry], groups: Sequence[Group], others: Mapping[str, Path], as_json: bool
) -> None:
    """All tasks and, unless as JSON, the groups of them. others: files of the tasks that lmms-eval brings, by name.

    Of those none is listed that a task or group of the same name stands before.
    """
    taken = {name.lower() for entry in entries for name in (entry.name, *entry.aliases)} | {of.name for of in groups}
    brought = [name for name in others if name.lower() not in taken]
    if as_json:
        listed: list[dict[str, object]] = [entry.model_dump(mode="json") for entry in entries]
        say(json.dumps(listed + [{"name": name, "form": "lmms-eval"} for name in brought], indent=2))
        return
    included = [entry for entry in entries if is_included(entry)]
    ours = [entry for entry in entries if not is_included(entry)]
    print_table(("task", "dataset", "description"), [(entry.name, entry.dataset, entry.description) for entry in ours])
    print_table(
        ("group", "tasks", "description"),
        [(group.name, ", ".join(group.task_names()), group.description) for group in groups],
    )
    if included:
        print_table(
            ("included task", "folder", "description"),
            [(entry.name, str(entry.file.parent), entry.description) for entry in included],
        )
    if brought:
        say(f"lmms-eval brings {len(brought)} tasks and groups, asked in its words and judged by its metrics:")
        wide_console().print(", ".join(brought), markup=False, highlight=False)
