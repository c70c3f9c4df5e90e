"""How a figure is saved: by its suffix, the same bytes each time, whole or not at all, with its fonts."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from avar_eval.atomic import WriteError
from avar_eval.errors import UsageError
from avar_eval.figures.file import check_figure, figure_file, save_figure
from avar_eval.figures.style import COLUMN, drawing

BEGINNINGS = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml", ".PNG": b"\x89PNG"}


def drawn() -> Figure:
    with drawing():
        figure = Figure(figsize=(COLUMN, 2), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], label="A $model$ of β")
        axes.fill_between([0, 1], [0, 0], [1, 2], hatch="//")
        axes.legend()
    return figure


@pytest.mark.parametrize("suffix", BEGINNINGS)
def test_the_suffix_is_the_format_and_the_same_figure_gives_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    first, second = (save_figure(drawn(), tmp_path / f"new/{name}{suffix}").read_bytes() for name in "ab")
    assert first == second
    assert first.startswith(BEGINNINGS[suffix])
    assert not list(tmp_path.rglob("*.partial"))


def test_a_png_has_the_resolution_of_print_and_vector_files_need_no_font(tmp_path: Path) -> None:
    with Image.open(save_figure(drawn(), tmp_path / "a.png")) as picture:
        assert picture.width == round(COLUMN * 300)
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    pdf = save_figure(drawn(), tmp_path / "a.pdf").read_bytes()
    assert b"/CIDFontType2" in pdf or b"/TrueType" in pdf
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    parts = ElementTree.parse(save_figure(drawn(), tmp_path / "a.svg")).getroot()
    assert not list(parts.iter("{http://www.w3.org/2000/svg}text"))
    assert "20" not in "".join(parts.find(".//{*}metadata").itertext())  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["fig.jpg", "fig", "fig.eps", "fig.pdf.txt", ".png", "folder/fig.tiff"])
def test_other_formats_are_refused_with_the_three_that_there_are(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--figure takes a \.pdf, \.svg or \.png file, not .*" + name):
        check_figure(tmp_path / name, "--figure")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("")
    (tmp_path / "folder.pdf").mkdir()
    with pytest.raises(UsageError, match="cannot be written to"):
        check_figure(tmp_path / "occupied" / "a.pdf", "--output")
    with pytest.raises(UsageError, match="is a folder"):
        check_figure(tmp_path / "folder.pdf", "--output")
    with pytest.raises(WriteError, match=r"cannot write .*a\.pdf"):
        save_figure(drawn(), tmp_path / "occupied" / "a.pdf")
    with pytest.raises(UsageError, match=r"--output takes a folder; for the picture alone: --figure .*fig\.pdf"):
        figure_file(tmp_path / "fig.pdf", None, "sweep")
    assert figure_file(tmp_path / "runs", None, "sweep") == tmp_path / "runs" / "sweep.png"
    assert figure_file(tmp_path / "runs", tmp_path / "a.svg", "sweep") == tmp_path / "a.svg"
