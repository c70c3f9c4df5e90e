"""Consoles for tables and bars: of rich, which takes its time to import, so only what prints tables imports this."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from avar_eval.terminal import inert

UNFOLDED = 10_000
"""Columns, more than any table is wide."""


class InertConsole(Console):
    """A console on which nothing that it is given is obeyed; its own colours and bars are."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich does, each segment made inert."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(inert(text), style)


def wide_console() -> Console:
    """Standard output; a file or a pipe has no width, so that no cell is folded into its imagined 80 columns.

    Brackets are printed as they are: names of folders and a server's words may hold what rich takes for markup.
    """
    console = InertConsole(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = UNFOLDED
    return console
