"""A row's picture as a model is given it."""

from PIL import Image


def rgb_picture(found: object, missing: str) -> Image.Image:
    """What a row's column holds, as RGB. Raises ValueError with the text `missing` if that is no picture."""
    if not isinstance(found, Image.Image):
        raise ValueError(missing)
    return found.convert("RGB")
