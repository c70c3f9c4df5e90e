"""Whether a table of the terminal is whole."""

import io
from collections import Counter

from rich.cells import cell_len
from rich.console import Console

from avar_eval.tables import FittedTable

WIDTHS = (40, 60, 80, 100, 120, 200)


def rendered(table: FittedTable, width: int) -> str:
    text = io.StringIO()
    Console(file=text, width=width, color_system=None).print(table)
    return text.getvalue()


def check_whole(table: FittedTable, width: int) -> str:
    """The text of a table, in which all of it stands, each number in one piece."""
    text = rendered(table, width)
    assert all(cell_len(line) <= width for line in text.splitlines()), text
    assert "…" not in text
    for index, column in enumerate(table.columns):
        if not column.text:
            for row in table.rows:
                assert all(piece in text for piece in row[index].split("\n")), (row[index], text)
    used = [column.heading for index, column in enumerate(table.columns) if any(row[index] for row in table.rows)]
    all_of_it = Counter("".join(used) + "".join("".join(row) for row in table.rows))
    del all_of_it[" "], all_of_it["\n"]
    missing = all_of_it - Counter(text)
    assert not missing, (missing, text)
    return text
