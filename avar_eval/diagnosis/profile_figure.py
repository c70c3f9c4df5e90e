"""The picture of profiles, as the paper's Figures 1b and 4-6: by layer, along the answer, by role."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from avar_eval.attention.bands import vas_band
from avar_eval.attention.record import Queries
from avar_eval.diagnosis.profile import LARGEST_FLOAT16, PARTS, QUERY_SETS, ModelProfile, Profile
from avar_eval.figures.score_axis import score_axis
from avar_eval.look.style import COLOURS, FAINT, LABELS, ROLES, SERIES, SERIES_MARKERS, WHOSE, drawing, save
from avar_eval.number_format import score as score_text


def draw_profile(profile: Profile, path: Path) -> Path:
    """Write the picture: VAS by layer for question and answer, along the answer, and the share of each role."""
    models = profile.models
    with drawing():
        tall = 9.6 + 0.36 * max(0, len(models) - 2)
        figure = Figure(figsize=(15.5, tall))
        _head(figure, profile, tall)
        grid = figure.add_gridspec(
            2, 2, left=0.06, right=0.75, top=1 - 1.35 / tall, bottom=0.85 / tall, hspace=0.38, wspace=0.28
        )
        for column, name in enumerate(QUERY_SETS):
            _by_layer(figure.add_subplot(grid[0, column]), models, name)
        _along(figure.add_subplot(grid[1, 0]), models)
        _by_role(figure.add_subplot(grid[1, 1]), models)
        figure.legend(
            handles=[_handle(model, index) for index, model in enumerate(models)],
            title="model, and its VAS as seen\nfrom the tokens of",
            loc="upper left",
            bbox_to_anchor=(0.805, 1 - 1.3 / tall),
            alignment="left",
            labelspacing=1.0,
        )
        figure.legend(
            handles=[Patch(color=COLOURS[role], label=LABELS[role]) for role in ROLES],
            title="bars: share of attention on",
            loc="lower left",
            bbox_to_anchor=(0.805, 0.85 / tall),
            alignment="left",
        )
        _note(figure, models, tall)
        return save(figure, path)


def _head(figure: Figure, profile: Profile, tall: float) -> None:
    n = profile.models[0].n
    figure.text(0.012, 1 - 0.12 / tall, "Where the models look", fontsize=16, fontweight="bold", va="top")
    said = (
        f"the same {n} question{'' if n == 1 else 's'} of {', '.join(profile.tasks)}; VAS: attention on the image ÷ "
        "attention on the system turn; shaded lines: 95 % interval over questions"
    )
    figure.text(0.012, 1 - 0.5 / tall, said, color=FAINT, va="top")


def _handle(model: ModelProfile, index: int) -> Line2D:
    scores = [
        f"{whose} {'not defined' if (vas := model.vas[name].value) is None else f'{score_text(vas)} ({vas_band(vas)})'}"
        for name, whose in zip(QUERY_SETS, ("question", "answer"), strict=True)
    ]
    label = "\n".join([fill(model.label, 34), *scores])
    return Line2D([], [], color=SERIES[index], marker=SERIES_MARKERS[index], linewidth=2.2, label=label)


def _by_layer(axes: Axes, models: Sequence[ModelProfile], name: Queries) -> None:
    axes.set_title(f"VAS by layer, seen from {WHOSE[name]}")
    axes.set_ylabel("Visual Attention Score")
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
        values = [value for _, value, _ in known]
        lows, highs = [low for *_, (low, _) in known], [high for *_, (_, high) in known]
        _line(axes, xs, values, index)
        axes.fill_between(xs, lows, highs, color=SERIES[index], alpha=0.18, linewidth=0)
        drawn += lows + highs
    if len(depths) == 1:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=14, min_n_ticks=1))
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
    _finish(axes, drawn, "not defined for single layers of these models")


def _along(axes: Axes, models: Sequence[ModelProfile]) -> None:
    axes.set_title("VAS along the answer, first to last token")
    axes.set_ylabel("Visual Attention Score")
    axes.set_xlabel("part of the answer")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
    drawn: list[float] = []
    for index, model in enumerate(models):
        points = [((part + 0.5) / PARTS, value) for part, value in enumerate(model.vas_along) if value is not None]
        if points:
            _line(axes, [x for x, _ in points], [value for _, value in points], index)
            drawn += [value for _, value in points]
    axes.set_xlim(0, 1)
    _finish(axes, drawn, "not defined: no system turn to compare with, or no answers")


def _line(axes: Axes, xs: Sequence[float], values: Sequence[float], index: int) -> None:
    axes.plot(xs, values, color=SERIES[index], marker=SERIES_MARKERS[index], markersize=4.5, linewidth=2.2, zorder=3)


def _finish(axes: Axes, drawn: Sequence[float], undefined: str) -> None:
    if drawn and max(drawn) > 0:
        score_axis(axes, min(drawn), max(drawn))
    else:
        axes.text(0.5, 0.5, undefined, transform=axes.transAxes, ha="center", color=FAINT)


def _by_role(axes: Axes, models: Sequence[ModelProfile]) -> None:
    """Stacked bars: of each query set a group, in it a bar for each model, marked with the model's sign."""
    axes.set_title("Where the attention goes, over all layers")
    places: list[float] = []
    for group, name in enumerate(QUERY_SETS):
        top = group * (len(models) + 1.3)
        axes.text(0, top - 0.62, f"from {WHOSE[name]}", fontsize=10.5, color=FAINT, va="bottom")
        for index, model in enumerate(models):
            y = top + index
            places.append(y)
            _bar(axes, model.share.get(name, {}), y)
            axes.plot(-0.025, y, SERIES_MARKERS[index], color=SERIES[index], markersize=9, clip_on=False)
    axes.set_ylim(max(places) + 0.55, -1.15)
    axes.set_yticks([])
    axes.set_xlim(0, 1)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))


def _bar(axes: Axes, shares: dict[str, float], y: float) -> None:
    left = 0.0
    for role in ROLES:
        share = shares.get(role, 0.0)
        axes.barh(y, share, left=left, height=0.8, color=COLOURS[role])
        if share >= 0.06:
            dark = role in ("user", "response")
            axes.text(
                left + share / 2,
                y,
                f"{100 * share:.0f} %",
                ha="center",
                va="center",
                fontsize=9.5,
                color="white" if dark else "#222222",
            )
        left += share


def _note(figure: Figure, models: Sequence[ModelProfile], tall: float) -> None:
    beyond = [f"{model.label}: {model.beyond}" for model in models if model.beyond]
    if beyond:
        said = f"scores of answer tokens above {LARGEST_FLOAT16:,.0f}, drawn as that: {'; '.join(beyond)}"
        figure.text(0.012, 0.12 / tall, said, fontsize=10, color=FAINT)
