"""A row's picture as a model is given it."""

from PIL import Image

from avar_eval.pictures import as_rgb


def rgb_picture(found: object, missing: str) -> Image.Image:
    """What a row's column holds, see `as_rgb`. Raises ValueError with the text `missing` if that is no picture."""
    if not isinstance(found, Image.Image):
        raise ValueError(missing)
    return as_rgb(found)
