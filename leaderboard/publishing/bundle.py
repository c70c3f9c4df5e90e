"""Everything that `avar-leaderboard publish` would send, in one folder: `models/`, `dataset/`, `space/`."""

import json
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

import yaml
from huggingface_hub import DatasetCardData, HfApi, SpaceCardData, eval_result_entries_to_yaml

from avar_eval.atomic import WriteError, write_atomically
from avar_eval.errors import UsageError, unknown_name
from avar_eval.in_words import fault_in_words
from avar_eval.leaderboard.page.build import build_page
from avar_eval.leaderboard.publishing.benchmarks import TaggedBenchmarks, eval_results
from avar_eval.leaderboard.publishing.card import model_card
from avar_eval.leaderboard.row import Row
from avar_eval.leaderboard.significance import run_folders
from avar_eval.leaderboard.store import Store
from avar_eval.leaderboard.table import markdown
from avar_eval.names import run_name
from avar_eval.records.book import ATTENTION_NAME, PROTOCOLS_NAME, RECORDS_NAME, RecordBookError
from avar_eval.records.causal import ALTERED_NAME, CAUSAL_NAME
from avar_eval.results.schema import RESULTS_NAME, TASK_RECORDS_NAME, read_results, read_task_records
from avar_eval.results.stored import record_lines, record_of
from avar_eval.user_files import parse_json
from avar_eval.view.page import build_viewer

PLAN_NAME: Final = "publish.json"
"""Written last: what goes where. A folder that has it may be written anew."""
_RUN_FILES: Final = (RESULTS_NAME, TASK_RECORDS_NAME, PROTOCOLS_NAME)
_LINES: Final = (RECORDS_NAME, ATTENTION_NAME, CAUSAL_NAME, ALTERED_NAME)
"""Of these only the run's own lines: a folder may hold those of runs with other settings."""
_PARTS: Final = ("models", "dataset", "space", "store")


@dataclass
class Bundle:
    """What lies in the folder. repositories: each part's folder, with the kind and the name of its repository.

    notes: what is not in it, and why. counts: what a reader of the hub would see of it.
    """

    folder: Path
    repositories: dict[str, tuple[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Chosen:
    """The runs to publish: the folder of each by its id, as far as it is there; and the store that holds only them."""

    folders: Mapping[str, Path]
    store: Store


def write_bundle(
    names: Sequence[str], store: Store, output: Path, owner: str | None, api: HfApi, data_dir: Path | None = None
) -> Bundle:
    """Write cards, evaluation results, page, viewer and runs into `output`; nothing is sent.

    names: run folders, or models as the leaderboard calls them. owner: of the repositories, None if that is not known
    yet. api: of the hub that is asked which benchmarks it lists. Raises UsageError for unknown names and for a folder
    that holds something else, and what reading the runs raises.
    """
    _prepare(output)
    chosen = _choose(names, store, Store(output / "store"), data_dir)
    rows = chosen.store.rows()
    bundle = Bundle(output)
    short = _repository_name(rows[0].model) if len({row.model for row in rows}) == 1 else "avar"
    place = owner or "OWNER"
    runs, space = f"{place}/{short}-runs", f"{place}/{short}-leaderboard"
    hub = TaggedBenchmarks(api)
    for model in dict.fromkeys(row.model for row in rows):
        name = _repository_name(model)
        while f"models/{name}" in bundle.repositories:  # two models of one name in different places
            name += "-2"
        links = [] if owner is None else [f"- Runs: [{runs}](https://huggingface.co/datasets/{runs})"]
        if owner is not None:
            links.append(f"- Page and viewer: [{space}](https://huggingface.co/spaces/{space})")
        folder = output / "models" / name
        of_model = [row for row in rows if row.model == model]
        _write(folder / "README.md", model_card(model, name, of_model, links))
        source = None if owner is None else f"https://huggingface.co/datasets/{runs}"
        for task, entry in eval_results(of_model, hub, source).items():
            text = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True)
            _write(folder / ".eval_results" / f"{task}.yaml", text)
        bundle.repositories[f"models/{name}"] = "model", f"{place}/{name}"
    if hub.problem:
        bundle.notes.append(f"no .eval_results: the hub cannot be asked which benchmarks it lists ({hub.problem})")
    _write_runs(bundle, chosen, rows, runs)
    _write_space(bundle, chosen, short, space, data_dir)
    shutil.rmtree(chosen.store.path)
    plan = {"repositories": bundle.repositories, "counts": bundle.counts, "notes": bundle.notes}
    _write(output / PLAN_NAME, json.dumps(plan, indent=2, ensure_ascii=False) + "\n")
    return bundle


def _prepare(output: Path) -> None:
    if output.exists() and not (output / PLAN_NAME).is_file() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} holds something else: give --output a new folder, or that of an earlier publish")
    for part in _PARTS:
        shutil.rmtree(output / part, ignore_errors=True)


