"""`avar-eval data`: fetching from a local stand-in for the hub, and checking what is on the disk."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image
from runs import mathvista_row
from typer.testing import CliRunner, Result

from avar_eval.cli import app
from avar_eval.tasks import catalog as catalog_module
from avar_eval.tasks import data as data_module
from avar_eval.tasks.catalog import TaskEntry, catalog
from avar_eval.tasks.data import Manifest, fetch, verify
from avar_eval.tasks.files import DataError
from avar_eval.tasks.rows import rows_from_folder


def picture(shade: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (9, 7), (shade, shade, shade)).save(content, "PNG")
    return content.getvalue()


def mathvista_hub(folder: Path, n: int = 6) -> Path:
    """A dataset as the hub has it: `image` is a name, `decoded_image` the picture."""
    rows = [
        mathvista_row(str(i)) | {"image": f"images/{i}.jpg", "decoded_image": {"bytes": picture(i), "path": None}}
        for i in range(n)
    ]
    table = datasets.Dataset.from_list(rows).cast_column("decoded_image", datasets.Image())
    (folder / "data").mkdir(parents=True)
    table.to_parquet(folder / "data" / "testmini-00000-of-00001.parquet")
    return folder


def mathverse_hub(folder: Path) -> Path:
    """Two configurations, the second one without pictures; row numbers begin anew."""
    folder.mkdir()
    asked = {"question_type": "free-form", "question": "Find the angle.", "answer": "90"}
    versions = ("Text Dominant", "Text Lite", "Vision Intensive", "Vision Dominant", "Vision Only")
    rows = [
        {"sample_index": str(i), "problem_version": version, "image": {"bytes": picture(i), "path": None}} | asked
        for i, version in enumerate(versions, start=1)
    ]
    table = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    table.to_parquet(folder / "testmini.parquet")
    text_only = [{"sample_index": str(i), "problem_version": "Text Only", "image": ""} | asked for i in (1, 2)]
    datasets.Dataset.from_list(text_only).to_parquet(folder / "testmini_text_only.parquet")
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: {name}\n    path: {name}.parquet\n"
        for name in ("testmini", "testmini_text_only")
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    return folder


def dynamath_hub(folder: Path) -> Path:
    (folder / "data").mkdir(parents=True)
    asked = {"question": "How long is it?", "answer_type": "float", "ground_truth": "1.5", "image": "x.png"}
    for variant in range(1, 11):
        rows = [{"id": str(i), "decoded_image": {"bytes": picture(variant), "path": None}} | asked for i in (7, 8)]
        table = datasets.Dataset.from_list(rows).cast_column("decoded_image", datasets.Image())
        table.to_parquet(folder / "data" / f"sample_variant{variant}-00000-of-00001.parquet")
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, TaskEntry]:
    """The catalog with local datasets in the place of the hub's."""
    sources = {
        "mathvista": mathvista_hub(tmp_path / "hub" / "mathvista"),
        "mathverse": mathverse_hub(tmp_path / "hub" / "mathverse"),
        "dynamath": dynamath_hub(tmp_path / "hub" / "dynamath"),
    }
    local = {
        name: entry.model_copy(update={"dataset": str(sources[entry.data]), "rows": None})
        if entry.data in sources
        else entry
        for name, entry in catalog().items()
    }
    monkeypatch.setattr(catalog_module, "catalog", lambda: local)
    monkeypatch.setattr(data_module, "catalog", lambda: local)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return local


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["data", *arguments])


def fetched(entries: dict[str, TaskEntry], name: str, data_dir: Path) -> tuple[Path, Manifest]:
    (made,) = fetch([entries[name]], data_dir)
    return made


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "images").iterdir()}


