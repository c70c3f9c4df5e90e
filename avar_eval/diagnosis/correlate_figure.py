"""The figure of a correlation, as the paper's Figure 1a: one measure over another, and r without each model."""

from math import ceil
from pathlib import Path
from textwrap import shorten
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from avar_eval.diagnosis.correlate import AXES, Coefficient, Correlated
from avar_eval.diagnosis.correlate_points import Point
from avar_eval.figures.file import save_figure
from avar_eval.figures.score_axis import score_axis, short_number
from avar_eval.figures.style import COLOURS, FAINT, INK, PAGE, SERIES, SERIES_MARKERS, SMALL, TEXT, drawing
from avar_eval.number_format import p_equals

_IN_A_ROW: Final = 5
"""Families in a row of the legend."""
_LIGHT: Final = ("#88ccee", "#999933", "#cc6677")
"""Of SERIES those on which a number is dark."""


def draw_correlation(found: Correlated, path: Path, title: bool = True) -> Path:
    """Write the figure: a numbered point a model, coloured by family, with the least-squares line; r without each.

    title: the coefficients and what was measured above it, which a paper has in its caption.
    """
    with drawing():
        families = found.families
        above = 0.62 if title else 0.2
        below = 0.36 + (0.04 + 0.14 * ceil(len(families) / _IN_A_ROW) if len(families) > 1 else 0)
        tall = max(2.3, 0.14 * found.n) + above + below
        figure = Figure(figsize=(PAGE, tall))
        if title:
            _title(figure, found, tall)
        grid = figure.add_gridspec(
            1, 2, left=0.065, right=0.985, top=1 - above / tall, bottom=below / tall, width_ratios=(1.9, 1), wspace=0.62
        )
        _scatter(figure.add_subplot(grid[0, 0]), found)
        _without_each(figure.add_subplot(grid[0, 1]), found)
        if len(families) > 1:
            handles = [_handle(family, index) for index, family in enumerate(families)]
            figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.055, 0), ncols=_IN_A_ROW)
        return save_figure(figure, path)


def headline(found: Correlated) -> list[str]:
    """A line for each coefficient."""
    if found.pearson.value is None:
        return [f"{label(found.x)} and {label(found.y)}: no correlation is defined where all values are equal"]
    logs = [label(axis) for axis, log in ((found.x, found.x_log), (found.y, found.y_log)) if log]
    scale = f", {' and '.join(logs)} as logarithm{'s' if len(logs) > 1 else ''}" if logs else ""
    return [
        f"Pearson's r = {_said(found.pearson)}, n = {found.n}{scale}",
        f"Spearman's ρ = {_said(found.spearman)}",
    ]


def _said(of: Coefficient) -> str:
    if of.value is None:
        return "not defined"
    interval = "" if of.ci95 is None else f" [{of.ci95[0]:.3f} to {of.ci95[1]:.3f}]"
    return f"{of.value:.3f}{interval}{'' if of.p is None else f', {p_equals(of.p)}'}"


def label(axis: str) -> str:
    """A measure in words."""
    return AXES[axis].label if axis in AXES else axis


def _title(figure: Figure, found: Correlated, tall: float) -> None:
    for place, line in enumerate(headline(found)):
        figure.text(0.012, 1 - (0.05 + 0.135 * place) / tall, line, fontsize=TEXT + 0.5, fontweight="bold", va="top")
    said = f"{found.source}; bars and bracket: 95 % intervals"
    if "accuracy" in (found.x, found.y):
        said = f"accuracy: {found.accuracy}; {said}"
    figure.text(0.012, 1 - 0.33 / tall, shorten(said, 150, placeholder=" …"), color=FAINT, va="top", fontsize=SMALL)


