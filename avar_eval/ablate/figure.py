"""The pictures of an ablation's curves: accuracy over blur, and how long the answer needs the image."""

from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.axes import Axes

from avar_eval.figures.file import save_figure
from avar_eval.figures.style import COLUMN, INK, drawing, in_percent, new_figure, series_style
from avar_eval.results.schema import Metric

Curve = Mapping[float, Metric]


def draw_blur(curves: Mapping[str, Curve], model: str, path: Path, title: bool = True) -> Path:
    """Write the picture of accuracy at each level of blur, a line a task."""
    said = (
        "Accuracy on the same questions with blurred images; the blur's deviation is a share of the image's shorter "
        "side. Bars: 95 % intervals."
    )

    def label(axes: Axes) -> None:
        axes.set_xlabel("blur (share of the shorter side)")
        axes.set_ylabel("accuracy")
        axes.set_ylim(0, 1.02)
        in_percent(axes)
        levels = list(next(iter(curves.values())))
        axes.set_xticks(range(len(levels)), ["none", *(f"{level:g}" for level in levels[1:])])

    return _draw(curves, (f"{model}: accuracy over blur", said) if title else ("", ""), path, label, evenly=True)


def draw_cutoff(curves: Mapping[str, Curve], model: str, path: Path, title: bool = True) -> Path:
    """Write the picture of what an answer loses when the image goes out of sight, over where it does, a line a task."""
    said = (
        "Change of the answer's log-probability when the response cannot attend to the image from a place on: 0 % is "
        "its first word, 100 % its answer. Bars: 95 % intervals."
    )

    def label(axes: Axes) -> None:
        axes.set_xlabel("image out of sight from this part of the response on")
        axes.set_ylabel("Δ log p(answer) (nats)")
        axes.axhline(0, linestyle="--", color=INK, linewidth=1, zorder=2)
        in_percent(axes, "x")

    head = (f"{model}: how long the image is needed", said) if title else ("", "")
    return _draw(curves, head, path, label, evenly=False)


def _draw(
    curves: Mapping[str, Curve], head: tuple[str, str], path: Path, label: Callable[[Axes], None], evenly: bool
) -> Path:
    with drawing():
        figure = new_figure(COLUMN, 2.1 + 0.13 * len(curves), *head)
        axes = figure.subplots()
        for index, (task, curve) in enumerate(curves.items()):
            known = [(number if evenly else at, of) for number, (at, of) in enumerate(curve.items())]
            known = [(x, of) for x, of in known if of.value is not None]
            xs, values = [x for x, _ in known], [of.value or 0.0 for _, of in known]
            ends = [of.ci95 or (of.value or 0.0, of.value or 0.0) for _, of in known]
            below = [max(0.0, value - low) for value, (low, _) in zip(values, ends, strict=True)]
            above = [max(0.0, high - value) for value, (_, high) in zip(values, ends, strict=True)]
            n = max((of.n for _, of in known), default=0)
            axes.errorbar(
                xs, values, yerr=[below, above], capsize=1.8, linewidth=1.1, label=f"{task} (n = {n})",
                **series_style(index),
            )  # fmt: skip
        label(axes)
        axes.grid(axis="y")
        figure.legend(loc="outside lower left", ncols=2)
        return save_figure(figure, path)