def test_fetched_rows_are_what_a_run_reads(hub: dict[str, TaskEntry], tmp_path: Path) -> None:
    folder, manifest = fetched(hub, "mathvista", tmp_path / "data")
    assert folder == tmp_path / "data" / "mathvista"
    assert (manifest.rows, manifest.tasks, len(manifest.pictures)) == (6, {"mathvista": 6}, 6)
    assert manifest.revision == catalog()["mathvista"].revision
    assert lines(folder)[2].keys() == mathvista_row("2").keys()
    rows, left_out = rows_from_folder(tmp_path / "data", hub["mathvista"])
    assert left_out == {}
    assert [row["pid"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert [row["image"].getpixel((0, 0)) for row in rows] == [(i, i, i) for i in range(6)]
    assert (folder / lines(folder)[3]["image"]).read_bytes() == picture(3), "as published, not encoded anew"
    assert verify(hub["mathvista"], tmp_path / "data").problems == []


def test_a_folder_holds_the_rows_of_all_tasks_that_share_it(hub: dict[str, TaskEntry], tmp_path: Path) -> None:
    folder, manifest = fetched(hub, "mathverse_vo", tmp_path)
    names = ("td", "tl", "to", "vd", "vi", "vo")
    assert manifest.tasks == {f"mathverse_{name}": 2 if name == "to" else 1 for name in names}
    assert (manifest.rows, len(manifest.pictures), len(lines(folder))) == (7, 5, 7)
    for name in names:
        assert verify(hub[f"mathverse_{name}"], tmp_path).problems == []
    assert verify(hub["mathverse_to"], tmp_path).pictures == 0


def test_ten_splits_become_ten_variants(hub: dict[str, TaskEntry], tmp_path: Path) -> None:
    folder, manifest = fetched(hub, "dynamath", tmp_path)
    assert manifest.rows == 20
    ids = [hub["dynamath"].row_id(row) for row in lines(folder)]
    assert ids[:4] == ["7_v1", "8_v1", "7_v2", "8_v2"]
    assert ids[-1] == "8_v10"
    assert Image.open(folder / lines(folder)[5]["image"]).getpixel((0, 0)) == (3, 3, 3)
    assert verify(hub["dynamath"], tmp_path).problems == []


def test_a_whole_folder_is_left_as_it_is(hub: dict[str, TaskEntry], tmp_path: Path) -> None:
    folder, _ = fetched(hub, "mathvista", tmp_path)
    before = (stamps(folder), (folder / "rows.jsonl").stat().st_mtime_ns)
    fetched(hub, "mathvista", tmp_path)
    assert (stamps(folder), (folder / "rows.jsonl").stat().st_mtime_ns) == before


@pytest.mark.parametrize("damaged", ["rows.jsonl", "manifest.json", "picture"])
def test_a_damaged_folder_is_mended(hub: dict[str, TaskEntry], tmp_path: Path, damaged: str) -> None:
    folder, _ = fetched(hub, "mathvista", tmp_path)
    path = folder / (lines(folder)[1]["image"] if damaged == "picture" else damaged)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert verify(hub["mathvista"], tmp_path).problems
    fetched(hub, "mathvista", tmp_path)
    assert path.read_bytes() == whole
    assert verify(hub["mathvista"], tmp_path).problems == []


def test_another_revision_replaces_rows_and_pictures_but_nothing_of_the_users(
    hub: dict[str, TaskEntry], tmp_path: Path
) -> None:
    folder, manifest = fetched(hub, "mathvista", tmp_path / "data")
    (folder / "images" / "mine.png").write_bytes(picture(1))
    newer = mathvista_hub(tmp_path / "newer", n=2)
    hub["mathvista"] = hub["mathvista"].model_copy(update={"dataset": str(newer), "revision": "b" * 40})
    _, after = fetched(hub, "mathvista", tmp_path / "data")
    assert (after.rows, after.revision) == (2, "b" * 40)
    assert {path.name for path in (folder / "images").iterdir()} == {
        *(Path(path).name for path in after.pictures),
        "mine.png",
    }
    assert len(manifest.pictures) == 6


def test_rows_that_no_fetch_has_written_are_not_touched(
    hub: dict[str, TaskEntry], mathvista: Path, tmp_path: Path
) -> None:
    before = (mathvista / "mathvista" / "rows.jsonl").read_bytes()
    with pytest.raises(DataError, match="has not written: choose another --data-dir"):
        fetched(hub, "mathvista", mathvista)
    assert (mathvista / "mathvista" / "rows.jsonl").read_bytes() == before


KILLED = """
import os, signal, sys
from pathlib import Path
import avar_eval.tasks.catalog as catalog_module, avar_eval.tasks.data as data_module
entry = catalog_module.catalog()["mathvista"].model_copy(update={"dataset": sys.argv[1], "rows": None})
data_module.catalog = catalog_module.catalog = lambda: {"mathvista": entry}
store, calls = data_module._store, []
def dying(*arguments):
    calls.append(arguments)
    if len(calls) > 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return store(*arguments)
data_module._store = dying
list(data_module.fetch([entry], Path(sys.argv[2])))
"""


def test_a_killed_fetch_goes_on_where_it_stopped(hub: dict[str, TaskEntry], tmp_path: Path) -> None:
    folder = tmp_path / "data" / "mathvista"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, hub["mathvista"].dataset, tmp_path / "data"],
        env=os.environ | {"HF_HOME": str(tmp_path / "home")},
        capture_output=True,
        cwd=tmp_path,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    kept = stamps(folder)
    assert len(kept) == 3
    assert not (folder / "rows.jsonl").exists()
    assert "there is no" in verify(hub["mathvista"], tmp_path / "data").problems[0]
    fetched(hub, "mathvista", tmp_path / "data")
    assert {name: stamp for name, stamp in stamps(folder).items() if name in kept} == kept
    assert verify(hub["mathvista"], tmp_path / "data").problems == []


def test_a_second_fetch_at_the_same_time_is_refused(hub: dict[str, TaskEntry], tmp_path: Path) -> None:
    with data_module._writing(tmp_path), pytest.raises(DataError, match="another fetch is writing"):
        fetched(hub, "mathvista", tmp_path)


def test_a_folder_that_cannot_be_written_is_named(hub: dict[str, TaskEntry], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write to .*file"):
        fetched(hub, "mathvista", tmp_path / "file")


def test_the_command_line_fetches_and_verifies(hub: dict[str, TaskEntry], tmp_path: Path) -> None:
    made = run("fetch", "mathvista,shapes", "--data-dir", str(tmp_path))
    assert made.exit_code == 0, made.output
    assert "shapes: comes in a package, nothing to fetch" in made.stderr
    assert f"{tmp_path / 'mathvista'}: 6 rows, 6 pictures, " in made.stderr
    checked = run("verify", "math_vista", "--data-dir", str(tmp_path))
    assert checked.exit_code == 0, checked.output
    assert ["mathvista", "6", "6", "none"] in [line.split() for line in checked.stdout.splitlines()]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda image, rows: image.write_bytes(image.read_bytes()[:40]), "is broken"),
        (lambda image, rows: image.write_bytes(picture(99)), "is not the one that manifest.json describes"),
        (lambda image, rows: image.unlink(), "is missing"),
        (
            lambda image, rows: rows.write_text(rows.read_text() + rows.read_text()),
            "line 7: the id 0 is that of line 1",
        ),
        (lambda image, rows: rows.write_text("".join(rows.open().readlines()[:5])), "5 rows, but manifest.json says 6"),
        (lambda image, rows: rows.write_text(rows.read_text().replace('"7"', '"8"')), "is not the file that"),
        (lambda image, rows: rows.write_text(rows.read_text()[:-9]), "line 6 is damaged"),
        (lambda image, rows: (rows.parent / "manifest.json").unlink(), "no manifest.json"),
        (
            lambda image, rows: (rows.parent / "manifest.json").write_text("{}"),
            "manifest.json is damaged (it has no dataset)",
        ),
    ],
)
def test_damage_is_named_and_ends_with_code_1(
    hub: dict[str, TaskEntry], tmp_path: Path, damage: Any, expected: str
) -> None:
    folder, _ = fetched(hub, "mathvista", tmp_path)
    damage(folder / lines(folder)[0]["image"], folder / "rows.jsonl")
    checked = run("verify", "mathvista", "--data-dir", str(tmp_path))
    assert checked.exit_code == 1
    assert expected in checked.stderr


