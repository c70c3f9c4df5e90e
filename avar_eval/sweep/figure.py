"""The picture of a sweep, as the paper's Figure 2: accuracy and VAS over the strength of system suppression."""

from collections.abc import Iterable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from avar_eval.figures.score_axis import score_axis
from avar_eval.look.style import FAINT, INK, SERIES, SERIES_MARKERS, drawing, save
from avar_eval.results.schema import Metric
from avar_eval.sweep.compare import Comparison, Sweep

REDUNDANCY_ZONE = (0.0, 0.40)
"""The paper's System Token Redundancy Zone: strengths of system suppression that cost no accuracy."""
LEVEL = 0.05
"""Of p after Holm, from which a point is filled."""
_ZONE = "#e4f0e7"


def draw_sweep(sweep: Sweep, path: Path) -> Path:
    """Write the picture: a column for each task, above the change of accuracy, below VAS, a line for each setting."""
    with drawing():
        tasks = list(sweep.unsteered)
        curves = {task: _curves(of for of in sweep.comparisons if of.task == task) for task in tasks}
        settings = list(curves[tasks[0]])
        wide, tall = max(9.5, 1.9 + 6.2 * len(tasks)), 8.9 + 0.26 * (len(settings) // 2)
        below_head = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - 0.95 / tall))
        figure = Figure(figsize=(wide, tall), layout=below_head)
        _head(figure, sweep, tall)
        grid = figure.subplots(2, len(tasks), squeeze=False, sharex=True)
        for column, task in enumerate(tasks):
            _differences(grid[0, column], sweep, task, curves[task])
            _scores(grid[1, column], sweep, task, curves[task])
            grid[1, column].set_xlabel("α_sys: how much weaker the system turn is made")
        grid[0, 0].set_ylabel("change of accuracy (points)")
        grid[1, 0].set_ylabel("Visual Attention Score")
        figure.legend(handles=_handles(settings), loc="outside lower center", ncols=2)
        return save(figure, path)


def _head(figure: Figure, sweep: Sweep, tall: float) -> None:
    title = f"{sweep.protocol['model']}, steered"
    figure.text(0.012, 1 - 0.12 / tall, title, fontsize=15, fontweight="bold", va="top")
    said = (
        "above: accuracy minus that of the unsteered model on the same questions, filled where p < "
        f"{LEVEL:g} after Holm;\nbelow: VAS; bars: 95 % intervals (none where every question came out alike)"
    )
    figure.text(0.012, 1 - 0.46 / tall, said, color=FAINT, va="top")


def _handles(settings: list[str]) -> list[Line2D | Patch]:
    return [
        Patch(color=_ZONE, label="the paper's redundancy zone: α_sys from 0 to 0.40"),
        Line2D([], [], linestyle="--", color=INK, label="the unsteered model"),
        *(
            Line2D([], [], color=_colour(index), marker=_marker(index), label=f"steered by {name}")
            for index, name in enumerate(settings)
        ),
    ]


def _differences(axes: Axes, sweep: Sweep, task: str, curves: dict[str, list[Comparison]]) -> None:
    plain = sweep.unsteered[task].metrics["accuracy"]
    said = "" if plain.value is None else f"{100 * plain.value:.1f} % unsteered, "
    axes.set_title(f"{task}: {said}n = {plain.n}")
    axes.axvspan(*REDUNDANCY_ZONE, color=_ZONE, zorder=0, linewidth=0)
    axes.axhline(0, linestyle="--", color=INK, linewidth=1.4, zorder=2)
    for index, points in enumerate(curves.values()):
        filled = [of.p_holm < LEVEL for of in points]
        _curve(axes, _places(points, index, len(curves)), [of.difference for of in points], 100, index, filled)
    axes.grid(axis="y", color="#eceef1")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -1), max(high, 1))  # points: less would draw rounding large


def _scores(axes: Axes, sweep: Sweep, task: str, curves: dict[str, list[Comparison]]) -> None:
    plain = sweep.unsteered[task].metrics["vas"]
    for index, points in enumerate(curves.values()):
        _curve(axes, _places(points, index, len(curves)), [of.vas for of in points], 1, index, [True] * len(points))
    if plain.value is not None:
        axes.axhline(plain.value, linestyle="--", color=INK, linewidth=1.4, zorder=2)
    known = [of for of in (plain, *(one.vas for points in curves.values() for one in points)) if of.value is not None]
    ends = [end for of in known for end in (of.ci95 or (of.value, of.value)) if end is not None]
    if ends and max(ends) > 0:
        score_axis(axes, min(ends), max(ends))
    else:
        axes.text(0.5, 0.5, "no attention was measured", transform=axes.transAxes, ha="center", color=FAINT)


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
    step = 0.012 * max(0.5, max(strengths) - min(strengths))
    return [strength + step * (index - (count - 1) / 2) for strength in strengths]


def _curve(axes: Axes, xs: list[float], metrics: list[Metric], unit: float, index: int, filled: list[bool]) -> None:
    known = [
        (x, unit * of.value, [unit * end for end in of.ci95 or (of.value, of.value)], full)
        for x, of, full in zip(xs, metrics, filled, strict=True)
        if of.value is not None
    ]
    colour = _colour(index)
    axes.plot([x for x, *_ in known], [y for _, y, *_ in known], color=colour, linewidth=2, zorder=3)
    for x, y, (low, high), full in known:
        axes.errorbar(
            x,
            y,
            yerr=[[y - low], [high - y]],
            color=colour,
            marker=_marker(index),
            markersize=8,
            markerfacecolor=colour if full else "white",
            markeredgewidth=1.8,
            linewidth=1.6,
            capsize=3,
            zorder=4,
        )


def _colour(index: int) -> str:
    return SERIES[index % len(SERIES)]


def _marker(index: int) -> str:
    return SERIES_MARKERS[index % len(SERIES_MARKERS)]
