"""The picture by layer: which part of the conversation gets the attention in each layer, and the VAS of each layer."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from avar_eval.attention.bands import vas_band
from avar_eval.attention.record import Queries
from avar_eval.look.conversation import QUERY_SETS, Look
from avar_eval.look.report import number
from avar_eval.look.style import COLOURS, FAINT, LABELS, LINES, MARKERS, ROLES, WHOSE, head, save

_BANDS = (("narrow", 0.0, 10.0, "#f4f5f7"), ("wide", 10.0, 15.0, "#fdf1df"), ("panoramic", 15.0, np.inf, "#fbe3c0"))


def draw_layer_curves(look: Look, path: Path) -> Path:
    """Write the picture: shares by layer for the question's and the answer's tokens, and below them VAS by layer."""
    figure = Figure(figsize=(14, 9))
    head(figure, "Attention by layer, from the first to the last", look)
    grid = figure.add_gridspec(2, 2, left=0.065, right=0.8, top=0.885, bottom=0.07, hspace=0.36, wspace=0.06)
    first: Axes | None = None
    for column, name in enumerate(QUERY_SETS):
        axes = figure.add_subplot(grid[0, column], sharey=first)
        _shares(axes, look, name)
        first = first or axes
    handles = [Line2D([], [], label=LABELS[role], **_look_of(role)) for role in ROLES]
    figure.legend(
        handles=handles,
        title="share of attention on",
        loc="upper left",
        bbox_to_anchor=(0.815, 0.9),
        alignment="left",
        handlelength=3,
    )
    _scores(figure.add_subplot(grid[1, :]), look)
    return save(figure, path)


def _shares(axes: Axes, look: Look, name: Queries) -> None:
    axes.set_title(f"Where {WHOSE[name]} look")
    _layer_axis(axes, look)
    if name == "user":
        axes.set_ylabel("share of attention")
    else:
        axes.tick_params(axis="y", labelleft=False)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.set_ylim(0, min(1.0, 1.08 * _highest(look)))
    axes.grid(axis="y", color="#eceef1")
    chosen = look.record.chosen(name)
    if not bool(chosen.any()):
        axes.text(0.5, 0.5, "there are none", transform=axes.transAxes, ha="center", color=FAINT)
        return
    for role in ROLES:
        share = look.record.mass[role][..., chosen].double().mean((1, 2)).numpy()
        if share.any():  # the question cannot see the answer, and a role may be absent
            axes.plot(_layers(look), share, zorder=3 if role == "image" else 2, **_look_of(role))


def _highest(look: Look) -> float:
    chosen = [look.record.chosen(name) for name in QUERY_SETS]
    means = [look.record.mass[role][..., of].mean((1, 2)) for role in ROLES for of in chosen if bool(of.any())]
    return max(float(mean.max()) for mean in means)


def _look_of(role: str) -> dict[str, Any]:
    width = 3 if role == "image" else 2
    return {"linestyle": LINES[role], "marker": MARKERS[role], "color": COLOURS[role], "linewidth": width}


def _scores(axes: Axes, look: Look) -> None:
    axes.set_title("Visual Attention Score by layer: attention on the image ÷ attention on the system turn")
    _layer_axis(axes, look)
    axes.set_ylabel("VAS")
    drawn = [_score(axes, look, name) for name in QUERY_SETS]
    highest = max((values.max() for values in drawn if values is not None), default=0.0)
    if highest == 0.0:
        axes.text(0.5, 0.5, _why_undefined(look), transform=axes.transAxes, ha="center", color=FAINT)
        return
    lowest = min(values.min() for values in drawn if values is not None)
    if lowest > 0 and highest / lowest > 60:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(lowest / 1.6, max(20.0, highest * 1.6))
    else:
        axes.set_ylim(0, max(17.5, highest * 1.08))
    _shade_bands(axes)
    axes.legend(loc="upper left", bbox_to_anchor=(1.03, 1.0), alignment="left", title="as seen from", handlelength=3)


def _short(value: float) -> str:
    """A tick's label that fits the margin: 100, 10 k, 1 M."""
    if value >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if value >= 1e3 else f"{value:g}"


def _score(axes: Axes, look: Look, name: Queries) -> Float[np.ndarray, " layers"] | None:
    scores = None if look.record.pool_layers else look.record.scores(name)
    if scores is None:
        return None
    values = scores.mean((1, 2)).numpy()
    values[~np.isfinite(values)] = np.nan
    if np.isnan(values).all():
        return None
    axes.plot(
        _layers(look),
        values,
        LINES[name],
        marker=MARKERS[name],
        color=COLOURS[name],
        label=_with_score(look, name),
        linewidth=2.5,
        markersize=6,
    )
    return np.array(values[~np.isnan(values)])


def _with_score(look: Look, name: Queries) -> str:
    score = look.record.visual_attention_score(name)
    return WHOSE[name] if score is None else f"{WHOSE[name]}\n{number(score)} ({vas_band(score)})"


def _shade_bands(axes: Axes) -> None:
    for name, start, end, colour in _BANDS:
        low, high = axes.get_ylim()
        bottom, top = max(start, low), min(end, high)
        if bottom >= top:
            continue
        axes.axhspan(bottom, top, color=colour, zorder=0, linewidth=0)
        lower, upper = axes.transAxes.inverted().transform(axes.transData.transform([(0, bottom), (0, top)]))[:, 1]
        if upper - lower > 0.06:
            middle, turned = (lower + upper) / 2, 90 if upper - lower > 0.2 else 0
            place: dict[str, Any] = {
                "transform": axes.transAxes,
                "va": "center",
                "fontsize": 10,
                "color": FAINT,
                "rotation": turned,
            }
            axes.text(1.006, middle, name, **place)


def _why_undefined(look: Look) -> str:
    if look.record.pool_layers:
        return "not defined for single layers: not every layer of this model sees both image and system turn"
    return "not defined: there is no system turn to compare with"


def _layers(look: Look) -> list[int]:
    return [layer + 1 for layer in look.record.layers]


def _layer_axis(axes: Axes, look: Look) -> None:
    axes.set_xlabel("layer")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=14, min_n_ticks=1))
    axes.set_xlim(0.7, len(look.record.layers) + 0.3)
