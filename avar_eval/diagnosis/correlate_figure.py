"""The picture of a correlation, as the paper's Figure 1a: accuracy over VAS, and r without each model."""

from pathlib import Path
from textwrap import shorten

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avar_eval.diagnosis.correlate import Correlated, Point
from avar_eval.figures.file import save_figure
from avar_eval.figures.score_axis import score_axis
from avar_eval.figures.style import COLOURS, FAINT, INK, drawing


def draw_correlation(found: Correlated, path: Path) -> Path:
    """Write the picture: a point a model with the least-squares line, and beside it the leave-one-out check."""
    with drawing():
        tall = max(6.4, 1.9 + 0.34 * found.n)
        figure = Figure(figsize=(14.5, tall))
        figure.text(0.012, 1 - 0.12 / tall, headline(found), fontsize=15, fontweight="bold", va="top")
        said = f"{found.n} models, {found.source}; accuracy: {found.accuracy}; bars and brackets: 95 % intervals"
        figure.text(0.012, 1 - 0.48 / tall, shorten(said, 170, placeholder=" …"), color=FAINT, va="top")
        grid = figure.add_gridspec(
            1, 2, left=0.06, right=0.985, top=1 - 1.15 / tall, bottom=0.75 / tall, width_ratios=(2.1, 1), wspace=0.5
        )
        _scatter(figure.add_subplot(grid[0, 0]), found)
        _without_each(figure.add_subplot(grid[0, 1]), found)
        return save_figure(figure, path)


def headline(found: Correlated) -> str:
    """The correlation in one line."""
    if found.r is None:
        return "VAS and accuracy: no correlation is defined where all values are equal"
    interval = "" if found.ci95 is None else f" [{found.ci95[0]:.3f}, {found.ci95[1]:.3f}]"
    p = "" if found.p is None else f", p = {found.p:.2g}"
    return f"VAS and accuracy: Pearson's r = {found.r:.3f}{interval}{p}, n = {found.n}"


def _scatter(axes: Axes, found: Correlated) -> None:
    xs = np.array([point.vas for point in found.points])
    ys = np.array([point.accuracy for point in found.points])
    for point in found.points:
        axes.errorbar(
            point.vas,
            point.accuracy,
            xerr=_bar(point.vas, point.vas_ci95),
            yerr=_bar(point.accuracy, point.accuracy_ci95),
            color=COLOURS["image"],
            ecolor="#b9bec7",
            marker="o",
            markersize=8,
            capsize=2.5,
            zorder=3,
        )
    lows = [point.vas_ci95[0] if point.vas_ci95 else point.vas for point in found.points]
    highs = [point.vas_ci95[1] if point.vas_ci95 else point.vas for point in found.points]
    score_axis(axes, min(lows), max(highs), along="x")
    if found.r is not None:
        slope, start = np.polyfit(xs, ys, 1)
        line = np.linspace(*axes.get_xlim(), 200)  # a curve where the axis is logarithmic
        limits = axes.get_ylim()
        axes.plot(line, slope * line + start, color=COLOURS["user"], linestyle="--", linewidth=1.6, zorder=2)
        axes.set_ylim(limits)
    _add_margins(axes)
    _names(axes, found.points)
    axes.set_xlabel("Visual Attention Score")
    axes.set_ylabel("accuracy (%)")


def _add_margins(axes: Axes) -> None:
    """Space above and below for names."""
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))


def _names(axes: Axes, points: list[Point]) -> None:
    """Each model's name beside its point, moved up or down where it would cover another one's."""
    to_axes = axes.transData + axes.transAxes.inverted()
    taken: list[tuple[float, float]] = []
    for point in points:
        x, y = to_axes.transform((point.vas, point.accuracy))
        left = x > 0.62
        y += 0.022
        while any(abs(y - other) < 0.045 and abs(x - place) < 0.36 for place, other in taken):
            y += 0.045
        taken.append((x, y))
        axes.text(
            x + (-0.012 if left else 0.012),
            y,
            shorten(point.model, 40, placeholder=" …"),
            transform=axes.transAxes,
            ha="right" if left else "left",
            va="bottom",
            fontsize=10,
            color=INK,
            zorder=4,
        )


def _bar(value: float, interval: tuple[float, float] | None) -> list[list[float]] | None:
    return None if interval is None else [[value - interval[0]], [interval[1] - value]]


def _without_each(axes: Axes, found: Correlated) -> None:
    axes.set_title("r without one model")
    known = [(one.model, one.r) for one in found.without if one.r is not None]
    if not known or found.r is None:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "needs four models", transform=axes.transAxes, ha="center", color=FAINT)
        return
    places = range(len(known))
    axes.axvline(found.r, color=COLOURS["user"], linestyle="--", linewidth=1.6)
    if found.ci95 is not None:
        axes.axvspan(*found.ci95, color=COLOURS["user"], alpha=0.08, linewidth=0)
    axes.text(found.r, 1.005, "all", transform=axes.get_xaxis_transform(), ha="center", fontsize=9.5, color=FAINT)
    axes.set_title("r without one model", pad=18)
    axes.plot([r for _, r in known], places, "o", color=COLOURS["image"], markersize=8)
    axes.set_yticks(places, [shorten(f"without {model}", 36, placeholder=" …") for model, _ in known], fontsize=10)
    axes.set_ylim(len(known) - 0.4, -0.6)
    lowest = min(0.0, *(r for _, r in known), found.ci95[0] if found.ci95 else 0.0)
    axes.set_xlim(max(-1.05, lowest - 0.05), 1.03)
    axes.set_xlabel("Pearson's r")
    axes.grid(axis="x", color="#eceef1")
