"""Pictures that rows name: files of their own folder, in formats that are grids of pixels, and nothing else."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, UnidentifiedImageError
from runs import Finished

from avar_eval.errors import AvarError
from avar_eval.pictures import ALLOW_OUTSIDE, FORMATS, OutsideError, open_picture, picture_path
from avar_eval.recipes.data import load
from avar_eval.tasks.catalog import catalog
from avar_eval.tasks.data import verify
from avar_eval.tasks.files import DataError, with_pictures

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n8 8 scale\n%%EOF\n"
URLS = [
    "http://127.0.0.1:{port}/a.png",
    "HTTPS://127.0.0.1:{port}/a.png",
    "file:///etc/hostname",
    "data:image/png;base64,AA",
]


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A folder of rows with one picture inside, another picture outside, and ways to it."""
    inside, outside = tmp_path / "rows", tmp_path / "private"
    inside.mkdir()
    outside.mkdir()
    Image.new("RGB", (56, 56), "white").save(inside / "own.png")
    Image.new("RGB", (56, 56), "black").save(outside / "secret.png")
    (inside / "linked.png").symlink_to(outside / "secret.png")
    (inside / "folder").symlink_to(outside)
    (inside / "alias.png").symlink_to(inside / "own.png")
    (inside / "circle.png").symlink_to(inside / "circle.png")
    return inside


WAYS = [
    "{outside}/secret.png",
    "../private/secret.png",
    "linked.png",
    "folder/secret.png",
    "./x/../../private/secret.png",
]


def way(form: str, places: Path) -> str:
    return form.format(outside=places.parent / "private")


@pytest.mark.parametrize("form", WAYS)
def test_no_way_leads_outside_unless_it_is_allowed(form: str, places: Path) -> None:
    (places / "x").mkdir()
    with pytest.raises(OutsideError, match=r"is not inside .*--allow-outside"):
        picture_path(places, way(form, places), allow_outside=False)
    assert picture_path(places, way(form, places), allow_outside=True).samefile(places.parent / "private/secret.png")


@pytest.mark.parametrize("name", ["own.png", "alias.png", "folder/../rows/own.png", "missing.png", "a/b/missing.png"])
def test_what_is_inside_is_taken_however_it_is_written(name: str, places: Path) -> None:
    assert picture_path(places, name, allow_outside=False) == places / name


def test_a_folder_that_is_itself_a_link_holds_its_pictures(places: Path) -> None:
    (places.parent / "link").symlink_to(places)
    assert picture_path(places.parent / "link", "own.png", allow_outside=False).is_file()


@pytest.mark.parametrize("name", ["circle.png", "x" * 5000, "a\0b.png"])
def test_what_is_no_name_of_a_file_says_so(name: str, places: Path) -> None:
    with pytest.raises(OutsideError, match="no name of a file"):
        picture_path(places, name, allow_outside=True)


