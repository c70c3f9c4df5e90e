"""The hub's rows in the form that `--data-dir` has: the picture in the column `image`."""

from typing import Any


def with_pictures(rows: Any) -> Any:
    """`image` names a file of the published archive; `decoded_image` is that picture: it takes the name's place."""
    return rows.remove_columns("image").rename_column("decoded_image", "image")
