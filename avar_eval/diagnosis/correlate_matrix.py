"""The figure of all measures against all: Spearman's ρ over models, each with its interval."""

from pathlib import Path
from textwrap import fill
from typing import Any, Final

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avar_eval.diagnosis.correlate import AXES, Correlated, Pair
from avar_eval.figures.file import save_figure
from avar_eval.figures.style import FAINT, INK, PAGE, SMALL, TEXT, drawing

_SURE: Final = 0.05
"""p by Holm over all pairs below which a cell is bold."""
_LEFT: Final = 1.45
"""Inches that the measures' names take."""


def draw_matrix(found: Correlated, path: Path, title: bool = True) -> Path:
    """Write the figure: below the diagonal ρ of each pair, above it the ends of its interval, or how many models."""
    paired = {axis for pair in found.pairs for axis in (pair.x, pair.y)}
    names = [axis for axis in AXES if axis in paired]
    with drawing():
        above = 0.68 if title else 0.1
        size = min(0.5 * len(names), PAGE - _LEFT - 0.1)
        tall, wide = above + size + 1.1, PAGE if title else _LEFT + size + 0.1
        figure = Figure(figsize=(wide, tall))
        if title:
            heading = f"Which measure goes with which, over {found.n} models"
            figure.text(0.012, 1 - 0.05 / tall, heading, fontsize=TEXT + 0.5, fontweight="bold", va="top")
            said = (
                f"Spearman's ρ, above the diagonal its 95 % interval over {found.resampled}; bold: p < .05 by Holm "
                f"over all pairs. Accuracy: {found.accuracy}; all other measures: {found.measured_on}; {found.source}"
            )
            figure.text(0.012, 1 - 0.2 / tall, fill(said, 125), color=FAINT, va="top", fontsize=SMALL, linespacing=1.25)
        axes = figure.add_axes((_LEFT / wide, 1 - (above + size) / tall, size / wide, size / tall))
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_ylim(len(names) - 0.5, -0.5)
        for pair in found.pairs:
            first, second = sorted((names.index(pair.x), names.index(pair.y)))
            _cell(axes, first, second, pair, _coefficient(pair), TEXT)
            _cell(axes, second, first, pair, _interval(pair, found.n), SMALL)
        labels = [AXES[name].label for name in names]
        axes.set_xticks(range(len(names)), labels, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), labels)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        return save_figure(figure, path)


def _cell(axes: Axes, across: int, down: int, pair: Pair, text: str, size: float) -> None:
    rho = pair.rho
    colour: Any = "#f4f5f7" if rho is None else colormaps["RdBu_r"](0.5 + 0.38 * rho)
    axes.fill_between([across - 0.48, across + 0.48], down - 0.48, down + 0.48, color=colour, linewidth=0)
    ink = "white" if rho is not None and abs(rho) > 0.8 else INK
    weight = "bold" if pair.p_holm is not None and pair.p_holm < _SURE else "normal"
    words: dict[str, Any] = {"ha": "center", "va": "center", "fontweight": weight, "linespacing": 1.1}
    axes.text(across, down, text.replace("-", "−"), color=ink, fontsize=size, **words)


def _coefficient(pair: Pair) -> str:
    return "–" if pair.rho is None else f"{pair.rho:.2f}"


def _interval(pair: Pair, n: int) -> str:
    ends = "–" if pair.ci95 is None else f"{pair.ci95[0]:.2f}\n{pair.ci95[1]:.2f}"
    return ends if pair.n == n else f"{ends}\nn {pair.n}"
