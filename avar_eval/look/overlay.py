"""The picture of attention over the images: what the question and the answer look at in each.

Two panels for each of them, side by side: the image in its own colours, with lines around the places that get more than
their share, and the attention alone. A veil over the image would hide the colours that the question may be about.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from avar_eval.attention.record import Queries
from avar_eval.figures.file import save_figure
from avar_eval.figures.style import FAINT, SMALL, TEXT, WHOSE
from avar_eval.look.conversation import QUERY_SETS, ImageTokens, Look
from avar_eval.look.heading import asked
from avar_eval.look.places import heat_map

_LONGEST_SIDE = 640
# From white over the image's orange to dark: it only ever gets darker, which every eye and every printer can tell.
_COLOURS = LinearSegmentedColormap.from_list(
    "attention", [(0.0, "#ffffff"), (0.4, "#fbc577"), (0.65, "#e07b00"), (1.0, "#7a2300")]
)
_LINE, _FRAME = "#c2185b", "#c9ced6"
LEVELS = (1.25, 2.0, 4.0, 8.0)
"""Around what gets so many times an even spread there is a line, each thicker than the one before."""
_PANEL, _GAP, _HEAD, _FOOT, _TITLE = 1.38, 0.07, 0.36, 0.32, 0.32
"""Inches: a panel's width, between panels, above and below all of them, a panel's title."""


def draw_overlay(look: Look, image_tokens: Sequence[ImageTokens], path: Path, title: bool = True) -> Path:
    """Write the picture: a row for each image, with two panels for each set of queries, lines and the attention."""
    queries = [name for name in QUERY_SETS if name in image_tokens[0].shares]
    pictures = [_scaled(picture) for picture in look.pictures]
    maps = [
        {name: heat_map(tokens.places, tokens.shares[name], *picture.size) for name in queries}
        for picture, tokens in zip(pictures, image_tokens, strict=True)
    ]
    scale = _scale([heat for of_image in maps for heat in of_image.values()])
    heights = [_PANEL * min(1.6, picture.height / picture.width) for picture in pictures]
    heights[0] = max(heights[0], 1.0)  # beside it stands the colour bar
    width = 2 * len(queries) * (_PANEL + _GAP) + 0.85
    figure = Figure(figsize=(width, _HEAD * title + _FOOT + sum(height + _TITLE for height in heights)))
    top = 0.0
    if title:
        tall = figure.get_size_inches()[1]
        said = "Where the model looks in the image" + "s" * (len(pictures) > 1)
        figure.text(0.012, 1 - 0.05 / tall, said, size=TEXT + 0.5, weight="bold", va="top")
        figure.text(0.012, 1 - 0.2 / tall, asked(look), size=SMALL, color=FAINT, va="top")
        top = _HEAD
    for index, picture in enumerate(pictures):
        box = (top + _TITLE, heights[index])
        for pair, name in enumerate(queries):
            share = float(np.nansum(image_tokens[index].shares[name]))
            lined, alone = (_panel(figure, 2 * pair + place, box) for place in (0, 1))
            lined.imshow(picture)
            _lines(lined, maps[index][name])
            alone.imshow(_COLOURS(scale(maps[index][name])), interpolation="nearest")
            of_image = f"image {index + 1}" if len(pictures) > 1 else "the image"
            _titled(lined, f"Seen from {WHOSE[name]}", f"{100 * share:.1f} % of their attention is on {of_image}")
        top += _TITLE + heights[index]
    _colour_bar(figure, len(queries), (_HEAD * title, heights[0]), scale, maps)
    figure.text(0.012, 0.06 / figure.get_size_inches()[1], _explanation(look), size=SMALL, color=FAINT)
    return save_figure(figure, path)


def _scaled(picture: Image.Image) -> Image.Image:
    factor = _LONGEST_SIDE / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.NEAREST if factor > 2 else Image.Resampling.LANCZOS)


def _scale(maps: Sequence[Float[np.ndarray, "h w"]]) -> Normalize:
    """One scale for all panels, from 0; neither a few extreme places nor their height make the rest look the same."""
    highest = max(float(heat.max()) for heat in maps)
    usual = max(float(np.quantile(heat, 0.995)) for heat in maps)
    return PowerNorm(0.7, 0, max(2.0, usual if usual < highest / 1.5 else highest))


def _panel(figure: Figure, column: int, box: tuple[float, float]) -> Axes:
    """An axes for an image; box: inches from the top, and of height."""
    width, height = figure.get_size_inches()
    left, (top, tall) = 0.08 + column * (_PANEL + _GAP), box
    axes = figure.add_axes((left / width, 1 - (top + tall) / height, _PANEL / width, tall / height))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color=_FRAME, linewidth=0.5)
    axes.set_anchor("NW")
    return axes


def _lines(axes: Axes, heat: Float[np.ndarray, "h w"]) -> None:
    """Lines along the borders of image tokens, around those that get more than each level."""
    for order, level in enumerate(LEVELS):
        borders = _borders(heat >= level)
        width = 0.7 + 0.45 * order
        axes.add_collection(LineCollection(borders, colors="white", linewidths=width + 1.1, capstyle="projecting"))
        axes.add_collection(LineCollection(borders, colors=_LINE, linewidths=width, capstyle="projecting"))


def _borders(inside: Bool[np.ndarray, "h w"]) -> list[list[tuple[float, float]]]:
    """The lines between what is inside and what is not, as `imshow` counts pixels: its first one's centre is (0, 0)."""
    padded = np.pad(inside, 1).astype(np.int8)
    lines = []
    for steps, is_row in ((np.diff(padded, axis=0)[:, 1:-1], True), (np.diff(padded, axis=1)[1:-1].T, False)):
        for place, changed in enumerate(steps != 0):
            ends = np.flatnonzero(np.diff(np.pad(changed.astype(np.int8), 1))) - 0.5
            for start, end in ends.reshape(-1, 2).tolist():
                points = [(start, place - 0.5), (end, place - 0.5)]
                lines.append(points if is_row else [(y, x) for x, y in points])
    return lines


