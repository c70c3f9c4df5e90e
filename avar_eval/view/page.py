"""The viewer: a static folder with one page, its data in files that it loads as it needs them, and the pictures.

    index.html        the page, with its style and its script
    data/R-T.js       the list of task T of run R, numbered from 0
    data/R-T-N.js     what the list's lines show when they are chosen, N-th part
    pictures/*        named by their hashes

Data are JSON within scripts, since a page from file:// can load nothing else. The page's policy lets no script run but
its own and those that this one names, and no picture be loaded but those beside it.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup

from avar_eval.atomic import write_atomically
from avar_eval.errors import UsageError
from avar_eval.progress import Bar
from avar_eval.records.journal import read_lines
from avar_eval.records.overlays import OVERLAYS, OVERLAYS_NAME, OverlayLine
from avar_eval.results.schema import Metric, TaskResult
from avar_eval.terminal import inert
from avar_eval.view.picture_files import PictureFiles
from avar_eval.view.records import Record, RunRecords
from avar_eval.view.rows import MEASURES, details, list_line, own_texts, window_name
from avar_eval.view.task_rows import TaskRows, data_folder

INDEX_NAME: Final = "index.html"
_MARK: Final = '<meta name="generator" content="avar-eval view">'
"""In every page of this module: such a folder is written over, no other is."""
_PART_CHARACTERS: Final = 250_000
"""A part of the data is closed when it has so many; a single response may have more."""
_SCRIPTS: Final = ("text.js", "store.js", "overlay.js", "details.js", "list.js", "start.js")


@dataclass
class _Viewer:
    """A viewer that is being written."""

    folder: Path
    data_dir: Path | None
    allow_outside: bool
    pictures: PictureFiles
    written: set[Path] = field(default_factory=set)
    rows: dict[tuple[str, Path | None], TaskRows] = field(default_factory=dict)

    def task_rows(self, task: str, run: RunRecords) -> TaskRows:
        """A task's rows, read once for all runs that have them from the same place."""
        data_dir = self.data_dir or data_folder(str(run.results.protocol.get("command", "")))
        if (task, data_dir) not in self.rows:
            self.rows[task, data_dir] = TaskRows.of(task, data_dir, self.allow_outside)
        return self.rows[task, data_dir]

    def write(self, name: str, content: Any) -> None:
        """A file of data: a call of the page's own function with JSON in a string, whose names cannot be prototypes."""
        path = self.folder / "data" / f"{name}.js"
        text = json.dumps(json.dumps(_finite(content), ensure_ascii=False, separators=(",", ":")))
        write_atomically(path, [f'viewer.take("{name}",{text})\n'])
        self.written.add(path)


def build_viewer(
    runs: Sequence[Path], output: Path, data_dir: Path | None = None, allow_outside: bool = False
) -> list[str]:
    """Write a viewer of finished runs into the folder `output`; returns what it cannot show, and why.

    data_dir: where pictures and missing references are read from, for tasks that are not embedded; by default where the
    run's own command read them, or the hub's cache. allow_outside: whether rows may name pictures outside of it.
    The files that another viewer has left in the folder make way. Raises UsageError for a folder of other things,
    ResultsError and RecordBookError for runs that cannot be read, WriteError.
    """
    read = [RunRecords.of(folder) for folder in dict.fromkeys(folder.resolve() for folder in runs)]
    _prepare(output)
    viewer = _Viewer(output, data_dir, allow_outside, PictureFiles(output / "pictures"))
    notes: dict[str, None] = {}
    cards = []
    with Bar("rows", sum(run.size(task) for run in read for task in run.results.tasks)) as bar:
        for number, run in enumerate(read):
            tasks = {}
            overlays = _overlays(run.folder)
            for index, task in enumerate(run.results.tasks):
                tasks[task], problem = _write_task(viewer, f"{number}-{index}", run, task, overlays, bar)
                notes |= {f"{task}: {problem}": None} if problem else {}
            cards.append(_card(run, tasks))
    write_atomically(output / INDEX_NAME, [_page(cards, list(notes))])
    kept = viewer.written | {output / "pictures" / name for name in viewer.pictures.names.values()}
    for path in [*output.glob("data/*.js"), *output.glob("pictures/*")]:
        if path not in kept:
            path.unlink(missing_ok=True)
    return list(notes)


