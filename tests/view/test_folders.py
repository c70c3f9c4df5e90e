"""A viewer's folder: which runs, pictures and folders it is made from, what it says is lacking, who is served it."""

import http.client
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invented_run import invented_data, invented_run
from PIL import Image
from runs import Finished

from avar_eval.errors import AvarError
from avar_eval.pictures import image_sha256
from avar_eval.view.page import build_viewer
from avar_eval.view.rows import own_texts
from avar_eval.view.server import served
from avar_eval.view.task_rows import data_folder

EARLIER = Path(__file__).parents[1] / "results" / "run_of_an_earlier_version"


def data(folder: Path, name: str) -> Any:
    """The content of one of the page's files of data."""
    text = (folder / "data" / f"{name}.js").read_text()
    head = f'viewer.take("{name}",'
    assert text.startswith(head)
    return json.loads(json.loads(text[len(head) :].rstrip().removesuffix(")")))


def content(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_run_of_before_references_and_hashes_were_kept_has_both_from_its_rows(tmp_path: Path) -> None:
    assert build_viewer([EARLIER], tmp_path / "page") == []
    lines, shown = data(tmp_path / "page", "0-0"), data(tmp_path / "page", "0-0-0")
    assert [(one["id"], one["sample"]) for one in lines] == [
        ("test-0-0", 0),
        ("test-0-0", 1),
        ("test-0-1", 0),
        ("test-0-1", 1),
    ]
    assert all(one["reference"] for one in shown)
    for one in shown:
        assert [(tmp_path / "page" / "pictures" / name).is_file() for name in one["pictures"]] == [True]


def test_pictures_are_those_that_were_asked_about(tmp_path: Path) -> None:
    """A row's picture that is not the one with the recorded hash is not passed off as it."""
    folder = invented_data(tmp_path / "data", 4)
    with Image.open(folder / "mathvista" / "images" / "1.png") as picture:
        sha256 = image_sha256(picture)
    changes = {number: {"image_sha256": [sha256]} for number in range(3)}
    run = invented_run(tmp_path / "run", ["7"] * 4, changes=changes)
    (folder / "mathvista" / "images" / "3.png").unlink()
    problems = build_viewer([run], tmp_path / "page", folder)
    assert len(problems) == 1
    assert problems[0].startswith("mathvista: 2 of 4 rows are shown without a picture that they were asked with")
    found = [one["pictures"] for one in data(tmp_path / "page", "0-0-0")]
    assert found == [[f"{sha256[:24]}.png"], [None], [None], found[3]]
    assert None not in found[3]


def test_a_run_is_shown_without_data_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = invented_run(tmp_path / "run", ["7", "8"], changes={0: {"reference": None}})
    problems = build_viewer([run], tmp_path / "page", tmp_path / "nowhere")
    assert len(problems) == 1
    assert "--data-dir takes a folder" in problems[0]
    assert [one["reference"] for one in data(tmp_path / "page", "0-0-0")] == [None, "7"]
    lines = (run / "records.jsonl").read_text()
    for file in ("records.jsonl", "asked.json", "results.json"):
        (run / file).write_text((run / file).read_text().replace('"mathvista"', '"nobodys"'))
    assert lines != (run / "records.jsonl").read_text()
    (problem,) = build_viewer([run], tmp_path / "page", tmp_path / "nowhere")
    assert (
        problem == "nobodys: this avar-eval does not know the task nobodys: --include-path takes the folder that has it"
    )


def test_a_run_finds_the_data_that_its_command_named(tmp_path: Path) -> None:
    (tmp_path / "my data").mkdir()
    for command, found in {
        f"avar-eval --data-dir '{tmp_path}/my data' --tasks mathvista": tmp_path / "my data",
        f"avar-eval '--data-dir={tmp_path}/my data'": tmp_path / "my data",
        f"avar-eval --data-dir {tmp_path}/gone": None,
        "avar-eval --data-dir": None,
        "avar-eval --tasks 'mathvista": None,
        "": None,
    }.items():
        assert data_folder(command) == found, command


def test_the_same_runs_give_the_same_bytes_and_another_viewer_makes_way(tmp_path: Path) -> None:
    folder = invented_data(tmp_path / "data", 3)
    three, two = (invented_run(tmp_path / str(n), ["7"] * n, model=str(n)) for n in (3, 2))
    build_viewer([three], tmp_path / "page", folder)
    first = content(tmp_path / "page")
    build_viewer([two], tmp_path / "page", folder)
    assert len(content(tmp_path / "page")) == len(first) - 1, "the third picture is not in it any more"
    build_viewer([three, three], tmp_path / "page", folder)
    assert content(tmp_path / "page") == first


def test_a_page_that_was_cut_short_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = invented_run(tmp_path / "run", ["7"])
    folder = invented_data(tmp_path / "data", 1)
    with monkeypatch.context() as patch:
        patch.setattr("avar_eval.view.page.own_texts", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build_viewer([run], tmp_path / "page", folder)
    assert "not written to its end" in (tmp_path / "page" / "index.html").read_text()
    assert build_viewer([run], tmp_path / "page", folder) == []
    assert "not written to its end" not in (tmp_path / "page" / "index.html").read_text()


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    run = invented_run(tmp_path / "run", ["7"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.html").write_text("<p>mine</p>")
    before = content(tmp_path / "other")
    for place in (tmp_path / "other", run, tmp_path / "other" / "index.html"):
        with pytest.raises(AvarError, match=r"holds something else|cannot be written"):
            build_viewer([run], place)
    assert content(tmp_path / "other") == before


def test_what_is_no_run_is_one_message(avar_eval: Callable[..., Finished], tmp_path: Path) -> None:
    damaged = invented_run(tmp_path / "damaged", ["7", "8"])
    with (damaged / "records.jsonl").open("a") as file:
        file.write('{"key": "1"}\n')
    short = invented_run(tmp_path / "short", ["7", "8"])
    (short / "records.jsonl").write_text((short / "records.jsonl").read_text().splitlines(keepends=True)[0])
    for folder, message in {
        tmp_path / "nowhere": "holds no finished run",
        damaged: "records.jsonl, line 3 is not a record",
        short: "lacks 1 of the run's records",
    }.items():
        done = avar_eval("view", str(folder), "--output", str(tmp_path / "page"))
        assert (done.code, done.stdout) == (1, "")
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "page").exists()


def test_a_server_answers_this_machine_alone(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>here</p>")
    with served(tmp_path) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        port = server.server_port
        for host, status in {f"127.0.0.1:{port}": 200, f"localhost:{port}": 200, "evil.example": 403}.items():
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/", headers={"Host": host})
            reply = connection.getresponse()
            assert (reply.status, b"here" in reply.read()) == (status, status == 200)
        with pytest.raises(AvarError, match=f"--port {port} cannot be used"), served(tmp_path, port):
            pass
        server.shutdown()


def test_questions_are_told_apart_in_any_template() -> None:
    turns = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n<image>{}\nAnswer with a letter.<|im_end|>"
    questions = ["How many cats are there?\n(A) 1\n(B) 2", "How many dogs are there?\n(A) 3\n(B) 4"]
    shown = [" ".join(question.split()) for question in questions]
    assert own_texts([turns.format(question) for question in questions]) == shown
    assert own_texts([turns.format(questions[0])] * 2)[0].startswith("system Be brief.")
    assert own_texts(["a", ""]) == ["a", ""]
    assert own_texts([]) == []


def test_a_run_folder_can_be_read_only(tmp_path: Path) -> None:
    run = Path(shutil.copytree(EARLIER, tmp_path / "run"))
    before = content(run)
    build_viewer([run], tmp_path / "page")
    assert content(run) == before
