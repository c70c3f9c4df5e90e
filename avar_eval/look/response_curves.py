"""The picture along the response: token by token, what the model looks at while it answers."""

from math import ceil, floor, log10
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from avar_eval.look.conversation import Look
from avar_eval.look.style import COLOURS, FAINT, LABELS, ROLES, head, save

TOKENS_A_ROW = 40
ROWS_A_PAGE = 5
LABEL_LENGTH = 16
_ROW, _HEAD, _FOOT = 4.0, 1.1, 0.35
"""Inches: a row of tokens, above all rows, below them."""


def draw_response_curves(look: Look, folder: Path) -> list[Path]:
    """Write response.png, and response-2.png and so on where the response is long."""
    chosen = look.record.chosen("response")
    shares = {role: look.record.mass[role][..., chosen].double().mean((0, 1)).numpy() for role in ROLES}
    a_page = TOKENS_A_ROW * ROWS_A_PAGE
    pages = max(1, ceil(len(look.tokens) / a_page))
    return [
        _page(look, shares, range(page * a_page, min((page + 1) * a_page, len(look.tokens))), (page + 1, pages), folder)
        for page in range(pages)
    ]


def _page(
    look: Look, shares: dict[str, Float[np.ndarray, " tokens"]], tokens: range, page: tuple[int, int], folder: Path
) -> Path:
    rows = max(1, ceil(len(tokens) / TOKENS_A_ROW))
    tall = _HEAD + _FOOT + rows * _ROW
    figure = Figure(figsize=(15, tall))
    part = "" if page[1] == 1 else f" (part {page[0]} of {page[1]})"
    head(figure, f"Along the answer: what the model looks at from each of its tokens{part}", look)
    highest = _round_up(float(shares["image"].max(initial=0.0)))
    for row in range(rows):
        part_of = tokens[row * TOKENS_A_ROW : (row + 1) * TOKENS_A_ROW]
        top = _HEAD + row * _ROW
        image = figure.add_axes((0.065, 1 - (top + 0.95) / tall, 0.925, 0.75 / tall))
        roles = figure.add_axes((0.065, 1 - (top + 2.42) / tall, 0.925, 1.3 / tall))
        _image_bars(image, shares["image"], part_of, highest)
        _role_bars(roles, shares, part_of, look.tokens)
        for axes in (image, roles):
            axes.set_xlim(-0.6, min(TOKENS_A_ROW, max(16, len(tokens))) - 0.4)
        if row == 0:
            handles, labels = roles.get_legend_handles_labels()
            figure.legend(
                handles,
                labels,
                ncols=len(ROLES),
                loc="upper left",
                bbox_to_anchor=(0.005, 1 - 0.78 / tall),
                handlelength=1.2,
                columnspacing=1.6,
            )
    note = (
        "Each column: where the model looks from one token of its answer, to write the next (mean over layers, heads)."
    )
    figure.text(0.012, 0.1 / tall, note, fontsize=10, color=FAINT)
    return save(figure, folder / ("response.png" if page[0] == 1 else f"response-{page[0]}.png"))


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
    axes.set_xticks(range(len(tokens)), [shown(texts[index]) for index in tokens], rotation=90, fontsize=11)
    axes.tick_params(axis="x", length=0)


def _percent(axes: Axes, label: str) -> None:
    highest = axes.get_ylim()[1]
    axes.set_yticks([0, highest / 2, highest])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
    axes.set_ylabel(label, fontsize=10.5, color=FAINT, va="center")
    axes.yaxis.set_label_coords(-0.052, 0.5)


def shown(token: str) -> str:
    """A token's text as a label: line breaks are visible, and what is nothing but space too."""
    text = token.replace("\n", "⏎").replace("\t", "⇥")
    text = text.strip() or text.replace(" ", "␣")
    return text if len(text) <= LABEL_LENGTH else text[: LABEL_LENGTH - 1] + "…"
