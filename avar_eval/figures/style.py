"""How figures look: the colours of roles and models, sizes for a paper's column, fonts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import matplotlib
from matplotlib import font_manager

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
