"""The axis of a Visual Attention Score: its scale, its ticks, and the paper's bands behind it."""

from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from avar_eval.figures.style import FAINT, SMALL

_BANDS = (("narrow", 0.0, 10.0, "#f4f5f7"), ("wide", 10.0, 15.0, "#fdf1df"), ("panoramic", 15.0, np.inf, "#fbe3c0"))
_LOGARITHMIC_FROM = 60
"""Greatest over least score: a mean of ratios has no upper bound, and small scores would lie on the axis."""

_WELL_NARROW = 5
"""Scores below it would lie on an axis that shows all bands."""

_LINE = 0.12
"""Of an axes' height: what a band's name takes beside it."""


def score_axis(
    axes: Axes, lowest: float, highest: float, along: Literal["x", "y"] = "y", logarithmic: bool | None = None
) -> None:
    """Fit an axis to scores from `lowest` to `highest`, above 0, and shade the bands. Call it after drawing them.

    logarithmic: None where their range is to decide.
    """
    set_limits = axes.set_ylim if along == "y" else axes.set_xlim
    if logarithmic is None:
        logarithmic = lowest > 0 and highest / lowest > _LOGARITHMIC_FROM
    if logarithmic:
        (axes.set_yscale if along == "y" else axes.set_xscale)("log")
        axis = axes.yaxis if along == "y" else axes.xaxis
        axis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
        axis.set_minor_formatter(NullFormatter())
        set_limits(lowest / 1.6, max(20.0, highest * 1.6))
    else:
        set_limits(0, highest * 1.2 if highest < _WELL_NARROW else max(17.5, highest * 1.08))
    for band in _BANDS:
        _shade(axes, along, *band)


def short_number(value: float) -> str:
    """A tick's label, as `number_format.score` but round: 100, 10k, 1M."""
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"


def _shade(axes: Axes, along: Literal["x", "y"], name: str, start: float, end: float, colour: str) -> None:
    low, high = axes.get_ylim() if along == "y" else axes.get_xlim()
    first, last = max(start, low), min(end, high)
    if first >= last:
        return
    (axes.axhspan if along == "y" else axes.axvspan)(first, last, color=colour, zorder=0, linewidth=0)
    corners = axes.transData.transform([(first, first), (last, last)])
    lower, upper = axes.transAxes.inverted().transform(corners)[:, 1 if along == "y" else 0]
    middle = (lower + upper) / 2
    words: dict[str, Any] = {"transform": axes.transAxes, "fontsize": SMALL, "color": FAINT}
    if along == "x" and upper - lower > 0.06:
        axes.text(middle, 1.01, name, ha="center", va="bottom", **words)
    elif along == "y" and upper - lower > _LINE:
        axes.text(1.01, middle, name, ha="left", va="center", **words)
