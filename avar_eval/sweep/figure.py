"""The picture of a sweep, as the paper's Figure 2: score over the strength of system suppression."""

from collections.abc import Iterable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from avar_eval.look.style import FAINT, drawing, save
from avar_eval.results import Metric
from avar_eval.sweep.compare import Comparison, Sweep

REDUNDANCY_ZONE = (0.0, 0.40)
"""The paper's System Token Redundancy Zone: strengths of system suppression that cost no accuracy."""
_COLOURS = ("#e07b00", "#1f55c4", "#4f9a60", "#a0409a", "#8a8f98", "#b3352b")
_MARKERS = ("o", "s", "^", "D", "v", "P")


def draw_sweep(sweep: Sweep, path: Path) -> Path:
    """Write the picture: a column for each task, accuracy above and VAS below, a line for each other setting."""
    with drawing():
        tasks = list(sweep.unsteered)
        figure = Figure(figsize=(1.6 + 5.6 * len(tasks), 7.6), layout="constrained")
        figure.suptitle(f"Steering {sweep.protocol['model']}: score over suppression of the system turn")
        grid = figure.subplots(2, len(tasks), squeeze=False, sharex=True)
        for column, task in enumerate(tasks):
            _panel(grid[0, column], sweep, task, "accuracy", 100)
            _panel(grid[1, column], sweep, task, "vas", 1)
            grid[0, column].set_title(task)
            grid[1, column].set_xlabel(r"system suppression α_sys")
        grid[0, 0].set_ylabel("accuracy (%)")
        grid[1, 0].set_ylabel("Visual Attention Score")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
        return save(figure, path)


def _panel(axes: Axes, sweep: Sweep, task: str, metric: str, unit: float) -> None:
    axes.axvspan(*REDUNDANCY_ZONE, color="#fdf1df", zorder=0, label="redundancy zone [0, 0.40] of the paper")
    plain = sweep.unsteered[task].metrics[metric]
    if plain.value is not None:
        axes.axhline(unit * plain.value, linestyle="--", color=FAINT, label="unsteered, with its 95 % interval")
        if plain.ci95 is not None:
            axes.axhspan(unit * plain.ci95[0], unit * plain.ci95[1], color=FAINT, alpha=0.12, linewidth=0)
    curves = _curves(of for of in sweep.comparisons if of.task == task)
    for index, (name, points) in enumerate(curves.items()):
        _curve(axes, name, [(x, accuracy if metric == "accuracy" else vas) for x, accuracy, vas in points], unit, index)
    axes.grid(axis="y", color="#eceef1")


def _curves(comparisons: Iterable[Comparison]) -> dict[str, list[tuple[float, Metric, Metric]]]:
    """Of each setting but the suppression: suppression, accuracy and VAS, by rising suppression."""
    curves: dict[str, list[tuple[float, Metric, Metric]]] = {}
    for of in comparisons:
        others = [part for part in str(of.steering).split(",") if not part.startswith("system=")]
        curves.setdefault(", ".join(others), []).append((of.steering.system, of.accuracy, of.vas))
    return {name: sorted(points, key=lambda point: point[0]) for name, points in curves.items()}


def _curve(axes: Axes, name: str, points: list[tuple[float, Metric]], unit: float, index: int) -> None:
    known = [(x, of.value, of.ci95 or (of.value, of.value)) for x, of in points if of.value is not None]
    if not known:
        return
    values = [unit * value for _, value, _ in known]
    below = [value - unit * low for value, (_, _, (low, _)) in zip(values, known, strict=True)]
    above = [unit * high - value for value, (_, _, (_, high)) in zip(values, known, strict=True)]
    axes.errorbar(
        [x for x, _, _ in known],
        values,
        yerr=[below, above],
        color=_COLOURS[index % len(_COLOURS)],
        marker=_MARKERS[index % len(_MARKERS)],
        linewidth=2,
        capsize=3,
        label=name,
    )