@pytest.mark.parametrize("url", URLS)
def test_nothing_is_fetched(url: str, places: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        url = url.format(port=listener.getsockname()[1])
        for image in (url, {"path": url, "bytes": None}, {"path": url}):
            row = {"prompt": "<image>What?", "completion": "This.", "images": [image]}
            with pytest.raises(AvarError, match=r"row 0 of .*nothing is fetched"):
                load(rows(places, [row]), "sft", system_prompt=None)
        with pytest.raises(OutsideError, match="nothing is fetched"):
            picture_path(places, url, allow_outside=True)
        with pytest.raises(TimeoutError):
            listener.accept()


def rows(places: Path, rows: list[dict[str, Any]]) -> str:
    path = places / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("form", WAYS)
@pytest.mark.parametrize("as_dict", [False, True])
def test_training_rows_name_pictures_of_their_folder(
    form: str, as_dict: bool, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (places / "x").mkdir()
    name = way(form, places)
    row = {"prompt": "<image>What?", "completion": "This.", "images": [{"path": name} if as_dict else name]}
    source = rows(places, [row])
    with pytest.raises(AvarError, match=r"row 0 of .*is not inside .*--allow-outside"):
        load(source, "sft", system_prompt=None)
    (read,) = load(source, "sft", system_prompt=None, allow_outside=True)
    assert read["images"][0].getpixel((0, 0)) == (0, 0, 0)
    monkeypatch.setenv(ALLOW_OUTSIDE, "1")
    assert len(load(source, "sft", system_prompt=None)) == 1


@pytest.mark.parametrize("form", ["{outside}/secret.png", "../../private/secret.png", "images/linked.png"])
def test_a_benchmarks_rows_name_pictures_of_the_data_folder(mathvista: Path, tmp_path: Path, form: str) -> None:
    (tmp_path / "private").mkdir()
    Image.new("RGB", (56, 56)).save(tmp_path / "private" / "secret.png")
    folder = mathvista / "mathvista"
    (folder / "images" / "linked.png").symlink_to(tmp_path / "private" / "secret.png")
    lines = (folder / "rows.jsonl").read_text().replace("images/3.png", form.format(outside=tmp_path / "private"))
    (folder / "rows.jsonl").write_text(lines)
    with pytest.raises(DataError, match=r"row 3 of .*rows\.jsonl: its picture .* is not inside"):
        with_pictures(catalog()["mathvista"], mathvista)
    complete, left_out = with_pictures(catalog()["mathvista"], mathvista, allow_outside=True)
    assert (len(complete), left_out) == (3, {"2": "its picture is missing"})
    assert any("is not inside" in problem for problem in verify(catalog()["mathvista"], mathvista).problems)


def test_the_command_refuses_before_it_asks_and_obeys_the_option(
    avar_eval: Callable[..., Finished], mathvista: Path, tmp_path: Path
) -> None:
    shutil.move(mathvista / "mathvista/images/3.png", tmp_path / "outside.png")
    (mathvista / "mathvista/images/3.png").symlink_to(tmp_path / "outside.png")
    command = (
        "--model",
        "avar-tiny",
        "--tasks",
        "mathvista",
        "--data-dir",
        str(mathvista),
        "--output",
        str(tmp_path / "run"),
    )
    refused = avar_eval(*command)
    assert refused.code == 1
    assert "is not inside" in refused.stderr
    assert "--allow-outside" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert (tmp_path / "run/records.jsonl").read_text() == ""
    allowed = avar_eval(*command, "--allow-outside")
    assert allowed.code == 0, allowed.stderr


def test_other_formats_are_not_opened_whatever_they_are_called(mathvista: Path, tmp_path: Path) -> None:
    disguised = mathvista / "mathvista/images/3.png"
    disguised.write_bytes(EPS)
    with pytest.raises(UnidentifiedImageError):
        open_picture(disguised)
    _, left_out = with_pictures(catalog()["mathvista"], mathvista)
    assert sorted(left_out.values()) == ["its picture is broken", "its picture is missing"]
    row = {"prompt": "<image>What?", "completion": "This.", "images": [str(disguised.name)]}
    with pytest.raises(AvarError, match="cannot be read"):
        load(rows(disguised.parent, [row]), "sft", system_prompt=None)


def test_libraries_that_open_pictures_start_no_other_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr("subprocess.check_call", lambda *of, **_: started.append(of))
    monkeypatch.setattr("subprocess.check_output", lambda *of, **_: started.append(of))
    (tmp_path / "a.png").write_bytes(EPS)
    with Image.open(tmp_path / "a.png") as opened, pytest.raises(OSError, match="Ghostscript"):
        opened.load()
    assert not started


@pytest.mark.parametrize("form", FORMATS)
def test_the_usual_formats_are_opened(form: str, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "picture", form)
    with open_picture(tmp_path / "picture") as opened:
        assert opened.convert("RGB").getpixel((4, 4))[0] > 250  # type: ignore[index]
