"""Rows of the leaderboard as a table for the terminal, and as Markdown, CSV and JSON.

For people (terminal, Markdown) shares are in percent, an unknown value is "–"; the score is by the strict verdict,
official by the benchmark's published rule. For programs (CSV, JSON) a row has the
fields and units of `Row`: shares are fractions 0..1 in full precision, an unknown value is empty or null.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from itertools import groupby

from avar_eval.leaderboard.row import Row
from avar_eval.number_format import count, percent, score
from avar_eval.tables import Column, FittedTable
from avar_eval.terminal import inert

TEXT_HEADINGS = ("task", "model", "run")
NUMBER_HEADINGS = ("n", "score %", "official %", "VAS", "truncated %", "unparsed %")
_MARKDOWN = re.compile(
    r"[\\`*|~$!]|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_])|(?<=\w)@(?=\w+\.)|^[#+-](?=\s)|:(?=//)|(?<=www)\."
)
_FORMULA = re.compile("[\\s\x00-\x1f]*[=+\\-@\uff1d\uff0b\uff0d\uff20]|[\\t\\r\\n]")
COMMIT = re.compile(r"[0-9a-f]{40}")


def terminal_table(rows: Iterable[Row]) -> FittedTable:
    """The terminal's table; rows of a task stand together under its name, in the order given."""
    headings = (Column("model", text=True, key=True), Column("run", text=True, key=True), *map(Column, NUMBER_HEADINGS))
    table = FittedTable(headings)
    for task, group in groupby(rows, key=_task):
        table.add_section(task)
        for row in group:
            table.add_row(*_cells(row)[1:])
    return table


def markdown(rows: Iterable[Row]) -> str:
    """A Markdown table with the terminal's columns."""
    lines = [
        [*TEXT_HEADINGS, *NUMBER_HEADINGS],
        ["---"] * len(TEXT_HEADINGS) + ["---:"] * len(NUMBER_HEADINGS),
        *(list(map(_plain_markdown, _cells(row))) for row in rows),
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def csv_text(rows: Iterable[Row]) -> str:
    """CSV with a header line of Row's fields."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _no_formula(value) for name, value in asdict(row).items()} for row in rows)
    return text.getvalue()


def _plain_markdown(cell: str) -> str:
    """A cell whose text is no Markdown, no HTML and no further cell: models' names are other people's."""
    text = " ".join(cell.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return inert(_MARKDOWN.sub(r"\\\g<0>", text))


def _no_formula(value: object) -> object:
    """A text that a spreadsheet does not compute: behind an apostrophe, if it begins as a formula does."""
    if not isinstance(value, str):
        return value
    return f"'{inert(value)}" if _FORMULA.match(value) else inert(value)


def json_text(rows: Iterable[Row]) -> str:
    """A JSON array with one object a row, its keys Row's fields."""
    return json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False) + "\n"


def _cells(row: Row) -> Sequence[str]:
    return (
        _task(row),
        _model(row),
        row.run_id[:8],
        _questions(row),
        score_cell(row),
        percent(row.official, (row.official_low, row.official_high)),
        vas_cell(row),
        percent(row.truncated),
        percent(row.unparsed),
    )


def score_cell(row: Row) -> str:
    """The score in percent, with its interval."""
    return percent(row.score, (row.score_low, row.score_high))


def vas_cell(row: Row) -> str:
    """VAS with its interval and band."""
    vas = score(row.vas, (row.vas_low, row.vas_high))
    return vas if row.vas_band is None else f"{vas}\n{row.vas_band}"


def _task(row: Row) -> str:
    """The task's name, with the metric that is its score where that is not the accuracy."""
    return row.task if row.score_name == "accuracy" else f"{row.task} ({row.score_name})"


def _model(row: Row) -> str:
    """The model's name, with what makes it another one: its revision, steering, and the protocol it is asked under."""
    revision = row.revision and (row.revision[:7] if COMMIT.fullmatch(row.revision) else row.revision)
    name = f"{row.model}@{revision}" if revision else row.model
    notes = [*(["steered"] if row.steering is not None else []), *([row.protocol] if row.protocol else [])]
    return f"{name} ({', '.join(notes)})" if notes else name


def _questions(row: Row) -> str:
    """n, and what keeps it from being a measure of ability on the whole benchmark."""
    notes = []
    if row.limit is not None:
        notes.append(f"first {row.limit}")
    if row.left_out:
        notes.append(f"{row.left_out} left out")
    if row.trained_on:
        notes.append("trained on it")
    return f"{count(row.n)}\n({', '.join(notes)})" if notes else count(row.n)
