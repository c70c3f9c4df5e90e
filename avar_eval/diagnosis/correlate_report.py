"""A correlation as a table for the terminal."""

from pathlib import Path

from rich.text import Text

from avar_eval.attention.bands import vas_band
from avar_eval.console import wide_console
from avar_eval.diagnosis.correlate import Correlated
from avar_eval.diagnosis.correlate_figure import headline
from avar_eval.leaderboard.paper import paper
from avar_eval.number_format import coefficient, percent, score
from avar_eval.tables import Column, FittedTable


def print_correlation(found: Correlated, picture: Path, published: bool) -> None:
    """The points by rising VAS, r without each of them, r of all, and who was left out."""
    headings = ("VAS", "band", "accuracy %", "r without it")
    table = FittedTable([Column("model", text=True, key=True), *map(Column, headings)])
    without = {one.model: one.r for one in found.without}
    for point in found.points:
        table.add_row(
            point.model,
            score(point.vas),
            vas_band(point.vas),
            percent(point.accuracy / 100),
            coefficient(without.get(point.model)),
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
