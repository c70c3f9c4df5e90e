"""Rows of the leaderboard as a table for the terminal, and as Markdown, CSV and JSON, a row each.

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

from avar_eval.leaderboard.ranking import ranked, told
from avar_eval.leaderboard.row import MEASURES, Row
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
    """Rows under their task; those that were asked alike stand together, best first, with their places.

    Where a task's rows were not all asked alike, the line above each part says what sets it apart.
    """
    table = FittedTable(
        [
            Column("#"),
            Column("model", text=True, key=True),
            Column("run", text=True, key=True),
            *(Column(heading) for heading in NUMBER_HEADINGS),
            Column("numbers", text=True),
        ]
    )
    for part in ranked(rows):
        apart = told(part.differs)
        table.add_section(f"{part.task}: {apart}" if apart else part.task)
        for place in part.rows:
            _, *shown = cells(place.row)
            table.add_row("" if place.rank is None else str(place.rank), *shown)
    return table


def markdown(rows: Iterable[Row]) -> str:
    """A Markdown table with the terminal's columns."""
    lines = [
        [*TEXT_HEADINGS, *NUMBER_HEADINGS, "numbers"],
        ["---"] * len(TEXT_HEADINGS) + ["---:"] * len(NUMBER_HEADINGS) + ["---"],
        *(list(map(plain_markdown, cells(row))) for row in rows),
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def csv_text(rows: Iterable[Row]) -> str:
    """CSV with a header line of Row's fields; each of its measures that any row has in four columns, at the end."""
    shown = list(rows)
    measures = [name for name in MEASURES if any(name in row.measures for row in shown)]
    columns = [field.name for field in fields(Row) if field.name != "measures"]
    columns += [f"{name}{end}" for name in measures for end in ("", "_low", "_high", "_n")]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in shown:
        values = {name: getattr(row, name) for name in columns if hasattr(row, name)}
        for name, measure in row.measures.items():
            values |= dict(zip((name, f"{name}_low", f"{name}_high", f"{name}_n"), measure, strict=True))
        writer.writerow({name: no_formula(value) for name, value in values.items()})
    return text.getvalue()


def plain_markdown(cell: str) -> str:
    """A cell whose text is no Markdown, no HTML and no further cell: models' names are other people's."""
    text = " ".join(cell.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return inert(_MARKDOWN.sub(r"\\\g<0>", text))


def no_formula(value: object) -> object:
    """A text that a spreadsheet does not compute: behind an apostrophe, if it begins as a formula does."""
    if not isinstance(value, str):
        return value
    return f"'{inert(value)}" if _FORMULA.match(value) else inert(value)


def json_text(rows: Iterable[Row]) -> str:
    """A JSON array with one object a row, its keys Row's fields, each measure an object."""
    found = [asdict(row) | {"measures": {name: of._asdict() for name, of in row.measures.items()}} for row in rows]
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def cells(row: Row) -> Sequence[str]:
    """A row for people: TEXT_HEADINGS, NUMBER_HEADINGS, and its mark; line ends where a cell may be broken."""
    return (
        _task(row),
        model_name(row),
        row.run_id[:8],
        _questions(row),
        score_cell(row),
        percent(row.official, (row.official_low, row.official_high)),
        vas_cell(row),
        percent(row.truncated),
        percent(row.unparsed),
        row.mark,
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


def model_name(row: Row) -> str:
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