def _choose(names: Sequence[str], store: Store, into: Store, data_dir: Path | None) -> _Chosen:
    """Copy the runs that are named into a store of their own, with the marks that they have."""
    history, rows = store.history(), store.rows()
    known = run_folders(history)
    folders: dict[str, Path] = {}
    for name in names:
        path = Path(name)
        if (path / RESULTS_NAME).is_file():
            results = read_results(path)
            content = sha256((path / RESULTS_NAME).read_bytes()).hexdigest()
            if content in history.contents:
                into.add_judged(path / RESULTS_NAME, history.contents[content])
            else:
                into.add(path, data_dir=data_dir)
            folders[results.run_id] = path
            continue
        run_ids = {row.run_id for row in rows if row.model == name}
        if not run_ids:
            raise unknown_name("model or run folder", name, {row.model for row in rows}, "(in this leaderboard)")
        for run_id in sorted(run_ids):
            marks = {row.task for row in rows if row.run_id == run_id and row.mark == "verified"}
            into.add_judged(store.runs / f"{run_id}.json", marks)
            if run_id in known:
                folders[run_id] = known[run_id]
    return _Chosen(folders, into)


def _write_runs(bundle: Bundle, chosen: _Chosen, rows: Sequence[Row], repository: str) -> None:
    """The runs as a data set: results.json of each, and the records of those whose folder is there."""
    target = bundle.folder / "dataset"
    for path in sorted(chosen.store.runs.glob("*.json")):
        folder = chosen.folders.get(path.stem)
        to = target / "runs" / path.stem
        if folder is None:
            bundle.notes.append(f"no records of the run {path.stem}: its folder is not there any more")
            _copy(path, to / RESULTS_NAME)
            continue
        for name in _RUN_FILES:
            if (folder / name).is_file():
                _copy(folder / name, to / name)
        keys = {key for of in read_task_records(folder, read_results(folder).tasks).values() for key in of.keys}
        book = folder / RECORDS_NAME
        told = (record_of(book, number, line) for number, line in record_lines(book))
        causal = [of.get("causal") or {} for of in told if of["key"] in keys]
        altered = {of[part]["key"] for of in causal for part in ("blind", "swap") if of.get(part)}
        for name in _LINES:
            if (folder / name).is_file():
                wanted = altered if name == ALTERED_NAME else keys
                write_atomically(to / name, _lines_of(folder / name, wanted))
        bundle.counts["responses"] = bundle.counts.get("responses", 0) + len(keys)
    data = DatasetCardData(pretty_name="Runs of avar-eval", tags=["avar-eval", "evaluation-results"])
    text = (
        "Runs of avar-eval, as it wrote them: `results.json` (numbers and protocol), `records.jsonl` (each prompt, "
        "response and verdict), `attention.jsonl`. `avar-leaderboard add runs/RUN_ID` judges one again.\n\n"
    )
    _write(target / "README.md", f"---\n{data.to_yaml()}\n---\n\n# Runs\n\n{text}{markdown(rows)}")
    bundle.repositories["dataset"] = "dataset", repository


def _lines_of(path: Path, wanted: Collection[str]) -> Iterator[str]:
    """The lines of these keys. Raises RecordBookError for a line that has none."""
    for number, line in record_lines(path):
        try:
            key = parse_json(line)["key"]
        except (ValueError, KeyError, TypeError) as error:
            raise RecordBookError(
                f"{path}, line {number} cannot be read ({fault_in_words(error)}): delete that line, and push again"
            ) from error
        if key in wanted:
            yield line.decode()


def _write_space(bundle: Bundle, chosen: _Chosen, short: str, repository: str, data_dir: Path | None) -> None:
    """Page and viewer as a static Space."""
    target = bundle.folder / "space"
    target.mkdir(parents=True, exist_ok=True)
    viewers = []
    if chosen.folders:
        viewer = target / "viewer"
        bundle.notes += build_viewer(list(chosen.folders.values()), viewer, data_dir)
        bundle.counts["pictures"] = sum(1 for path in (viewer / "pictures").glob("*"))
        viewers.append(viewer)
    build_page(chosen.store, target, viewers=viewers)
    data = SpaceCardData(
        title=f"{short}: scores and attention", sdk="static", app_file="index.html", tags=["avar-eval"]
    )
    _write(target / "README.md", f"---\n{data.to_yaml()}\n---\n\nWritten by `avar-leaderboard publish`.\n")
    bundle.repositories["space"] = "space", repository


def _repository_name(model: str) -> str:
    """A name that the hub takes."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", run_name(model)).strip("-.")
    return re.sub(r"(--+|\.\.+)", "-", name)[:80].rstrip("-.") or "model"


def _copy(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    except OSError as error:
        raise WriteError(target, error.strerror) from error


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(path, error.strerror) from error
    write_atomically(path, [text])
