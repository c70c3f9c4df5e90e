"""`avar-eval suite --dry-run`: what is left to ask, and what it may cost, from what earlier runs of a model took.

Response lengths are those of the run itself, else of another run of the same model in the suite, else of the model's
default folder. Where there is none, tokens are at most the token limit, and hours and disk are unknown: nothing is made
up. `--limit 20` makes a few responses of each run, from which the whole is then estimated.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from avar_eval.console import wide_console
from avar_eval.errors import AvarError
from avar_eval.models.backend_options import VllmOptions
from avar_eval.names import first_few
from avar_eval.number_format import UNKNOWN, count, gigabytes
from avar_eval.records.book import PROTOCOLS, PROTOCOLS_NAME, RECORDS_NAME, RecordBookError
from avar_eval.records.journal import read_lines
from avar_eval.run.folder import run_folder
from avar_eval.run.model import ResolvedModel
from avar_eval.suite.loaded_tasks import LoadedTasks
from avar_eval.suite.read import PlannedRun, Suite
from avar_eval.suite.state import SuiteState
from avar_eval.suite.timings import seconds_a_response
from avar_eval.suite.weights import FolderWeights
from avar_eval.tables import Column, FittedTable
from avar_eval.user_files import open_file, parse_json

_SECONDS_AN_HOUR: Final = 3600


@dataclass(frozen=True)
class Estimate:
    """Of one run. responses: that it is to have, done: that it has; None where the rows cannot be had here.

    tokens: that are still to be generated; most: whether it is the token limit's, as no response is known. hours: on so
    many `gpus`, all of them together; None where nothing was timed. bytes_: that its folder will grow by. source: the
    folder that lengths were taken from.
    """

    name: str
    tasks: Sequence[str]
    status: str
    responses: int | None
    done: int
    tokens: int | None
    most: bool
    hours: float | None
    gpus: int
    bytes_: float | None
    source: str | None
    problem: str | None

    @property
    def gpu_hours(self) -> float | None:
        """Of all its GPUs."""
        return None if self.hours is None else self.hours * self.gpus


@dataclass(frozen=True)
class _Lengths:
    """Of the responses in a folder: tokens and bytes on the disk of one, and which there are, with their weights."""

    tokens: float
    bytes_: float
    asked: frozenset[tuple[tuple[str, str, int], str | None]]

    def of_weights(self, sha256: str | None) -> set[tuple[str, str, int]]:
        """Those of these weights; all where they or a response's are not known."""
        return {key for key, own in self.asked if None in (own, sha256) or own == sha256}


def estimate(suite: Suite, output: Path) -> list[Estimate]:
    """What is left of each run of a suite. Nothing is written; data sets are loaded, and fetched if need be."""
    tasks = LoadedTasks()
    state = SuiteState.of(suite.runs, output, tasks)
    timed = seconds_a_response(output)
    known = {run.name: _lengths(output / run.name) for run in suite.runs}
    weights = FolderWeights()
    return [
        _estimate(run, of.status, output, known, timed, suite.runs, tasks, weights)
        for run, of in zip(suite.runs, state.runs, strict=True)
    ]


def _estimate(
    run: PlannedRun,
    status: str,
    output: Path,
    known: Mapping[str, _Lengths | None],
    timed: Mapping[str, float],
    runs: Sequence[PlannedRun],
    tasks: LoadedTasks,
    weights: FolderWeights,
) -> Estimate:
    own = known[run.name]
    problem, wanted = None, None
    try:
        wanted = {
            (task.name, row, sample)
            for task in run.tasks
            for row in tasks.ids(task, run.model)
            for sample in range(run.model.task_decoding(task).samples)
        }
    except AvarError as error:
        problem = str(error)
    there = own.of_weights(weights.sha256(run.model)) if own else set()
    done = len(there if wanted is None else there & wanted)
    left = 0 if status == "finished" else None if wanted is None else len(wanted) - done
    alike = [run.name, *(other.name for other in runs if other.model.source == run.model.source)]
    lengths, source = _nearest([output / name for name in alike], known, run_folder(run.model))
    limit = max(run.model.task_decoding(task).max_new_tokens for task in run.tasks)
    seconds = next((timed[name] for name in alike if name in timed), None)
    return Estimate(
        name=run.name,
        tasks=[task.name for task in run.tasks],
        status=status,
        responses=None if wanted is None else len(wanted),
        done=done,
        tokens=None if left is None else round(left * (lengths.tokens if lengths else limit)),
        most=lengths is None and left != 0,
        hours=None if left is None or (seconds is None and left) else left * (seconds or 0.0) / _SECONDS_AN_HOUR,
        gpus=_gpus(run.model),
        bytes_=None if left is None or (lengths is None and left) else left * (lengths.bytes_ if lengths else 0.0),
        source=source,
        problem=problem,
    )


