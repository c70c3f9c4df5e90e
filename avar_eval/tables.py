"""Tables that show every column at every width of a terminal, no number cut and no name lost."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.align import VerticalAlignMethod
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from avar_eval.console import wide_console

_GAP: Final = 2
_COMFORTABLE, _LEAST, _LEAST_NAME = 24, 20, 12
"""Characters to which text is folded before numbers stand below each other, and at most; a key may become narrower."""


@dataclass(frozen=True)
class Column:
    """A heading and how its cells are set. text: to the left, folded where there is little room.

    key: repeated in each block, because it says whose row it is.
    """

    heading: str
    text: bool = False
    key: bool = False


class FittedTable:
    """Rows of cells, laid out for the width that there is.

    A line end in a cell of numbers is where it may be broken: a value, its interval, its band. In order: all columns
    side by side, a cell a line; values above their intervals; blocks of fewer columns, each with the key columns; a
    list. A pipe has no width, and gets one line a row. note: a sentence below.
    """

    def __init__(self, columns: Sequence[Column], title: str = "", note: str = "") -> None:
        self.columns = columns
        self.title = title
        self._note = note
        self._sections: list[tuple[str, list[tuple[str, ...]]]] = []

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells, without sections."""
        return [row for _, rows in self._sections for row in rows]

    def add_section(self, title: str) -> None:
        """The rows that follow stand under this line."""
        self._sections.append((title, []))

    def add_row(self, *cells: str) -> None:
        """A cell each column; those at the end may be left out."""
        if not self._sections:
            self.add_section("")
        empty = ("",) * (len(self.columns) - len(cells))
        self._sections[-1][1].append((*cells, *empty))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The layout for the width of `options`."""
        if self.title:
            yield Text(self.title, style="bold")
        yield from self._rows(options.max_width)
        if self._note:
            yield Text(self._note)

    def _rows(self, width: int) -> Iterable[RenderableType]:
        everything = range(len(self.columns))
        for stacked in (False, True):
            if widths := self._widths(everything, width, stacked):
                yield from self._block(everything, widths, stacked)
                return
        blocks = self._blocks(width)
        if blocks is None:
            yield from self._list(width)
            return
        for number, (block, widths) in enumerate(blocks):
            if number:
                yield Text("")
            yield from self._block(block, widths, stacked=True)

    def _widths(self, columns: Sequence[int], width: int, stacked: bool) -> list[int] | None:
        """The width of each of these columns, or None if they do not fit beside each other."""
        natural = [self._natural(index, stacked) for index in columns]
        text = [self.columns[index].text for index in columns]
        room = width - _GAP * (len(columns) - 1) - sum(n for n, folds in zip(natural, text, strict=True) if not folds)
        of_text = [n for n, folds in zip(natural, text, strict=True) if folds]
        least = [
            min(n, _COMFORTABLE if not stacked else _LEAST_NAME if self.columns[index].key else _LEAST)
            for index, n in zip(columns, natural, strict=True)
            if self.columns[index].text
        ]
        if sum(least) > room:
            return None
        most = max(of_text, default=0)
        while sum(max(min(n, most), few) for n, few in zip(of_text, least, strict=True)) > room:
            most -= 1  # the widest are folded first
        folded = iter([max(min(n, most), few) for n, few in zip(of_text, least, strict=True)])
        return [next(folded) if folds else n for n, folds in zip(natural, text, strict=True)]

    def _natural(self, index: int, stacked: bool) -> int:
        """The width in which nothing of a column is broken but what may be."""
        column = self.columns[index]
        heading = column.heading.split() if stacked and not column.text else [column.heading]
        cells = (line for row in self.rows for line in self._lines(row, index, stacked))
        return max(map(cell_len, (*heading, *cells)))

    def _lines(self, row: Sequence[str], index: int, stacked: bool) -> list[str]:
        if stacked or self.columns[index].text:
            return row[index].split("\n")
        return [row[index].replace("\n", " ")]

    def _blocks(self, width: int) -> list[tuple[list[int], list[int]]] | None:
        """Columns and their widths, block by block; None where a list reads better."""
        keys = [index for index, column in enumerate(self.columns) if column.key]
        others = [index for index, column in enumerate(self.columns) if not column.key]
        blocks: list[tuple[list[int], list[int]]] = []
        waiting = list(others)
        while waiting:
            fitting = [
                (keys + waiting[:n], widths)
                for n in range(len(waiting), 0, -1)
                if (widths := self._widths(keys + waiting[:n], width, True))
            ]
            if not fitting:
                return None
            blocks.append(fitting[0])
            waiting = waiting[len(fitting[0][0]) - len(keys) :]
        lonely = sum(len(block) == len(keys) + 1 for block, _ in blocks)
        return None if lonely > 1 else blocks

    def _block(self, columns: Sequence[int], widths: Sequence[int], stacked: bool) -> Iterable[RenderableType]:
        """The heading, then the rows of each section; an empty line between rows of several lines."""
        header = self._grid(columns, widths, "bottom")
        header.add_row(*(Text(self.columns[index].heading, style="bold") for index in columns))
        yield header
        spread = any(
            self.columns[index].text and any(cell_len(line) > width for line in self._lines(row, index, stacked))
            for row in self.rows
            for index, width in zip(columns, widths, strict=True)
        )
        for number, (title, rows) in enumerate(self._sections):
            if title:
                yield Text(f"\n{title}" if number else title, style="bold")
            grid = self._grid(columns, widths)
            for place, row in enumerate(rows):
                if spread and place:
                    grid.add_row()
                # Text, not str: a name is no markup.
                grid.add_row(*(Text("\n".join(self._lines(row, index, stacked))) for index in columns))
            yield grid

    def _grid(self, columns: Sequence[int], widths: Sequence[int], vertical: VerticalAlignMethod = "top") -> Table:
        grid = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
        for index, width in zip(columns, widths, strict=True):
            justify: JustifyMethod = "left" if self.columns[index].text else "right"
            grid.add_column(justify=justify, vertical=vertical, width=width, overflow="fold")
        return grid

    def _list(self, width: int) -> Iterable[RenderableType]:
        """Row by row: its keys, and below them a line for each of the others that it has."""
        others = [index for index, column in enumerate(self.columns) if not column.key]
        longest = max((cell_len(self.columns[index].heading) for index in others), default=0)
        heading = min(longest, width // 2)
        beside = width - 2 * _GAP - heading
        for title, rows in self._sections:
            if title:
                yield Text(title, style="bold")
            for row in rows:
                keys = [
                    f"{column.heading}: {row[index]}" if column.heading else row[index]
                    for index, column in enumerate(self.columns)
                    if column.key and row[index]
                ]
                yield Text(", ".join(keys), style="bold", overflow="fold")
                grid = Table.grid(padding=(0, _GAP, 0, 0), pad_edge=False)
                for size in (0, heading, beside):
                    grid.add_column(width=size, overflow="fold")
                for index in others:
                    if cell := row[index]:
                        line = cell if self.columns[index].text else cell.replace("\n", " ")
                        grid.add_row("", self.columns[index].heading, Text(line if cell_len(line) <= beside else cell))
                yield grid


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table of texts on standard output, its first column the key."""
    table = FittedTable([Column(heading, text=True, key=index == 0) for index, heading in enumerate(headings)])
    for row in rows:
        table.add_row(*row)
    wide_console().print(table)