def _marker(index: int) -> tuple[str, str]:
    """Colour and marker of a family: after as many as there are of either, in another combination."""
    return SERIES[index % len(SERIES)], SERIES_MARKERS[(index + index // len(SERIES)) % len(SERIES_MARKERS)]


def _scatter(axes: Axes, found: Correlated) -> None:
    for number, point in enumerate(found.points, start=1):
        (x, x_bar), (y, y_bar) = (_drawn(point, axis) for axis in (found.x, found.y))
        colour, marker = _marker(found.families.index(point.family))
        axes.errorbar(x, y, xerr=x_bar, yerr=y_bar, ecolor="#9aa0aa", elinewidth=0.7, capsize=1.5, zorder=3)
        above = 3.1 + number / 1000  # of two that overlap each has its own number
        axes.plot(x, y, color=colour, marker=marker, markersize=9, markeredgecolor="white", zorder=above)
        axes.annotate(
            str(number),
            (x, y),
            (0, {"^": -1.2, "v": 1.2}.get(marker, 0)),  # where the triangle is wide
            textcoords="offset points",
            color=INK if colour in _LIGHT else "white",
            fontsize=5.5,
            ha="center",
            va="center",
            zorder=above + 0.0005,
        )
    for along, axis, log in (("x", found.x, found.x_log), ("y", found.y, found.y_log)):
        _scale(axes, along, found.points, axis, log)
    _line(axes, found)


def _drawn(point: Point, axis: str) -> tuple[float, list[list[float]] | None]:
    """Where a point stands along an axis, shares in percent, and its bar."""
    metric, unit = point.measures[axis], 100 if axis in AXES and AXES[axis].kind == "share" else 1
    value = unit * (metric.value or 0.0)
    if metric.ci95 is None:
        return value, None
    low, high = (unit * end for end in metric.ci95)
    return value, [[max(0.0, value - low)], [max(0.0, high - value)]]


def _scale(axes: Axes, along: str, points: list[Point], axis: str, log: bool) -> None:
    """An axis's scale, ticks and name; the paper's bands behind Eq. 2's VAS."""
    values = [_drawn(point, axis)[0] for point in points]
    if along == "x" and axis == "vas" and min(values) > 0:
        ends = [end for point in points for end in (point.measures[axis].ci95 or ()) if end > 0]
        score_axis(axes, min([*values, *ends]), max([*values, *ends]), along="x", logarithmic=log)
    elif log:
        (axes.set_xscale if along == "x" else axes.set_yscale)("log")
        of = axes.xaxis if along == "x" else axes.yaxis
        of.set_major_locator(LogLocator(subs=(1, 2, 5) if max(values) < 200 * min(values) else (1,)))
        of.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
        of.set_minor_formatter(NullFormatter())
    kind = AXES[axis].kind if axis in AXES else "ratio"
    named = label(axis) + {"share": " (%)", "nats": " (nats)", "ratio": ""}[kind]
    (axes.set_xlabel if along == "x" else axes.set_ylabel)(named)


def _line(axes: Axes, found: Correlated) -> None:
    """Least squares on the scale on which r is: straight on logarithmic axes, too."""
    if found.pearson.value is None:
        return
    places = [np.array([_drawn(point, axis)[0] for point in found.points]) for axis in (found.x, found.y)]
    xs, ys = (np.log(of) if log else of for of, log in zip(places, (found.x_log, found.y_log), strict=True))
    slope, start = np.polyfit(xs, ys, 1)
    limits = axes.get_xlim(), axes.get_ylim()
    line = np.geomspace(*limits[0], 200) if found.x_log else np.linspace(*limits[0], 200)
    heights = slope * (np.log(line) if found.x_log else line) + start
    axes.plot(line, np.exp(heights) if found.y_log else heights, color=FAINT, linestyle="--", linewidth=0.9, zorder=2)
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


def _handle(family: str, index: int) -> Line2D:
    colour, marker = _marker(index)
    named = shorten(family, 24, placeholder=" …")
    return Line2D([], [], color=colour, marker=marker, linestyle="", markersize=5, label=named)


def _without_each(axes: Axes, found: Correlated) -> None:
    """The models' names by their numbers, and beside each r of the others."""
    places = range(found.n)
    axes.set_yticks(
        places,
        [f"{shorten(point.model, 28, placeholder=' …')}  {place + 1}" for place, point in enumerate(found.points)],
    )
    axes.set_ylim(found.n - 0.4, -0.6)
    axes.set_xlabel("Pearson's r without this model")
    axes.grid(axis="x")
    known = [(place, one.r) for place, one in enumerate(found.without) if one.r is not None]
    if not known or found.pearson.value is None:
        axes.set_xticks([])
        axes.text(0.5, 0.5, "needs four models", transform=axes.transAxes, ha="center", va="center", color=FAINT)
        return
    r, ci95 = found.pearson.value, found.pearson.ci95
    axes.axvline(r, color=COLOURS["user"], linestyle="--", linewidth=0.9)
    if ci95 is not None:
        axes.axvspan(*ci95, color=COLOURS["user"], alpha=0.08, linewidth=0)
    axes.text(r, 1.01, "all", transform=axes.get_xaxis_transform(), ha="center", fontsize=SMALL, color=FAINT)
    axes.plot([of for _, of in known], [place for place, _ in known], "o", color=COLOURS["user"], markersize=4)
    ends = [0.0, *(of for _, of in known), *(ci95 or ())]
    axes.set_xlim(max(-1.05, min(ends) - 0.05), min(1.05, max(ends) + 0.05))
