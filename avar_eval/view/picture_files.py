"""The pictures of a viewer as files: each once, named by its hash, small enough for a page."""

from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image

from avar_eval.atomic import WriteError
from avar_eval.pictures import image_sha256

_LONGEST_SIDE: Final = 1600
_MOST_BYTES: Final = 200_000
"""Of a picture that is kept pixel by pixel; larger ones, photographs, are compressed with losses."""


class PictureFiles:
    """Writes pictures into a folder; the same picture is written once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, str] = {}
        """SHA-256 of a picture -> the name of its file."""

    def add(self, picture: Image.Image) -> str:
        """Keep a picture; returns its SHA-256, as a record knows it."""
        sha256 = image_sha256(picture)
        if sha256 not in self.names:
            content, suffix = encoded(picture)
            self.names[sha256] = f"{sha256[:24]}.{suffix}"
            path = self.folder / self.names[sha256]
            try:
                path.write_bytes(content)  # no more than that: thousands of pictures, and the page comes last
            except OSError as error:
                raise WriteError(path, error.strerror) from error
        return sha256


def encoded(picture: Image.Image) -> tuple[bytes, str]:
    """The picture as a file's content and its format, png or webp: no longer than a page needs it."""
    small = picture.convert("RGB")
    small.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    written = BytesIO()
    small.save(written, "PNG")
    if written.tell() <= _MOST_BYTES:
        return written.getvalue(), "png"
    written = BytesIO()
    small.save(written, "WEBP", quality=88)
    return written.getvalue(), "webp"
