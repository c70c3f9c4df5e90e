"""Standard output for tables."""

from rich.console import Console

UNFOLDED = 10_000
"""Columns, more than any table is wide."""


def wide_console() -> Console:
    """Standard output; a file or a pipe has no width, so that no cell is folded into its imagined 80 columns.

    Brackets are printed as they are: names of folders and a server's words may hold what rich takes for markup.
    """
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = UNFOLDED
    return console
