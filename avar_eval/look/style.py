"""How the pictures look: the colours of the roles, fonts, and small habits shared by all of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure

from avar_eval.figures.file import save_figure

if TYPE_CHECKING:  # torch, which pictures of finished runs do not need
    from avar_eval.attention.record import Queries
    from avar_eval.look.conversation import Look

ROLES = ("image", "system", "user", "response", "template")
COLOURS = {
    "image": "#e07b00",
    "system": "#8a8f98",
    "user": "#1f55c4",
    "response": "#4f9a60",
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
INK, FAINT = "#222222", "#5d626b"
SERIES = ("#e07b00", "#1f55c4", "#4f9a60", "#a0409a", "#8a8f98", "#b3352b")
SERIES_MARKERS = ("o", "s", "^", "D", "v", "P")
"""Of the lines of several models or settings in one picture, in their order."""

_WIDE_SCRIPTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei")


@contextmanager
def drawing() -> Iterator[None]:
    """Within this context figures have this room's fonts and axes."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    families = ["DejaVu Sans", *(name for name in _WIDE_SCRIPTS if name in installed)]
    settings: Any = {
        "font.family": families,
        "font.size": 11,
        "axes.titlesize": 12.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelcolor": INK,
        "axes.edgecolor": "#b9bec7",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": INK,
        "text.parse_math": False,
        "xtick.color": INK,
        "ytick.color": INK,
        "legend.frameon": False,
        "figure.facecolor": "white",
    }
    with matplotlib.rc_context(settings):
        yield


def head(figure: Figure, title: str, look: "Look", y: float = 1.0) -> None:
    """A title in words, and under it which model was asked what; `y` in figure fractions, from the top."""
    height = figure.get_size_inches()[1]
    figure.text(0.012, y - 0.10 / height, title, fontsize=15, fontweight="bold", va="top")
    asked = f"{look.model} was asked: {quoted(look.conversation.prompt, 120)}"
    figure.text(0.012, y - 0.42 / height, asked, fontsize=11, color=FAINT, va="top")


def quoted(text: str, limit: int) -> str:
    """One line of text in quotation marks, cut where it is too long."""
    line = " ".join(text.split())
    return f"“{line if len(line) <= limit else line[: limit - 1] + '…'}”"


def save(figure: Figure, path: Path) -> Path:
    """Write it in the format of the suffix."""
    return save_figure(figure, path)
