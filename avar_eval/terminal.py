"""Standard output for tables."""

from typing import Final

from rich.console import Console

UNFOLDED = 10_000
"""Columns, more than any table is wide."""
UNREADABLE: Final = 100_000
"""From here on a ratio is written by `exponential`: one head without the system turn makes a mean of them billions."""


def wide_console() -> Console:
    """Standard output; a file or a pipe has no width, so that no cell is folded into its imagined 80 columns.

    Brackets are printed as they are: names of folders and a server's words may hold what rich takes for markup.
    """
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = UNFOLDED
    return console


def exponential(value: float, decimals: int) -> str:
    """A large number in a narrow column: 4.2e08."""
    return f"{value:.{decimals}e}".replace("e+", "e")
