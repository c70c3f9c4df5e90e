"""The picture by layer: which part of the conversation gets the attention in each layer, and the VAS of each layer."""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from avar_eval.attention.bands import vas_band
from avar_eval.attention.record import Queries
from avar_eval.figures.file import save_figure
from avar_eval.figures.score_axis import score_axis
from avar_eval.figures.style import COLUMN, LABELS, ROLES, WHOSE, in_percent, new_figure, role_style, say_instead
from avar_eval.look.conversation import QUERY_SETS, Look
from avar_eval.look.heading import asked
from avar_eval.number_format import score as score_text


def draw_layer_curves(look: Look, path: Path, title: bool = True) -> Path:
    """Write the picture: shares by layer for the question's and the answer's tokens, and below them VAS by layer."""
    head = ("Attention by layer", asked(look)) if title else ("", "")
    figure = new_figure(COLUMN, 4.6, *head)
    shares, *others = figure.subplots(3, 1, height_ratios=(1, 1, 1.1))
    for axes, name in zip((shares, others[0]), QUERY_SETS, strict=True):
        _shares(axes, look, name)
    _scores(others[1], look)
    handles = [Line2D([], [], label=LABELS[role], **role_style(role)) for role in ROLES]
    figure.legend(
        handles=handles, title="above: share of attention on", loc="outside lower left", ncols=2, alignment="left"
    )
    return save_figure(figure, path)


def _shares(axes: Axes, look: Look, name: Queries) -> None:
    axes.set_title(f"Where {WHOSE[name]} look")
    _layer_axis(axes, look)
    axes.set_ylabel("share of attention")
    in_percent(axes)
    axes.set_ylim(0, min(1.0, 1.08 * _highest(look)))
    axes.grid(axis="y")
    chosen = look.record.chosen(name)
    if not bool(chosen.any()):
        say_instead(axes, "there are none")
        return
    for role in ROLES:
        share = look.record.mass[role][..., chosen].double().mean((1, 2)).numpy()
        if share.any():  # the question cannot see the answer, and a role may be absent
            axes.plot(_layers(look), share, zorder=3 if role == "image" else 2, **role_style(role))


def _highest(look: Look) -> float:
    chosen = [look.record.chosen(name) for name in QUERY_SETS]
    means = [look.record.mass[role][..., of].mean((1, 2)) for role in ROLES for of in chosen if bool(of.any())]
    return max(float(mean.max()) for mean in means)


def _scores(axes: Axes, look: Look) -> None:
    axes.set_title("Visual Attention Score by layer")
    _layer_axis(axes, look)
    axes.set_xlabel("layer")
    axes.set_ylabel("VAS")
    drawn = [_score(axes, look, name) for name in QUERY_SETS]
    highest = max((values.max() for values in drawn if values is not None), default=0.0)
    if highest == 0.0:
        say_instead(axes, _why_undefined(look))
        return
    score_axis(axes, min(values.min() for values in drawn if values is not None), highest)
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.3), title="VAS as seen from", alignment="left")


def _score(axes: Axes, look: Look, name: Queries) -> Float[np.ndarray, " layers"] | None:
    scores = None if look.record.pool_layers else look.record.scores(name)
    if scores is None:
        return None
    values = scores.mean((1, 2)).numpy()
    values[~np.isfinite(values)] = np.nan
    if np.isnan(values).all():
        return None
    axes.plot(_layers(look), values, label=_with_score(look, name), **role_style(name))
    return np.array(values[~np.isnan(values)])


def _with_score(look: Look, name: Queries) -> str:
    score = look.record.visual_attention_score(name)
    return WHOSE[name] if score is None else f"{WHOSE[name]}: {score_text(score)} ({vas_band(score)})"


def _why_undefined(look: Look) -> str:
    if look.record.pool_layers:
        return "not defined for single layers: not every layer of this model sees both image and system turn"
    return "not defined: there is no system turn to compare with"


def _layers(look: Look) -> list[int]:
    return [layer + 1 for layer in look.record.layers]


def _layer_axis(axes: Axes, look: Look) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=14, min_n_ticks=1))
    axes.set_xlim(0.7, len(look.record.layers) + 0.3)
