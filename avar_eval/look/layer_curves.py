"""The picture by layer: which part of the conversation gets the attention in each layer, and the VAS of each layer."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from avar_eval.attention.bands import vas_band
from avar_eval.attention.record import Queries
from avar_eval.figures.score_axis import score_axis
from avar_eval.look.conversation import QUERY_SETS, Look
from avar_eval.look.style import COLOURS, FAINT, LABELS, LINES, MARKERS, ROLES, WHOSE, head, save
from avar_eval.number_format import score as score_text


def draw_layer_curves(look: Look, path: Path) -> Path:
    """Write the picture: shares by layer for the question's and the answer's tokens, and below them VAS by layer."""
    figure = Figure(figsize=(14, 9))
    head(figure, "Attention by layer, from the first to the last", look)
    grid = figure.add_gridspec(2, 2, left=0.065, right=0.755, top=0.885, bottom=0.07, hspace=0.36, wspace=0.06)
    first: Axes | None = None
    for column, name in enumerate(QUERY_SETS):
        axes = figure.add_subplot(grid[0, column], sharey=first)
        _shares(axes, look, name)
        first = first or axes
    handles = [Line2D([], [], label=LABELS[role], **_line_style(role)) for role in ROLES]
    figure.legend(
        handles=handles,
        title="share of attention on",
        loc="upper left",
        bbox_to_anchor=(0.775, 0.9),
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
            axes.plot(_layers(look), share, zorder=3 if role == "image" else 2, **_line_style(role))


def _highest(look: Look) -> float:
    chosen = [look.record.chosen(name) for name in QUERY_SETS]
    means = [look.record.mass[role][..., of].mean((1, 2)) for role in ROLES for of in chosen if bool(of.any())]
    return max(float(mean.max()) for mean in means)


def _line_style(role: str) -> dict[str, Any]:
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
    score_axis(axes, lowest, highest)
    beside_bands = (1.09, 1.0)
    axes.legend(loc="upper left", bbox_to_anchor=beside_bands, alignment="left", title="as seen from", handlelength=3)


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
    return WHOSE[name] if score is None else f"{WHOSE[name]}\n{score_text(score)} ({vas_band(score)})"


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
