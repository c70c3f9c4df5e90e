"""A correlation as a table for the terminal."""

from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from avar_eval.attention.bands import vas_band
from avar_eval.console import wide_console
from avar_eval.diagnosis.correlate import AXES, Correlated, predictors
from avar_eval.diagnosis.correlate_figure import headline, label
from avar_eval.diagnosis.correlate_points import Point
from avar_eval.leaderboard.paper import paper
from avar_eval.number_format import coefficient, in_line, percent, score
from avar_eval.tables import Column, FittedTable

_PREDICTED: Final = ("accuracy", "visual_dependence", "visual_gain", "information", "knockout_answer")
"""What measures are asked to predict: being right, and depending on the image."""
_SHOWN: Final = 3


def print_correlation(found: Correlated, pictures: list[Path], published: bool) -> None:
    """The points along x, both coefficients with and without each of them, what predicts what, and who was left out."""
    table = FittedTable(
        [
            Column("model", text=True, key=True),
            Column("family", text=True),
            *map(Column, (_heading(found.x), *(["band"] if found.x == "vas" else []), _heading(found.y))),
            *map(Column, ("r without it", "ρ without it")),
        ]
    )
    without = {one.model: one for one in found.without}
    for point in found.points:
        cells = [point.model, point.family, _cell(point, found.x)]
        if found.x == "vas":
            value = point.value("vas")
            cells.append(vas_band(value) if value is not None and ", steered" not in point.model else "")
        left = without.get(point.model)
        table.add_row(
            *cells,
            _cell(point, found.y),
            coefficient(left.r if left else None),
            coefficient(left.rho if left else None),
        )
    console = wide_console()
    console.print(table)
    for line in [*headline(found), *_lines(found)]:
        _say(console, line)
    for of in _PREDICTED:
        if closest := [pair for pair in predictors(found, of) if pair.ci95 is not None][:_SHOWN]:
            pairs = (
                f"{pair.x} ρ = {in_line(coefficient(pair.rho, pair.ci95))}"
                + (f", n = {pair.n}" if pair.n != found.n else "")
                for pair in closest
            )
            _say(console, f"closest to {of}: {'; '.join(pairs)}")
    for point in found.points:
        if point.note is not None:
            _say(console, f"{point.model}: {point.note}")
    for model, reason in found.left_out.items():
        _say(console, f"left out: {model}: {reason}")
    for note in found.notes:
        _say(console, f"note: {note}")
    if published:
        said = paper().correlation
        _say(
            console,
            f"the paper finds r = {said.r}, p = {said.p:.1e} over {said.n} models, with the {said.accuracy}; "
            f"it prints VAS as a number for {found.n} of them",
        )
    _say(console, f"pictures, and correlate.json beside: {', '.join(map(str, pictures))}")


def _say(console: Console, line: str) -> None:
    console.print(Text(line), soft_wrap=True)


def _heading(axis: str) -> str:
    unit = {"share": " %", "nats": " nats", "ratio": ""}[AXES[axis].kind] if axis in AXES else ""
    return f"{'VAS' if axis == 'vas' else label(axis)}{unit}"


def _cell(point: Point, axis: str) -> str:
    metric = point.measures[axis]
    if axis in AXES and AXES[axis].kind == "share":
        return percent(metric.value, metric.ci95)
    return score(metric.value, metric.ci95)


def _lines(found: Correlated) -> list[str]:
    """What the numbers mean: what was resampled, what the rows do, and r without the error of the points."""
    lines = [f"accuracy: {found.accuracy}; all other measures: {found.measured_on}; {found.source}"]
    if found.pearson.ci95 is None:
        few = f"{found.units} {found.resampled} are" if found.units > 1 else f"one of the {found.resampled} is"
        lines.append(f"no interval and no p: {few} too few to resample")
    else:
        kinds = f"{found.units} {found.resampled} resampled"
        alone = "" if found.resampled == "families" else ", so they speak of this family only"
        lines.append(f"intervals: 95 %, {kinds}, Student's t of {found.units - 1} degrees of freedom{alone}")
    if found.pearson.ci95_rows is not None:
        low, high = found.pearson.ci95_rows
        lines.append(f"of these very models on other rows r would lie between {low:.3f} and {high:.3f}")
    if found.disattenuated is not None:
        of = found.disattenuated
        lines.append(
            f"without the error of the points r = {of.r:.3f} (reliability {of.reliability_x:.2f} along x, "
            f"{of.reliability_y:.2f} along y): a guess that may exceed 1, and holds where the errors of the points "
            "have nothing to do with each other"
        )
    return lines
