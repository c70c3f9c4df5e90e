"""How figures look: the colours of roles and models, sizes for a paper's column, fonts."""

from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FuncFormatter

if TYPE_CHECKING:  # torch, which figures of finished runs do not need
    from avar_eval.attention.record import Queries

COLUMN: Final = 3.3
PAGE: Final = 6.8
"""Inches: the width of a paper's column, and of its page. Figures are drawn at the size at which they are printed."""
TEXT: Final = 7.0
SMALL: Final = 6.2
"""Points: of text, and of what stands beside it; below 6 nobody reads it in print."""

ROLES = ("image", "system", "user", "response", "template")
# Okabe and Ito's, the grey darker and the green lighter: any two of them differ for every eye, and in grey.
COLOURS = {
    "image": "#e69f00",
    "system": "#5b5f66",
    "user": "#0072b2",
    "response": "#5fc39b",
    "template": "#d3d7de",
}
LABELS = {
    "image": "image",
    "system": "system turn",
    "user": "question (user turn)",
    "response": "answer so far",
    "template": "markup between turns",
}
LINES = {"image": "-", "system": "--", "user": "-.", "response": ":", "template": "-"}
MARKERS = {"image": "o", "system": "s", "user": "^", "response": "D", "template": "x"}
WHOSE: "dict[Queries, str]" = {"user": "the question's tokens", "response": "the answer's tokens"}
INK, FAINT, GRID = "#222222", "#5d626b", "#eceef1"
# Tol's muted: no model has a role's colour.
SERIES = ("#332288", "#cc6677", "#117733", "#882255", "#88ccee", "#999933")
SERIES_MARKERS = ("o", "s", "^", "D", "v", "P")
SERIES_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 0.6)))
"""Of the lines of several models or settings in one figure, in their order."""

_MARGIN: Final = 0.08
"""Inches: around what is drawn."""
_LEADING: Final = 1.3

_WIDE_SCRIPTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei")


@contextmanager
def drawing() -> Iterator[None]:
    """Within this context figures have the fonts, lines and axes of this product."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    families = ["DejaVu Sans", *(name for name in _WIDE_SCRIPTS if name in installed)]
    settings: Any = {
        "font.family": families,
        "font.size": TEXT,
        "axes.titlesize": TEXT,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 4,
        "axes.labelsize": TEXT,
        "axes.labelpad": 2.5,
        "axes.labelcolor": INK,
        "axes.edgecolor": "#9aa0aa",
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "text.color": INK,
        "text.parse_math": False,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.pad": 2,
        "ytick.major.pad": 2,
        "lines.linewidth": 1.3,
        "lines.markersize": 3.2,
        "patch.linewidth": 0.5,
        "legend.frameon": False,
        "legend.fontsize": SMALL,
        "legend.title_fontsize": SMALL,
        "legend.borderpad": 0.1,
        "legend.handletextpad": 0.5,
        "legend.columnspacing": 1.2,
        "figure.facecolor": "white",
    }
    with matplotlib.rc_context(settings):
        yield


def series_style(index: int) -> dict[str, Any]:
    """The line of the `index`-th model or setting: colour, marker and dashes, each enough to tell it apart."""
    return {
        "color": SERIES[index % len(SERIES)],
        "marker": SERIES_MARKERS[index % len(SERIES_MARKERS)],
        "linestyle": SERIES_LINES[index % len(SERIES_LINES)],
    }


def role_style(role: str) -> dict[str, Any]:
    """The line of a role."""
    return {"color": COLOURS[role], "marker": MARKERS[role], "linestyle": LINES[role]}


def new_figure(width: float, height: float, title: str = "", below: str = "") -> Figure:
    """A figure whose axes and legends have `height` inches, and above them a title and a sentence that explains them.

    What is empty takes no room, so that a figure without its title is one without a gap.
    """
    title_font = font_manager.FontProperties(size=TEXT + 0.5, weight="bold")
    font = font_manager.FontProperties(size=SMALL)
    lines = [(line, title_font, INK) for line in _lines(title, width, title_font)]
    lines += [(line, font, FAINT) for line in _lines(below, width, font)]
    above = sum(font.get_size() * _LEADING for _, font, _ in lines) / 72 + (2 * _MARGIN if lines else 0)
    whole = height + above
    figure = Figure(figsize=(width, whole))
    figure.set_layout_engine(
        ConstrainedLayoutEngine(
            rect=(0, 0, 1, height / whole), w_pad=_MARGIN / 2, h_pad=_MARGIN / 2, hspace=0.03, wspace=0.03
        )
    )
    top = whole - _MARGIN
    for line, font, colour in lines:
        figure.text(_MARGIN / width, top / whole, line, font=font, color=colour, va="top")
        top -= font.get_size() * _LEADING / 72
    return figure


def _lines(text: str, width: float, font: font_manager.FontProperties) -> list[str]:
    """A text in lines that fit a figure of this width, in inches; words that are longer are broken."""
    room = (width - 2 * _MARGIN) * 72 * 0.98  # letters on a grid of pixels are a little wider

    def wide(line: str) -> float:
        return float(text_to_path.get_text_width_height_descent(line, font, ismath=False)[0])

    lines: list[str] = []
    for word in filter(None, text.replace("\n", " ").replace(" %", "\u00a0%").split(" ")):
        if lines and wide(f"{lines[-1]} {word}") <= room:
            lines[-1] += f" {word}"
            continue
        lines.append(word)
        while wide(lines[-1]) > room:
            fits = next(n for n in range(len(lines[-1]), 0, -1) if wide(lines[-1][:n]) <= room)
            lines[-1:] = [lines[-1][:fits], lines[-1][fits:]]
    return lines


def in_percent(axes: Axes, along: str = "y") -> None:
    """Ticks of shares in percent."""
    axis = axes.yaxis if along == "y" else axes.xaxis
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g} %"))


def say_instead(axes: Axes, text: str) -> None:
    """A sentence in an axes in which there is nothing to draw."""
    words = "\n".join(wrap(text, 44))
    axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center", color=FAINT, size=SMALL)
    axes.set_yticks([])
