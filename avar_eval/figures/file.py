"""The file of a figure: its format is its suffix, the same figure gives the same bytes, and it is there whole or not.

Light: a wrong suffix is refused before anything is loaded or asked.
"""

from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from avar_eval.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS: Final = (".pdf", ".svg", ".png")


class FigureForm(StrEnum):
    """Of several pictures of one command, whose names are fixed."""

    PNG = "png"
    PDF = "pdf"
    SVG = "svg"


DPI: Final = 300
"""Of a PNG: what journals ask of figures at their printed width."""

# What else matplotlib writes of the moment and of itself: it would make two runs' files differ.
_METADATA: Final[dict[str, dict[str, Any]]] = {
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    ".svg": {"Date": None, "Creator": None},
    ".png": {"Software": None},
}

FigureOption = Annotated[
    Path | None, typer.Option("--figure", metavar="FILE", help="The picture's file: .pdf, .svg or .png.")
]
NoTitleOption = Annotated[
    bool, typer.Option("--no-title", help="Draw no title: a paper has the caption.", show_default=False)
]


def check_figure(path: Path, option: str) -> None:
    """Refuse what no figure can be saved as, before any work is done. option: that named it. Raises UsageError."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{option} takes a .pdf, .svg or .png file, not {str(path)!r}")
    if path.is_dir():
        raise UsageError(f"{option} takes a file, and {str(path)!r} is a folder")
    make_folder(path.parent, option)


def figure_file(folder: Path, figure: Path | None, name: str) -> Path:
    """Where a command that writes into `folder` saves its figure: as --figure says, else `folder`/NAME.png.

    Makes the folder. Raises UsageError where either cannot be written, or the folder has a picture's name.
    """
    if folder.suffix.lower() in FORMATS and not folder.is_dir():
        raise UsageError(f"--output takes a folder; for the picture alone: --figure {folder}")
    make_folder(folder, "--output")
    if figure is None:
        return folder / f"{name}.png"
    check_figure(figure, "--figure")
    return figure


def make_folder(folder: Path, option: str) -> None:
    """Make an output folder. Raises UsageError if it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"{option} {str(folder)!r} cannot be written to: {error.strerror}") from error


def save_figure(figure: "Figure", path: Path) -> Path:
    """Write a figure in the format of `path`'s suffix, one of FORMATS. Raises WriteError."""
    from matplotlib import rc_context

    from avar_eval.atomic import WriteError, write_atomically

    suffix = path.suffix.lower()
    settings: Any = {
        "pdf.fonttype": 42,  # TrueType: what venues accept, and what can be searched and edited
        "svg.fonttype": "path",  # an SVG holds no font, and the reader's machine may not have ours
        "svg.hashsalt": "avar-eval",  # names of its parts: random without it
    }
    content = BytesIO()
    with rc_context(settings):
        figure.savefig(content, format=suffix[1:], dpi=DPI, metadata=_METADATA[suffix])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(path, error.strerror) from error
    write_atomically(path, [content.getvalue()])
    return path