def _titled(axes: Axes, title: str, below: str) -> None:
    axes.set_title(f"{title}\n", fontsize=TEXT)
    axes.annotate(below, (0, 1), (0, 3), "axes fraction", "offset points", fontsize=SMALL, color=FAINT, va="bottom")


def _colour_bar(
    figure: Figure,
    panels: int,
    box: tuple[float, float],
    scale: Normalize,
    maps: Sequence[dict[Queries, Float[np.ndarray, "h w"]]],
) -> None:
    (width, height), (top, tall) = figure.get_size_inches(), box
    left = 0.1 + 2 * panels * (_PANEL + _GAP)
    axes = figure.add_axes((left / width, 1 - (top + _TITLE + tall) / height, 0.1 / width, tall / height))
    beyond = any(
        float(heat.max()) > scale.vmax * 1.001 for of_image in maps for heat in of_image.values() if scale.vmax
    )
    bar = figure.colorbar(
        ScalarMappable(scale, _COLOURS), cax=axes, extend="max" if beyond else "neither", ticks=MaxNLocator(5)
    )
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} ×"))
    bar.set_label("attention per area\n(1 × = spread evenly)", size=SMALL)
    for order, level in enumerate(LEVELS):
        if level < (scale.vmax or 0):
            bar.ax.axhline(level, color=_LINE, linewidth=0.7 + 0.45 * order)


def _explanation(look: Look) -> str:
    layers, heads, _ = look.record.mass["image"].shape
    levels = ", ".join(f"{level:g}" for level in LEVELS)
    return (
        f"Lines: {levels} times what an even spread would give. Each square is one of the model's image tokens.\n"
        f"Attention is the mean over the tokens that look, {layers} layers and {heads} heads."
    )
