"""Rows and lines of the page: a row is one task of one run or of a paper's table, a line the rows of one model.

The rows of a line were asked in one way; a row that differs in a setting stands in a line of its own, so that no cell
hides another.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, overload

from avar_eval.leaderboard.page.measures import MEASURES, PLACES
from avar_eval.leaderboard.paper import Paper, PaperRow
from avar_eval.leaderboard.row import Row
from avar_eval.leaderboard.table import COMMIT
from avar_eval.tasks.groups import groups

PAPER_AVERAGE: Final = "avar7"
"""The group whose mean the paper prints as its average."""
PAPER_VAS: Final = "mathvista"
"""The benchmark on whose questions the paper measures VAS."""
_MEASURED: Final = frozenset(f"{of.key}{end}" for of in MEASURES for end in ("", "_low", "_high", "_n"))
_SETTINGS: Final = (
    "model", "revision", "steering", "training_run", "training_step", "training_started", "protocol",
    "prompting_sha256", "limit", "backend", "dtype", "temperature", "top_p", "top_k", "min_p", "repetition_penalty",
    "presence_penalty", "samples", "seed", "min_pixels", "max_pixels",
)  # fmt: skip
"""Fields in which the rows of one line are equal: how a model is asked, whatever the task."""
_FIRST: Final = (
    "mark", "n", "limit", "left_out", "score_name", "protocol", "backend", "temperature", "samples", "max_new_tokens",
    "seed", "steering", "grader", "judge_model", "run_id", "revision",
)  # fmt: skip
"""Fields at the top of a card, in this order."""
_ELSEWHERE: Final = ("task", "model", "measures")
_DIGITS: Final = 6
"""Significant ones of a number in the page."""

Cell = tuple[float, float | None, float | None, int | None]
"""A value with the ends of its interval and its n."""


@dataclass
class PageRow:
    """A row as the page has it. cells: by the place of their measure. own: None of a paper's row.

    paper: of a row of ours the place of the printed one of the same model and task.
    """

    task: str
    cells: dict[int, Cell]
    card: dict[str, str]
    own: Row | None = None
    paper: int | None = None


@dataclass
class Line:
    """A line of the table. rows: their places among all rows."""

    model: str
    detail: str | None
    steered: bool = False
    backend: str | None = None
    verified: bool = False
    printed: bool = False
    rows: list[int] = field(default_factory=list)


def own_rows(rows: Sequence[Row]) -> list[PageRow]:
    """Rows of the leaderboard, in their order."""
    return [PageRow(row.task, _cells(row), _card(row), row) for row in rows]


def own_lines(rows: Sequence[PageRow]) -> list[Line]:
    """Rows of equal settings in one line; a task's second row of the same settings begins another."""
    lines: dict[tuple[object, ...], Line] = {}
    seen: Counter[tuple[object, ...]] = Counter()
    for place, row in enumerate(one.own for one in rows):
        if row is None:
            continue
        key = tuple(getattr(row, name) for name in _SETTINGS)
        seen[*key, row.task] += 1
        line_key = (*key, seen[*key, row.task])
        if line_key not in lines:
            lines[line_key] = Line(row.model, _detail(row), row.steering is not None, row.backend, verified=True)
        lines[line_key].verified &= row.mark == "verified"
        lines[line_key].rows.append(place)
    return list(lines.values())


def add_printed(published: Paper, rows: list[PageRow]) -> list[Line]:
    """A line for each printed row; its rows are appended to `rows`, and ours of the same model point to them."""
    ours: dict[tuple[str, str], list[PageRow]] = defaultdict(list)
    for one in rows:
        if one.own is not None and one.own.steering is None:
            ours[one.own.model, one.task].append(one)
    lines = []
    for of in (*published.models, *published.ablations):
        line = Line(of.name, None if of in published.models else "ablation", printed=True)
        for task, cells in _printed_cells(of).items():
            for one in ours[of.registered or of.name, task]:
                one.paper = len(rows)
            line.rows.append(len(rows))
            rows.append(PageRow(task, cells, _printed_card(of, task)))
        lines.append(line)
    return lines


def paper_columns(published: Paper) -> list[str]:
    """The tasks that the paper prints, in its table's order."""
    of_average = [term.task for term in groups()[PAPER_AVERAGE].mean]
    return list(dict.fromkeys([*of_average, *(task for row in published.models for task in row.scores)]))


def _cells(row: Row) -> dict[int, Cell]:
    values = vars(row)
    found: dict[int, Cell] = {}
    for key, place in PLACES.items():
        if key in row.measures:
            value, low, high, n = row.measures[key]
            found[place] = (_short(value), _short(low), _short(high), n)
        elif (known := values.get(key)) is not None:
            low, high = values.get(f"{key}_low"), values.get(f"{key}_high")
            found[place] = (_short(known), _short(low), _short(high), row.vas_n if key.startswith("vas") else row.n)
    return found


@overload
def _short(number: float) -> float: ...


@overload
def _short(number: None) -> None: ...


def _short(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.{_DIGITS}g}")


def _card(row: Row) -> dict[str, str]:
    """Everything that the row says but its measures, in words."""
    names = [name for name in dict.fromkeys((*_FIRST, *vars(row))) if name not in _MEASURED and name not in _ELSEWHERE]
    known = {name: getattr(row, name) for name in names}
    return {
        name.replace("_sha256", " (SHA-256)").replace("_", " "): _in_words(value)
        for name, value in known.items()
        if value is not None
    }


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _detail(row: Row) -> str | None:
    """What makes it another model or another way of asking, for a line below its name."""
    revision = row.revision and (row.revision[:7] if COMMIT.fullmatch(row.revision) else row.revision)
    notes = [
        None if row.training_step is None else f"step {row.training_step} of {row.training_run}",
        revision and f"@{revision}",
        row.protocol,
        None if row.limit is None else f"first {row.limit}",
        row.steering and _strengths(row.steering),
        f"temperature {row.temperature:g}" if row.temperature else None,
        f"{row.samples} samples" if row.samples and row.samples > 1 else None,
    ]
    return " · ".join(note for note in notes if note) or None


def _strengths(steering: str) -> str:
    """What a steering's JSON says, without what it leaves open."""
    return ", ".join(f"{name} {value}" for name, value in json.loads(steering).items() if value is not None)


def _printed_cells(of: PaperRow) -> dict[str, dict[int, Cell]]:
    cells: dict[str, dict[int, Cell]] = defaultdict(dict)
    for task, percent in of.scores.items():
        cells[task][PLACES["score"]] = (_short(percent / 100), None, None, None)
    if of.average is not None:
        cells[PAPER_AVERAGE][PLACES["score"]] = (_short(of.average / 100), None, None, None)
    if of.vas is not None:
        cells[PAPER_VAS][PLACES["vas"]] = (of.vas, None, None, None)
    return cells


def _printed_card(of: PaperRow, task: str) -> dict[str, str]:
    card = {"registered as": of.registered, "note": of.notes}
    if task == PAPER_VAS and of.vas is not None:
        card["VAS"] = "printed once for the model, of 200 questions of MathVista"
    if of.trained_on:
        card["trained on"] = ", ".join(of.trained_on)
    return {name: value for name, value in card.items() if value is not None}