def _prepare(output: Path) -> None:
    """Make the folders. Raises UsageError if there is something else."""
    index = output / INDEX_NAME
    try:
        is_ours = index.is_file() and _MARK in index.read_text(encoding="utf-8", errors="replace")
        if output.exists() and not is_ours and (not output.is_dir() or any(output.iterdir())):
            raise UsageError(f"{output} holds something else: give --output a new folder, or that of a viewer")
        for name in ("data", "pictures"):
            (output / name).mkdir(parents=True, exist_ok=True)
        if not is_ours:  # a folder whose writing was cut short is ours all the same
            write_atomically(index, [f"<!doctype html>{_MARK}<p>This page was not written to its end.\n"])
    except OSError as error:
        raise UsageError(f"--output {str(output)!r} cannot be written to: {error.strerror}") from error


def _overlays(folder: Path) -> dict[str, OverlayLine]:
    path = folder / OVERLAYS_NAME
    return read_lines(path, OVERLAYS) if path.exists() else {}


def _write_task(
    viewer: _Viewer, name: str, run: RunRecords, task: str, overlays: Mapping[str, OverlayLine], bar: Bar
) -> tuple[dict[str, Any], str | None]:
    """Write a task's list and its parts; what the page's script has to know of it, and why pictures are missing."""
    rows = viewer.task_rows(task, run)
    questions = own_texts([record["prompt"] for record in run.of_task(task)])
    chances = run.asked[task].guess_chances or [None] * len(questions)
    lines, lacking, replaced = [], 0, 0
    part, size, parts = list[dict[str, Any]](), 0, 0
    for record, question, chance in zip(run.of_task(task), questions, chances, strict=True):
        reference = record.get("reference")
        if reference is None:
            reference = rows.reference(record["row_id"])
        found, lacks, has_others = _pictures(viewer.pictures, rows, record)
        lacking, replaced = lacking + lacks, replaced + has_others
        overlay = overlays.get(record["key"])
        shown = details(record, reference, found, overlay and overlay.model_dump(mode="json")["pictures"])
        part.append(shown)
        lines.append(list_line(record, question, reference, chance, parts, len(part) - 1))
        size += len(record["prompt"]) + len(record["response"])
        if size >= _PART_CHARACTERS:
            viewer.write(f"{name}-{parts}", part)
            part, size, parts = [], 0, parts + 1
        bar.advance(1)
    if part:
        viewer.write(f"{name}-{parts}", part)
        parts += 1
    viewer.write(name, lines)
    problem = rows.problem
    if lacking and problem is None:
        problem = f"{lacking} of {len(lines)} rows are shown without a picture that they were asked with: "
        problem += "the data hold another one in its place" if replaced else "it is not at hand"
    return {"data": name, "parts": parts, "rows": len(lines)}, problem


def _pictures(pictures: PictureFiles, rows: TaskRows, record: Record) -> tuple[list[str | None], int, int]:
    """The names of a record's pictures, None where one is not at hand.

    With it whether any is lacking, and whether the data hold another one in its place (0 or 1).
    """
    visuals = rows.visuals(record["row_id"])
    at_hand = [pictures.add(picture) for picture in visuals or ()]
    asked = record.get("image_sha256")
    if asked is None:  # of before hashes were kept: those of the row are taken for its own
        return [pictures.names[sha256] for sha256 in at_hand], visuals is None, 0
    found = [pictures.names[sha256] if sha256 in at_hand else None for sha256 in asked]
    return found, None in found, bool(at_hand) and None in found


def _card(run: RunRecords, tasks: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says of a run."""
    results = run.results
    return {
        "name": run.folder.name,
        "model": results.protocol.get("model", run.folder.name),
        "run_id": results.run_id,
        "tasks": {
            task: {
                **tasks[task],
                "metrics": {name: metric.model_dump() for name, metric in _metrics(of).items() if metric.n},
                "left_out": of.left_out.model_dump(),
            }
            for task, of in results.tasks.items()
        },
        "protocol": results.protocol,
    }


def _metrics(task: TaskResult) -> dict[str, Metric]:
    """A task's metrics, those of windows of layers that are knocked out among them."""
    parts = ("answer", "response")
    windows = {window_name(part, of.layers): getattr(of, part) for of in task.knockout_windows for part in parts}
    return task.metrics | windows


def _page(cards: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> str:
    own = files("avar_eval.view")
    style, template = ((own / name).read_text(encoding="utf-8") for name in ("viewer.css", "viewer.html.j2"))
    script = "".join((own / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return environment.from_string(template).render(
        mark=Markup(_MARK),
        title=inert(" and ".join(dict.fromkeys(str(card["model"]) for card in cards))),
        style=Markup(style),
        style_hash=_sha256(style),
        script=Markup(script),
        script_hash=_sha256(script),
        runs=_finite(cards),
        measures=MEASURES,
        notes=list(map(inert, notes)),
    )


def _finite(value: Any) -> Any:
    """The same with null for numbers that JSON has no word for."""
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _sha256(text: str) -> str:
    """As a Content-Security-Policy names a script or a style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
