"""A wide table as Markdown, CSV and JSON. For people in percent, differences in points; for programs fractions 0..1."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from avar_eval.leaderboard.row import Row
from avar_eval.leaderboard.significance import BestCells, in_words
from avar_eval.leaderboard.table import no_formula, plain_markdown, score_cell
from avar_eval.leaderboard.wide import WideLine, WideTable
from avar_eval.number_format import UNKNOWN, in_line, percent, points, score


def wide_cells(table: WideTable) -> Iterator[tuple[WideLine, str, list[str]]]:
    """Each line for people: the line, which of its rows (ours, paper, difference), and the cells behind the name."""
    for line in table.lines:
        ours = [_cell(line.rows.get(column)) for column in table.columns]
        yield line, "ours", [*ours, percent(line.average), score(line.vas)]
        if line.paper is None:
            continue
        printed = [_printed(line.paper.scores.get(column)) for column in table.columns]
        average = table.paper_average(line)
        yield line, "paper", [*printed, percent(average), score(line.paper.vas)]
        apart = [points(line.difference(column)) for column in table.columns]
        both = None if line.average is None or average is None else line.average - average
        vas = None if line.vas is None or line.paper.vas is None else line.vas - line.paper.vas
        yield line, "difference", [*apart, points(both), UNKNOWN if vas is None else f"{vas:+.2f}"]


def line_name(line: WideLine, kind: str, source: str) -> str:
    """What stands before the cells of a row."""
    if kind == "ours":
        return f"{line.name}, {line.differs}" if line.differs else line.name
    printed = line.paper.name if line.paper else ""
    return f"{printed} ({source}), as printed" if kind == "paper" else "ours − printed"


def caption(table: WideTable, best: BestCells) -> str:
    """What the numbers are."""
    said = "Strict scores in percent with 95 % intervals; average: unweighted mean of the columns; VAS: mean over them."
    if any(line.paper for line in table.lines):
        said += " Differences to printed scores in percentage points, VAS in its own unit."
    return f"{said} {in_words(best, table.columns)}"


def wide_markdown(table: WideTable, best: BestCells, source: str) -> str:
    """A Markdown table, and its caption below it."""
    headings = ["model", *table.columns, "average", "VAS"]
    lines = [list(map(plain_markdown, headings)), ["---", *["---:"] * (len(headings) - 1)]]
    places = {id(line): place for place, line in enumerate(table.lines)}
    for line, kind, cells in wide_cells(table):
        shown = [plain_markdown(cell) for cell in cells]
        if kind == "ours":
            for number, column in enumerate(table.columns):
                if (places[id(line)], column) in best.best:
                    shown[number] = f"**{shown[number]}**"
        lines.append([plain_markdown(line_name(line, kind, source)), *shown])
    return "".join(f"| {' | '.join(of)} |\n" for of in lines) + f"\n{plain_markdown(caption(table, best))}\n"


def wide_csv(table: WideTable, source: str) -> str:
    """CSV: a row each line, and the printed one and the difference below it; `source` tells them apart."""
    columns = ["source", "model", "run_ids", *_SHARED, "average", "vas"]
    for task in table.columns:
        columns += [task, f"{task}_low", f"{task}_high", f"{task}_n", f"{task}_mark"]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    for record in _records(table, source):
        flat = {name: value for name, value in record.items() if name in columns}
        for task, of in record["scores"].items():
            flat |= {task: of["score"]} | {f"{task}_{name}": value for name, value in of.items() if name != "score"}
        writer.writerow({name: no_formula(value) for name, value in flat.items() if name in columns})
    return text.getvalue()


def wide_json(table: WideTable, source: str) -> str:
    """A JSON array: what `wide_csv` has, the scores of a row under `scores` by column."""
    return json.dumps(list(_records(table, source)), indent=2, ensure_ascii=False) + "\n"


_SHARED = (
    "revision", "steering", "dtype", "training_run", "training_step", "protocol", "prompting_sha256", "limit",
    "backend", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "samples", "seed",
    "min_pixels", "max_pixels", "judge_model",
)  # fmt: skip
"""Fields of Row in which all rows of a line are equal."""


def _records(table: WideTable, source: str) -> Iterator[dict[str, Any]]:
    for line in table.lines:
        first = next(iter(line.rows.values()))
        yield {
            "source": "ours",
            "model": first.model,
            "run_ids": " ".join(dict.fromkeys(row.run_id for row in line.rows.values())),
            **{name: getattr(first, name) for name in _SHARED},
            "average": line.average,
            "vas": line.vas,
            "scores": {
                column: {"score": row.score, "low": row.score_low, "high": row.score_high, "n": row.n, "mark": row.mark}
                for column, row in line.rows.items()
            },
        }
        if line.paper is None:
            continue
        average = table.paper_average(line)
        yield {
            "source": source,
            "model": line.paper.name,
            "average": average,
            "vas": line.paper.vas,
            "scores": {
                column: {"score": line.paper.scores[column] / 100}
                for column in table.columns
                if column in line.paper.scores
            },
        }
        yield {
            "source": "difference",
            "model": first.model,
            "average": None if average is None or line.average is None else line.average - average,
            "vas": None if line.vas is None or line.paper.vas is None else line.vas - line.paper.vas,
            "scores": {
                column: {"score": apart} for column in table.columns if (apart := line.difference(column)) is not None
            },
        }


def _cell(row: Row | None) -> str:
    if row is None:
        return UNKNOWN
    notes: Sequence[str] = [
        *([f"first {row.limit}"] if row.limit is not None else []),
        *([f"{row.left_out} left out"] if row.left_out else []),
        *(["trained on it"] if row.trained_on else []),
    ]
    return in_line(score_cell(row)) + (f" ({', '.join(notes)})" if notes else "")


def _printed(percents: float | None) -> str:
    return UNKNOWN if percents is None else f"{percents:.1f}"
