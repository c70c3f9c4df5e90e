"""The leaderboard as a README: the runs of a store and the paper's rows as Markdown tables."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from avar_eval.leaderboard.page.measures import MEASURES, Measure
from avar_eval.leaderboard.page.rows import PAPER_AVERAGE, Cell, PageRow, own_rows, paper_columns
from avar_eval.leaderboard.paper import Paper, PaperRow
from avar_eval.leaderboard.row import Row
from avar_eval.leaderboard.table import plain_markdown
from avar_eval.number_format import UNKNOWN, count, in_line, percent, points, score

_COLUMNS: Final = ("score", "vas", "ratio_of_sums", "visual_gain", "blind", "visual_dependence")
"""Measures that have a column, where some row has them."""
_FORMS: Final[dict[str, Callable[..., str]]] = {"percent": percent, "points": points, "nats": score, "": score}
_HEADINGS: Final = {"percent": "%", "points": "(points)", "nats": "(nats)"}


def readme_text(rows: Sequence[Row], published: Paper, store: Path, path: Path) -> str:
    """The README's text. store, path: where the rows are and the README will be, as its command names them."""
    return f"""# Leaderboard

Scores with their 95 % intervals, and beside each where the model looks: the Visual Attention Score (VAS, Eq. 2 of
{published.source}) is attention on image over system tokens. This file is made by

```bash
avar-leaderboard page --store {store} --readme {path}
```

and a page with filters, protocol cards and pictures from the same rows by

```bash
avar-leaderboard page --store {store} --output avar-runs/leaderboard
```

## Measured here

{_measured(own_rows(rows))}
`verified` rows were judged again from the run's records; the others are as a results.json reports them.

## Printed in {published.source}

As printed, not measured here: scores in percent, without intervals. A dagger marks a model that was trained on the
benchmark's data.

{_printed(published)}
{_notes(published)}"""


def _measured(rows: Sequence[PageRow]) -> str:
    known = {place for row in rows for place in row.cells}
    columns = [(place, of) for place, of in enumerate(MEASURES) if of.key in _COLUMNS and place in known]
    columns.sort(key=lambda column: _COLUMNS.index(column[1].key))
    headings = ["benchmark", "model", "n", *(_heading(of) for _, of in columns), "how it was asked", "status"]
    lines = []
    for row in rows:
        own = row.own
        if own is None:
            continue
        cells = [_cell(row.cells.get(place), of) for place, of in columns]
        lines.append([own.task, own.model, count(own.n), *cells, _asked(own), own.mark])
    return _table(headings, lines, right=range(2, 3 + len(columns)))


def _heading(of: Measure) -> str:
    return f"{of.label} {_HEADINGS.get(of.suffix, '')}".strip()


def _cell(cell: Cell | None, of: Measure) -> str:
    if cell is None:
        return UNKNOWN
    value, low, high, _ = cell
    return in_line(_FORMS[of.suffix](value, (low, high)))


def _asked(row: Row) -> str:
    parts = [
        row.protocol,
        None if row.limit is None else f"first {row.limit}",
        "steered" if row.steering is not None else None,
        None if row.temperature is None else f"temperature {row.temperature:g}",
        None if row.max_new_tokens is None else f"{row.max_new_tokens:,} tokens",
        row.backend,
        row.grader,
    ]
    return ", ".join(part for part in parts if part)


def _printed(published: Paper) -> str:
    tasks = paper_columns(published)
    lines = [
        [
            row.name,
            *(_printed_score(row, task) for task in tasks),
            UNKNOWN if row.average is None else f"{row.average:.1f}",
            UNKNOWN if row.vas is None else f"{row.vas:.1f}",
        ]
        for row in (*published.models, *published.ablations)
    ]
    return _table(["model", *tasks, f"average ({PAPER_AVERAGE})", "VAS"], lines, right=range(1, 3 + len(tasks)))


def _printed_score(row: PaperRow, task: str) -> str:
    score = f"{row.scores[task]:.1f}" if task in row.scores else UNKNOWN
    return f"{score} †" if task in row.trained_on else score


def _notes(published: Paper) -> str:
    rows = [row for row in (*published.models, *published.ablations) if row.notes]
    return "".join(f"- {plain_markdown(row.name)}: {plain_markdown(row.notes or '')}\n" for row in rows)


def _table(headings: Sequence[str], lines: Iterable[Sequence[str]], right: Iterable[int]) -> str:
    rules = ["---:" if place in right else "---" for place in range(len(headings))]
    rows = [list(headings), rules, *([plain_markdown(cell) for cell in line] for line in lines)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
