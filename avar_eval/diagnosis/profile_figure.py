"""The picture of profiles, as the paper's Figures 1b and 4-6: by layer, along the answer, by role."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from avar_eval.attention.record import Queries
from avar_eval.diagnosis.profile import LARGEST_FLOAT16, PARTS, QUERY_SETS, ModelProfile, Profile
from avar_eval.figures.file import save_figure
from avar_eval.figures.score_axis import score_axis
from avar_eval.figures.style import (
    COLOURS,
    COLUMN,
    FAINT,
    INK,
    LABELS,
    ROLES,
    SERIES,
    SERIES_MARKERS,
    SMALL,
    WHOSE,
    drawing,
    in_percent,
    new_figure,
    say_instead,
    series_style,
)  # fmt: skip
from avar_eval.number_format import score

_LONGEST_NAME = 44


def draw_profile(profile: Profile, path: Path, title: bool = True) -> Path:
    """Write the picture: VAS by layer for question and answer, along the answer, and the share of each role."""
    models = profile.models
    said = (
        f"The same {models[0].n} questions of {', '.join(profile.tasks)}. VAS: attention on the image ÷ attention on "
        f"the system turn; shaded: 95 % intervals over questions.{_beyond(models)}"
    )
    head = ("Where the models look", said) if title else ("", "")
    bars = 0.55 + 0.34 * len(models)
    with drawing():
        figure = new_figure(COLUMN, 4.0 + bars + 0.42 * len(models), *head)
        panels = figure.subplots(4, 1, height_ratios=(1, 1, 1, bars))
        for axes, name in zip(panels, QUERY_SETS, strict=False):
            _by_layer(axes, models, name)
        _along(panels[2], models)
        _by_role(panels[3], models)
        roles = [Patch(color=COLOURS[role], label=LABELS[role]) for role in ROLES]
        panels[3].legend(handles=roles, loc="upper left", bbox_to_anchor=(-0.02, -0.42 / bars), ncols=2)
        handles = [_handle(model, index) for index, model in enumerate(models)]
        said = "model: its VAS from the question's, the answer's tokens"
        figure.legend(handles=handles, title=said, loc="outside lower left", alignment="left")
        return save_figure(figure, path)


def _handle(model: ModelProfile, index: int) -> Line2D:
    said = " · ".join(
        "not defined" if (vas := model.vas[name].value) is None else score(vas) + (f" ({band})" if band else "")
        for name, band in zip(QUERY_SETS, (model.band, None), strict=True)
    )
    name = model.label if len(model.label) <= _LONGEST_NAME else f"…{model.label[1 - _LONGEST_NAME :]}"
    return Line2D([], [], label=f"{name}\n{said}", **series_style(index))


def _by_layer(axes: Axes, models: Sequence[ModelProfile], name: Queries) -> None:
    axes.set_title(f"By layer, seen from {WHOSE[name]}")
    axes.set_ylabel("VAS")
    depths = {model.layers for model in models}
    axes.set_xlabel("layer" if len(depths) == 1 else "depth of the layer, from the first to the last")
    drawn: list[float] = []
    for index, model in enumerate(models):
        known = [
            (layer, of.value, of.ci95 or (of.value, of.value))
            for layer, of in enumerate(model.vas_by_layer.get(name, []))
            if of.value is not None
        ]
        if not known:
            continue
        xs = [layer + 1 if len(depths) == 1 else layer / max(1, model.layers - 1) for layer, _, _ in known]
        lows, highs = [low for *_, (low, _) in known], [high for *_, (_, high) in known]
        axes.plot(xs, [value for _, value, _ in known], zorder=3, **series_style(index))
        axes.fill_between(xs, lows, highs, color=SERIES[index], alpha=0.18, linewidth=0)
        drawn += lows + highs
    if len(depths) == 1:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=14, min_n_ticks=1))
    else:
        in_percent(axes, along="x")
    _finish(axes, drawn, "not defined for single layers of these models")


def _along(axes: Axes, models: Sequence[ModelProfile]) -> None:
    axes.set_title("Along the answer, first to last token")
    axes.set_ylabel("VAS")
    axes.set_xlabel("part of the answer")
    drawn: list[float] = []
    for index, model in enumerate(models):
        points = [((part + 0.5) / PARTS, value) for part, value in enumerate(model.vas_along) if value is not None]
        if points:
            axes.plot([x for x, _ in points], [value for _, value in points], zorder=3, **series_style(index))
            drawn += [value for _, value in points]
    axes.set_xlim(0, 1)
    in_percent(axes, along="x")
    _finish(axes, drawn, "not defined: no system turn to compare with, or no answers")


def _finish(axes: Axes, drawn: Sequence[float], undefined: str) -> None:
    if drawn and max(drawn) > 0:
        score_axis(axes, min(drawn), max(drawn))
    else:
        say_instead(axes, undefined)


def _by_role(axes: Axes, models: Sequence[ModelProfile]) -> None:
    """Stacked bars: of each query set a group, in it a bar for each model, marked with the model's sign."""
    axes.set_title("Where the attention goes, over all layers")
    places: list[float] = []
    for group, name in enumerate(QUERY_SETS):
        top = group * (len(models) + 0.9)
        axes.text(0, top - 0.52, f"from {WHOSE[name]}", size=SMALL, color=FAINT, va="bottom")
        for index, model in enumerate(models):
            places.append(top + index)
            _bar(axes, model.share.get(name, {}), top + index)
            axes.plot(-0.03, top + index, SERIES_MARKERS[index], color=SERIES[index], markersize=4.5, clip_on=False)
    axes.set_ylim(max(places) + 0.55, -1.0)
    axes.set_yticks([])
    axes.set_xlim(0, 1)
    axes.spines["left"].set_visible(False)
    in_percent(axes, along="x")


def _bar(axes: Axes, shares: dict[str, float], y: float) -> None:
    left = 0.0
    for role in ROLES:
        share = shares.get(role, 0.0)
        axes.barh(y, share, left=left, height=0.8, color=COLOURS[role], edgecolor="white")
        if share >= 0.1:
            ink = "white" if role in ("user", "system") else INK
            axes.text(left + share / 2, y, f"{100 * share:.0f} %", ha="center", va="center", size=SMALL, color=ink)
        left += share


def _beyond(models: Sequence[ModelProfile]) -> str:
    beyond = [f"{model.label}: {model.beyond}" for model in models if model.beyond]
    return f" Answer tokens drawn as {LARGEST_FLOAT16:,.0f}, which is too low: {'; '.join(beyond)}." if beyond else ""
