"""A correlation as a table for the terminal."""

from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from avar_eval.attention.bands import vas_band
from avar_eval.console import wide_console
from avar_eval.diagnosis.correlate import Correlated
from avar_eval.diagnosis.correlate_figure import headline
from avar_eval.leaderboard.paper import paper

UNKNOWN = "–"


def print_correlation(found: Correlated, picture: Path, published: bool) -> None:
    """The points by rising VAS, r without each of them, r of all, and who was left out."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", overflow="fold", min_width=12)
    for heading in ("VAS", "band", "accuracy %", "r without it"):
        table.add_column(heading, justify="right", no_wrap=True)
    without = {one.model: one.r for one in found.without}
    for point in found.points:
        r = without.get(point.model)
        table.add_row(
            Text(point.model),
            f"{point.vas:.2f}",
            vas_band(point.vas),
            f"{point.accuracy:.1f}",
            UNKNOWN if r is None else f"{r:.3f}",
        )
    console = wide_console()
    console.print(table)
    console.print(f"{headline(found)} (interval: Fisher's z, 95 %)", highlight=False)
    console.print(f"accuracy: {found.accuracy}; {found.source}", highlight=False, soft_wrap=True)
    for point in found.points:
        if point.note is not None:
            console.print(Text(f"{point.model}: {point.note}"), soft_wrap=True)
    for model, reason in found.left_out.items():
        console.print(Text(f"left out: {model}: {reason}"), soft_wrap=True)
    if found.note is not None:
        console.print(f"note: {found.note}", highlight=False, soft_wrap=True)
    if published:
        said = paper().correlation
        console.print(
            f"the paper finds r = {said.r}, p = {said.p:.1e} over {said.n} models, with the {said.accuracy}; "
            f"it prints VAS as a number for {found.n} of them",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"picture and correlate.json: {picture}", highlight=False, soft_wrap=True)