def _nearest(
    folders: Sequence[Path], known: Mapping[str, _Lengths | None], usual: Path
) -> tuple[_Lengths | None, str | None]:
    """Lengths of the first of the suite's folders that has any, else of the model's default one; and which it is."""
    for folder in folders:
        if (lengths := known[folder.name]) is not None:
            return lengths, str(folder)
    lengths = _lengths(usual)
    return lengths, str(usual) if lengths else None


def _gpus(model: ResolvedModel) -> int:
    """GPUs that a run takes: none of ours where a server answers."""
    if model.backend == "api":
        return 0
    options = model.options
    return options.tensor_parallel * options.data_parallel if isinstance(options, VllmOptions) else 1


def _lengths(folder: Path) -> _Lengths | None:
    """Of the responses in a run's folder; None where there is none. A line that cannot be read is passed over."""
    tokens: dict[tuple[str, str, int], int] = {}
    asked: set[tuple[tuple[str, str, int], str | None]] = set()
    try:
        weights = _weights_by_protocol(folder / PROTOCOLS_NAME)
        with open_file(folder / RECORDS_NAME) as file:
            for line in file:
                try:
                    record = parse_json(line)
                    key = (str(record["task"]), str(record["row_id"]), int(record["sample"]))
                    tokens[key] = len(record["response_token_ids"]) or int((record["usage"] or {})["completion_tokens"])
                    asked.add((key, weights.get(record["protocol_id"])))
                except (ValueError, TypeError, KeyError):  # the run itself will say what is wrong with it
                    continue
        size = sum(path.stat().st_size for path in folder.iterdir() if path.suffix == ".jsonl")
    except OSError:
        return None
    return _Lengths(fmean(tokens.values()), size / len(tokens), frozenset(asked)) if tokens else None


def _weights_by_protocol(path: Path) -> dict[str, str | None]:
    """By `protocol_id` the SHA-256 of the weights that answered. Raises OSError."""
    if not path.exists():
        return {}
    try:
        return {line.protocol_id: line.protocol.get("weights_sha256") for line in read_lines(path, PROTOCOLS).values()}
    except RecordBookError:  # the run itself will say what is wrong with it
        return {}


def estimates_json(found: Sequence[Estimate]) -> str:
    """A JSON array: the fields of `Estimate`, and GPU-hours."""
    runs: list[dict[str, Any]] = [
        {name.rstrip("_"): value for name, value in asdict(one).items()} | {"gpu_hours": one.gpu_hours} for one in found
    ]
    return json.dumps({"runs": runs}, indent=2, ensure_ascii=False) + "\n"


def print_estimates(found: Sequence[Estimate], output: Path) -> None:
    """Print a line each run, the sum of what is known, and what is not."""
    console = wide_console()
    table = FittedTable(
        [
            Column("run", text=True, key=True),
            *map(Column, ("tasks", "responses", "done", "tokens to come", "GPU-hours", "disk", "status")),
        ]
    )
    for one in found:
        table.add_row(
            one.name,
            ", ".join(one.tasks),
            UNKNOWN if one.responses is None else count(one.responses),
            count(one.done),
            UNKNOWN if one.tokens is None else f"{'at most ' if one.most else ''}{count(one.tokens)}",
            _hours(one.gpu_hours),
            UNKNOWN if one.bytes_ is None else gigabytes(one.bytes_),
            one.status,
        )
    console.print(table)
    unknown = [one.name for one in found if one.gpu_hours is None]
    hours = sum(one.gpu_hours or 0.0 for one in found)
    known = UNKNOWN if len(unknown) == len(found) else f"{'at least ' if unknown else ''}{_hours(hours)}"
    tokens = sum(one.tokens or 0 for one in found)
    most = "at most " if any(one.most for one in found) else ""
    there = next(path for path in (output.absolute(), *output.absolute().parents) if path.exists())
    free = gigabytes(shutil.disk_usage(there).free)
    console.print(
        f"to come: {most}{count(tokens)} tokens, {known} GPU-hours; {free} are free at {there}", soft_wrap=True
    )
    if unknown:
        names = first_few(unknown)
        console.print(f"not timed: {names}; the same command with --limit 20 times them, and this then knows more")
    for source in dict.fromkeys(one.source for one in found if one.source and one.tokens):
        console.print(f"lengths of responses as in {source}", soft_wrap=True)
    for problem in dict.fromkeys(one.problem for one in found if one.problem):
        console.print(f"rows: {problem}", soft_wrap=True)


def _hours(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f}" if value < 10 else f"{value:,.0f}"
