"""The picture of a sweep, as the paper's Figure 2: accuracy and VAS over the strength of system suppression."""

from collections.abc import Iterable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from avar_eval.figures.file import save_figure
from avar_eval.figures.score_axis import score_axis
from avar_eval.figures.style import COLUMN, INK, PAGE, drawing, new_figure, say_instead, series_style
from avar_eval.number_format import percent
from avar_eval.results.schema import Metric
from avar_eval.sweep.compare import Comparison, Sweep

REDUNDANCY_ZONE = (0.0, 0.40)
"""The paper's System Token Redundancy Zone: strengths of system suppression that cost no accuracy."""
LEVEL = 0.05
"""Of p, over all points of a task together, below which a point is filled."""
_ZONE = "#e4f0e7"
_PAIR = 2.7
"""Inches: the two panels of a task."""
_MOST_STACKED = 2
"""Tasks below each other in one column; more take the page's width, two side by side."""


def draw_sweep(sweep: Sweep, path: Path, title: bool = True) -> Path:
    """Write the picture: for each task the change of accuracy and, below it, VAS; a line for each setting."""
    tasks = list(sweep.unsteered)
    curves = {task: _curves(of for of in sweep.comparisons if of.task == task) for task in tasks}
    settings = list(curves[tasks[0]])
    said = (
        "Accuracy minus that of the unsteered model on the same questions, filled where p < "
        f"{LEVEL:g}; below it VAS; bars: 95 % intervals, those of differences for all points together."
    )
    head = (f"{sweep.protocol['model']}, steered", said) if title else ("", "")
    side_by_side = 1 if len(tasks) <= _MOST_STACKED else 2
    down = -(-len(tasks) // side_by_side)
    with drawing():
        figure = new_figure(COLUMN if side_by_side == 1 else PAGE, _PAIR * down + 0.4 + 0.13 * len(settings), *head)
        grid = figure.subplots(2 * down, side_by_side, squeeze=False, sharex=True)
        for number, task in enumerate(tasks):
            row, column = divmod(number, side_by_side)
            _differences(grid[2 * row, column], sweep, task, curves[task])
            _scores(grid[2 * row + 1, column], sweep, task, curves[task])
            grid[2 * row + 1, column].set_xlabel("α_sys: how much weaker the system turn is made")
            for axes in grid[2 * row : 2 * row + 2, column]:
                axes.tick_params(axis="x", labelbottom=True)
        for axes in grid.T.flatten()[2 * len(tasks) :] if side_by_side == 1 else grid[-2:, -1]:
            if not axes.has_data():
                axes.set_axis_off()
        figure.legend(handles=_handles(settings), loc="outside lower left", ncols=side_by_side)
        return save_figure(figure, path)


def _handles(settings: list[str]) -> list[Line2D | Patch]:
    return [
        Patch(color=_ZONE, label="the paper's redundancy zone: α_sys from 0 to 0.40"),
        Line2D([], [], linestyle="--", color=INK, label="the unsteered model"),
        *(Line2D([], [], label=f"steered by {name}", **series_style(index)) for index, name in enumerate(settings)),
    ]


def _differences(axes: Axes, sweep: Sweep, task: str, curves: dict[str, list[Comparison]]) -> None:
    plain = sweep.unsteered[task].metrics["accuracy"]
    said = "" if plain.value is None else f"{percent(plain.value)} % unsteered, "
    axes.set_title(f"{task}: {said}n = {plain.n}")
    axes.set_ylabel("Δ accuracy (points)")
    axes.axvspan(*REDUNDANCY_ZONE, color=_ZONE, zorder=0, linewidth=0)
    axes.axhline(0, linestyle="--", color=INK, linewidth=1, zorder=2)
    for index, points in enumerate(curves.values()):
        filled = [of.p < LEVEL for of in points]
        _curve(axes, _places(points, index, len(curves)), [of.difference for of in points], 100, index, filled)
    axes.grid(axis="y")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -1), max(high, 1))  # points: less would draw rounding large


def _scores(axes: Axes, sweep: Sweep, task: str, curves: dict[str, list[Comparison]]) -> None:
    plain = sweep.unsteered[task].metrics["vas"]
    axes.set_ylabel("VAS")
    for index, points in enumerate(curves.values()):
        _curve(axes, _places(points, index, len(curves)), [of.vas for of in points], 1, index, [True] * len(points))
    if plain.value is not None:
        axes.axhline(plain.value, linestyle="--", color=INK, linewidth=1, zorder=2)
    known = [of for of in (plain, *(one.vas for points in curves.values() for one in points)) if of.value is not None]
    ends = [end for of in known for end in (of.ci95 or (of.value, of.value)) if end is not None]
    if ends and max(ends) > 0:
        score_axis(axes, min(ends), max(ends))
    else:
        say_instead(axes, "no attention was measured")


def _curves(comparisons: Iterable[Comparison]) -> dict[str, list[Comparison]]:
    """Of each setting but the suppression: its points by rising suppression."""
    curves: dict[str, list[Comparison]] = {}
    for of in comparisons:
        others = [part for part in str(of.steering).split(",") if not part.startswith("system=")]
        curves.setdefault(", ".join(others), []).append(of)
    return {name: sorted(points, key=lambda of: of.steering.system) for name, points in curves.items()}


def _places(points: list[Comparison], index: int, count: int) -> list[float]:
    """Along the axis: the suppression, with the settings a little apart, so that their bars do not cover each other."""
    strengths = [of.steering.system for of in points]
    step = 0.016 * max(0.5, max(strengths) - min(strengths))
    return [strength + step * (index - (count - 1) / 2) for strength in strengths]


def _curve(axes: Axes, xs: list[float], metrics: list[Metric], unit: float, index: int, filled: list[bool]) -> None:
    known = [
        (x, unit * of.value, [unit * end for end in of.ci95 or (of.value, of.value)], full)
        for x, of, full in zip(xs, metrics, filled, strict=True)
        if of.value is not None
    ]
    style = series_style(index)
    axes.plot([x for x, *_ in known], [y for _, y, *_ in known], zorder=3, **style | {"marker": ""})
    for x, y, (low, high), full in known:
        axes.errorbar(
            x,
            y,
            yerr=[[y - low], [high - y]],
            markerfacecolor=style["color"] if full else "white",
            linewidth=0.9,
            capsize=1.8,
            zorder=4,
            **style,
        )
