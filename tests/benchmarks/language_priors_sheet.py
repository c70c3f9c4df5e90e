"""Draws docs/pictures/language_priors.png: of each kind a test picture that agrees with its question, and one that does
not.

    python tests/benchmarks/language_priors_sheet.py
"""

from pathlib import Path
from textwrap import wrap
from typing import Final

from PIL import Image, ImageDraw

from avar_eval.tasks.language_priors.dataset import Row, rows
from avar_eval.tasks.language_priors.questions import KINDS

PICTURE: Final = Path(__file__).parents[2] / "docs" / "pictures" / "language_priors.png"
SIDE, GAP, TEXT, TOP = 168, 14, 62, 26
"""Width of a picture, space between two, height of the text below one, and of the heading of a row; in pixels."""


def pairs() -> list[tuple[Row, Row]]:
    """Of each kind the first row that agrees and the first that does not."""
    test = list(rows("test"))
    return [
        (
            next(row for row in test if row["kind"] == kind.name and row["agrees"]),
            next(row for row in test if row["kind"] == kind.name and not row["agrees"]),
        )
        for kind in KINDS
    ]


def main() -> None:
    """Save the sheet: kinds side by side, in four columns; above what agrees, below what does not."""
    columns = 4
    lines = -(-len(KINDS) // columns)
    cell, block = SIDE + GAP, 2 * (SIDE + TEXT) + TOP
    sheet = Image.new("RGB", (columns * cell + GAP, lines * block + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for number, pair in enumerate(pairs()):
        left, top = GAP + number % columns * cell, GAP + number // columns * block
        pen.text((left, top - 6), KINDS[number].name, "black", font_size=18)
        for place, row in enumerate(pair):
            upper = top + TOP + place * (SIDE + TEXT) - 4
            sheet.paste(row["image"].resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, upper))
            verdict = "as suggested" if row["agrees"] else f"not {row['suggested']}"
            text = "\n".join([*wrap(row["question"], 30), f"{row['answer']} ({verdict})"])
            pen.multiline_text((left, upper + SIDE + 3), text, "black", font_size=11, spacing=2)
    sheet.quantize(128).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
