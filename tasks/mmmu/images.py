"""Pictures that a text names: `<image 3>` is the column `image_3`. The number is the key, wherever the token stands."""

import re
from collections.abc import Mapping
from typing import Any, Final

from PIL import Image

from avar_eval.tasks.visuals import rgb_picture

Row = Mapping[str, Any]

TOKEN: Final = re.compile(r"<image (\d+)>")


def image_columns(text: str) -> list[str]:
    """The columns of the pictures that a text names, in the order of their tokens; a repeated token is repeated."""
    return [f"image_{number}" for number in TOKEN.findall(text)]


def picture(row: Row, column: str) -> Image.Image:
    """The picture of a column, RGB. Raises ValueError if the row has none there."""
    return rgb_picture(row[column], f"row {row['id']} has no picture in {column}")


def interleaved(row: Row, text: str) -> list[dict[str, Any]]:
    """The parts of a chat message: the text, with every token replaced by its picture. Raises as `picture` does."""
    parts: list[dict[str, Any]] = []
    # re.split with one group: text, number, text, number, …, text
    for index, piece in enumerate(TOKEN.split(text)):
        if index % 2:
            parts.append({"type": "image", "url": picture(row, f"image_{piece}")})
        elif piece:
            parts.append({"type": "text", "text": piece})
    return parts