def test_fewer_rows_than_published_are_a_problem(hub: dict[str, TaskEntry], tmp_path: Path) -> None:
    fetched(hub, "mathvista", tmp_path)
    published = hub["mathvista"].model_copy(update={"rows": 1000})
    assert verify(published, tmp_path).problems == ["6 rows, of 1000 that the benchmark has"]


def test_rows_that_name_no_picture_are_a_problem(hub: dict[str, TaskEntry], mathvista: Path) -> None:
    rows = lines(mathvista / "mathvista")
    text = "".join(json.dumps(row | {"image": None}) + "\n" for row in rows)
    (mathvista / "mathvista" / "rows.jsonl").write_text(text)
    assert "4 rows name no picture in `image`: 1, 2, 3, 4" in verify(hub["mathvista"], mathvista).problems


@pytest.mark.parametrize(
    "environment",
    [{"HF_HUB_OFFLINE": "1"}, {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}],
    ids=["offline", "unreachable"],
)
def test_without_network_one_message_says_so(tmp_path: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from avar_eval.cli import main; main()", "data", "fetch", "mathvista"],
        env=os.environ | {"AVAR_DATA_DIR": str(tmp_path / "data"), "HF_HOME": str(tmp_path / "home")} | environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(
        "avar-eval: the dataset AI4Math/MathVista is neither in the cache nor can it be had from the Hugging Face hub"
    )
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data" / "mathvista").exists()
