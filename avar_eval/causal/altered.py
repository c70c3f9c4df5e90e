"""Pictures that take an image's place: flat grey of the same size, blurred, or another row's."""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from typing import Final

from PIL import Image, ImageFilter

GREY: Final = (128, 128, 128)


def grey(picture: Image.Image) -> Image.Image:
    """A flat grey picture of the same size, which becomes as many tokens."""
    return Image.new("RGB", picture.size, GREY)


def blurred(picture: Image.Image, level: float) -> Image.Image:
    """A Gaussian blur whose standard deviation is this share of the picture's shorter side."""
    return picture.convert("RGB").filter(ImageFilter.GaussianBlur(level * min(picture.size)))


def derangement(
    rows: Sequence[str], groups: Mapping[str, Hashable], pictures: Mapping[str, Sequence[str]], seed: int
) -> dict[str, str]:
    """For each row another one of its group, whose pictures it gets; no row gives its pictures twice.

    groups: what a row and its giver have in common, such as the kind of answer. pictures: hashes of each row's. Rows
    go round in the order of a seeded hash. A giver has as many pictures as the row, and not the same: pictures that
    several rows share go to others. Rows for which there is no such giver are absent.
    """
    circles: dict[Hashable, list[str]] = {}
    for row in sorted(rows, key=lambda row: hashlib.sha256(f"swap:{seed}:{row}".encode()).digest()):
        if pictures[row]:
            circles.setdefault((groups[row], len(pictures[row])), []).append(row)
    givers: dict[str, str] = {}
    for circle in circles.values():
        left = circle[1:] + circle[:1]
        for row in circle:
            giver = next((other for other in left if tuple(pictures[other]) != tuple(pictures[row])), None)
            if giver is not None:
                givers[row] = giver
                left.remove(giver)
    return givers
