"""The picture along the response: token by token, what the model looks at while it answers."""

from math import floor, log10
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from avar_eval.figures.file import save_figure
from avar_eval.figures.style import COLOURS, COLUMN, LABELS, PAGE, ROLES, SMALL, in_percent, new_figure
from avar_eval.look.conversation import Look
from avar_eval.look.heading import asked

TOKENS_IN_COLUMN, TOKENS_IN_PAGE = 24, 52
"""As many labels stand beside each other in a column and across a page."""
ROWS_A_PAGE = 5
LABEL_LENGTH = 16
_ROW, _LEGEND = 1.7, 0.32
"""Inches: a row of tokens with their labels, and below all the legend."""
_LEAST_TOKENS = 16
"""As many have room, so that bars of a few words are bars."""


def draw_response_curves(look: Look, folder: Path, suffix: str = ".png", title: bool = True) -> list[Path]:
    """Write response.png, and response-2.png and so on where the response is long. A short one is a column wide."""
    chosen = look.record.chosen("response")
    shares = {role: look.record.mass[role][..., chosen].double().mean((0, 1)).numpy() for role in ROLES}
    a_row = TOKENS_IN_COLUMN if len(look.tokens) <= TOKENS_IN_COLUMN else TOKENS_IN_PAGE
    parts = [range(start, min(start + a_row, len(look.tokens))) for start in range(0, len(look.tokens), a_row)]
    pages = [parts[start : start + ROWS_A_PAGE] for start in range(0, len(parts), ROWS_A_PAGE)] or [[range(0)]]
    written = []
    for number, rows in enumerate(pages, 1):
        part = "" if len(pages) == 1 else f" (part {number} of {len(pages)})"
        said = f"{asked(look)}. Each column: attention from one token of the answer, mean over layers and heads."
        head = (f"Along the answer: where the model looks{part}", said) if title else ("", "")
        path = folder / (f"response{suffix}" if number == 1 else f"response-{number}{suffix}")
        written.append(_page(look, shares, rows, a_row, head, path))
    return written


def _page(
    look: Look,
    shares: dict[str, Float[np.ndarray, " tokens"]],
    rows: list[range],
    a_row: int,
    head: tuple[str, str],
    path: Path,
) -> Path:
    width = COLUMN if a_row == TOKENS_IN_COLUMN else PAGE
    figure = new_figure(width, len(rows) * _ROW + _LEGEND, *head)
    grid = figure.subplots(2 * len(rows), 1, height_ratios=(1, 1.7) * len(rows), squeeze=False)[:, 0]
    highest = _round_up(float(shares["image"].max(initial=0.0)))
    for tokens, image, roles in zip(rows, grid[::2], grid[1::2], strict=True):
        _image_bars(image, shares["image"], tokens, highest)
        _role_bars(roles, shares, tokens, look.tokens)
        for axes in (image, roles):
            axes.set_xlim(-0.6, max(_LEAST_TOKENS, min(a_row, len(look.tokens))) - 0.4)
    handles, labels = grid[1].get_legend_handles_labels()
    figure.legend(handles, labels, ncols=3 if width == COLUMN else 5, loc="outside lower left", handlelength=1.2)
    return save_figure(figure, path)


def _round_up(share: float) -> float:
    """The next share with one significant digit that is even, or 1, 3 or 5: half of it is readable as well."""
    if share <= 0:
        return 0.01
    unit: float = 10 ** floor(log10(share))
    return next(step * unit for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * unit >= share * 0.999)


def _image_bars(axes: Axes, share: Float[np.ndarray, " tokens"], tokens: range, highest: float) -> None:
    axes.bar(range(len(tokens)), share[tokens.start : tokens.stop], width=0.86, color=COLOURS["image"])
    axes.set_ylim(0, highest)
    _percent(axes, "image\nalone")
    axes.set_xticks([])


def _role_bars(axes: Axes, shares: dict[str, Float[np.ndarray, " tokens"]], tokens: range, texts: list[str]) -> None:
    bottom = np.zeros(len(tokens))
    for role in ROLES:
        share = shares[role][tokens.start : tokens.stop]
        axes.bar(range(len(tokens)), share, width=0.86, bottom=bottom, color=COLOURS[role], label=LABELS[role])
        bottom = bottom + share
    axes.set_ylim(0, 1)
    _percent(axes, "everything")
    axes.set_xticks(range(len(tokens)), [shown(texts[index]) for index in tokens], rotation=90, fontsize=SMALL)
    axes.tick_params(axis="x", length=0)


def _percent(axes: Axes, label: str) -> None:
    highest = axes.get_ylim()[1]
    axes.set_yticks([0, highest / 2, highest])
    in_percent(axes)
    axes.set_ylabel(label, size=SMALL)


def shown(token: str) -> str:
    """A token's text as a label: line breaks are visible, and what is nothing but space too."""
    text = token.replace("\n", "⏎").replace("\t", "⇥")
    text = text.strip() or text.replace(" ", "␣")
    return text if len(text) <= LABEL_LENGTH else text[: LABEL_LENGTH - 1] + "…"
