"""Reading image files, and a picture as every model is given it: in evaluation, in a look and in training alike."""

import errno
import hashlib
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
from PIL import EpsImagePlugin, Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from avar_eval.errors import AvarError

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""What is opened, whatever a file is called: grids of pixels, for which no other program is started."""

ALLOW_OUTSIDE: Final = "AVAR_ALLOW_OUTSIDE"
"""The environment variable that does for every command what --allow-outside does for one: 1."""

UNREADABLE: Final = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
"""What Pillow raises for a picture that cannot be read."""

_WIDE_WHITE: Final = 65535
_LEAST_WHITE: Final = 1 / 16
"""Share of the full scale below which nothing of a picture would be seen."""


# Libraries that open pictures for us, such as datasets, take any format: without this, one of them runs Ghostscript.
EpsImagePlugin.gs_binary = False


class OutsideError(AvarError):
    """A row's picture is not among the files of its data.

    What to do: Copy the picture into the folder of its data, or allow it with `--allow-outside`.
    """


def open_picture(source: Path | BytesIO) -> Image.Image:
    """Pillow's `Image.open` for files that others made. Raises what it raises, also for a format of no kind we open."""
    if isinstance(source, Path) and not source.is_file():  # a pipe would be waited for
        raise OSError(errno.EINVAL, "it is no file", str(source))
    return Image.open(source, formats=FORMATS)


def picture_fault(error: Exception) -> str:
    """What reading a picture failed at, in words: Pillow's are of its own objects and decoders."""
    if isinstance(error, UnidentifiedImageError):
        return f"it is no picture of a kind that is read: {', '.join(FORMATS)}"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels: make it smaller"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if type(error) in (OSError, ValueError) and "truncated" in str(error).lower():
        return "it breaks off"
    return "it is damaged" if type(error) in (OSError, SyntaxError, struct.error) else str(error)


def picture_path(folder: Path, name: str, allow_outside: bool, within: Path | None = None) -> Path:
    """The file that a row names, relative to `folder`; nothing is fetched.

    Raises OutsideError for what is no file's name, such as a URL, and, unless they are allowed, for a file outside of
    `within` (by default the folder), whatever leads there: an absolute path, `..` or a link. Such a picture would be
    read, and sent to whoever serves the model.
    """
    if re.match(r"\s*(?:[a-z][a-z0-9+.-]*://|data:)", name, re.IGNORECASE):
        raise OutsideError(f"its picture {name[:200]!r} is a URL: nothing is fetched, put the file beside the rows")
    path, within = folder / name, within or folder
    try:
        outside = not path.resolve().is_relative_to(within.resolve())
        path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # too long, links in a circle, a zero byte
        raise OutsideError(f"its picture {name[:200]!r} is no name of a file") from error
    if outside and not allow_outside:
        raise OutsideError(
            f"its picture {name[:200]!r} is not inside {within}: put the file there, or trust the rows with every "
            f"picture of this machine (--allow-outside, or {ALLOW_OUTSIDE}=1)"
        )
    return path


def allowed_outside() -> bool:
    """Whether the environment allows pictures outside of the data's folder."""
    return os.environ.get(ALLOW_OUTSIDE, "") not in ("", "0")


@contextmanager
def whole_pictures_only() -> Iterator[None]:
    """lmms-eval imports a module that lets Pillow fill up pictures that break off, for the whole process: not here."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def read_rgb(source: Path | BytesIO) -> Image.Image:
    """A picture file as `as_rgb` shows it. Raises what Pillow raises for one that cannot be read to its end."""
    with whole_pictures_only(), open_picture(source) as opened:
        return as_rgb(opened)


def image_sha256(picture: Image.Image) -> str:
    """SHA-256 (hex) of a picture's mode, size and pixels: what a record knows its pictures by."""
    return hashlib.sha256(f"{picture.mode}{picture.size}".encode() + picture.tobytes()).hexdigest()


def is_plain_rgb(picture: Image.Image) -> bool:
    """Whether `as_rgb` would leave the picture's colours as they are."""
    return picture.mode == "RGB" and not picture.has_transparency_data


def as_rgb(picture: Image.Image) -> Image.Image:
    """The picture as a person sees it on white paper, in 8-bit RGB; of several frames the one that it stands at.

    Turned as its EXIF orientation says; what is transparent shows the white ground; grey of more than 8 bits (16-bit,
    32-bit, floating point) is scaled. Pillow's own `convert` makes a black drawing on a transparent ground all black
    and clips wide grey to 255. Raises what Pillow raises for a picture that cannot be read.
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode[0] in "IF":
        return _scaled_grey(picture).convert("RGB")
    if picture.has_transparency_data:
        drawing = picture.convert("RGBA")
        ground = Image.new("RGBA", drawing.size, "white")
        ground.alpha_composite(drawing)
        return ground.convert("RGB")
    if picture.mode == "LAB":
        lab, screen = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        seen = ImageCms.profileToProfile(picture, lab, screen, outputMode="RGB")
        assert seen is not None  # it is, only where it changes the picture itself
        return seen
    return picture.convert("RGB")


def _scaled_grey(picture: Image.Image) -> Image.Image:
    """Grey of more than 8 bits as 8-bit grey: white is the greatest 16-bit number, or 1 of floating point numbers.

    Where values lie outside of that scale, or all of them in its darkest sixteenth (12-bit pictures in 16-bit files,
    measured quantities), black and white are the least and the greatest value that there is.
    """
    values = np.asarray(picture).astype(np.float64)
    clear = picture.info.get("transparency")
    see_through = values == clear if isinstance(clear, int) else np.zeros(values.shape, dtype=bool)
    known = values[np.isfinite(values) & ~see_through]
    least, greatest = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    black, white = 0.0, 1.0 if picture.mode.startswith("F") else float(_WIDE_WHITE)
    if least < black or greatest > white or greatest < white * _LEAST_WHITE:
        black, white = least, greatest
    grey = np.nan_to_num(values - black, nan=0.0, posinf=white - black, neginf=0.0) / ((white - black) or 1.0)
    return Image.fromarray(np.where(see_through, 255, np.rint(grey.clip(0, 1) * 255)).astype(np.uint8))
