"""Rows from a data folder: damaged ones are named, those without a picture are left out, the rest is read as it is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from runs import mathvista_row

from avar_eval.answers import Judgement
from avar_eval.records.record import JudgementRecord, Record, Response
from avar_eval.tasks.catalog import catalog, find_tasks, get_judge, task_config
from avar_eval.tasks.files import DataError
from avar_eval.tasks.rows import DATA_DIR_VARIABLE, RowsTask, mean_of_known, response_metrics, rows_from_folder

ENTRY = catalog()["mathvista"]

Rewrite = Callable[[list[dict[str, Any]]], str]


@pytest.fixture
def folder(mathvista: Path) -> Path:
    """Four rows, the second without its picture."""
    return mathvista / "mathvista"


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def without(row: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != field}


def rewrite(folder: Path, text: str) -> None:
    (folder / "rows.jsonl").write_text(text, encoding="utf-8")


def test_rows_and_pictures_are_read(folder: Path) -> None:
    rows, left_out = rows_from_folder(folder.parent, ENTRY)
    assert left_out == {"2": "its picture is missing"}
    assert rows["pid"] == ["1", "3", "4"]
    assert rows[0]["image"].size == (56, 56)
    assert {name: value for name, value in rows[1].items() if name != "image"} == {
        name: value for name, value in mathvista_row("3").items() if name != "image"
    }


def test_the_folder_of_a_run_goes_before_the_environment_s(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(DataError, match="gone"):
        RowsTask(task_config(ENTRY))
    assert RowsTask(task_config(ENTRY), folder.parent).left_out == {"2": "its picture is missing"}
    Image.new("RGB", (8, 8)).save(tmp_path / "outside.png")
    rewrite(folder, lines([mathvista_row("1") | {"image": str(tmp_path / "outside.png")}]))
    with pytest.raises(DataError, match="is not inside"):
        RowsTask(task_config(ENTRY), folder.parent)
    assert RowsTask(task_config(ENTRY), folder.parent, allow_outside=True).left_out == {}


def test_a_row_without_a_path_is_left_out(folder: Path) -> None:
    rewrite(
        folder, lines([mathvista_row("1"), mathvista_row("3") | {"image": None}, mathvista_row("4") | {"image": ""}])
    )
    rows, left_out = rows_from_folder(folder.parent, ENTRY)
    assert (rows["pid"], left_out) == (["1"], dict.fromkeys("34", "its picture is missing"))


def test_a_folder_in_a_pictures_place_is_a_missing_picture(folder: Path) -> None:
    (folder / "images" / "2.png").mkdir()
    assert rows_from_folder(folder.parent, ENTRY)[1] == {"2": "its picture is missing"}


@pytest.mark.parametrize("letter", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_a_line_ends_at_a_line_feed_only(folder: Path, letter: str) -> None:
    row = mathvista_row("1") | {"question": f"one{letter}two"}
    rewrite(folder, lines([row]) if ord(letter) > 0x1F else lines([row]).replace(json.dumps(letter)[1:-1], letter))
    if ord(letter) > 0x1F:
        assert rows_from_folder(folder.parent, ENTRY)[0]["question"] == [row["question"]]
    else:  # JSON wants it escaped: the line is damaged, but it is one line
        with pytest.raises(DataError, match="line 1 is damaged"):
            rows_from_folder(folder.parent, ENTRY)


def test_the_last_line_may_lack_its_end(folder: Path) -> None:
    rewrite(folder, lines([mathvista_row("1"), mathvista_row("3")])[:-1])
    assert rows_from_folder(folder.parent, ENTRY)[0]["pid"] == ["1", "3"]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda rows: lines(rows)[:-30], r"rows\.jsonl, line 4 is damaged"),
        (lambda rows: lines(rows[:2]) + "\n" + lines(rows[2:]), r"rows\.jsonl, line 3 is damaged"),
        (lambda rows: lines(rows[:1]) + "7\n" + lines(rows[1:]), r"line 2 is no row with the fields image, pid"),
        (lambda rows: lines(rows[:1]) + '"pid image"\n', r"line 2 is no row with the fields image, pid"),
        (lambda rows: lines(rows) + '{"pid": "9"}\n', r"line 5 is no row with the fields image, pid"),
        (
            lambda rows: lines([rows[0], rows[2] | {"answer": 7}]),
            r"mathvista do not make a table: `answer` is \".*\" in row 1 and 7 in row 3: write it alike in all rows",
        ),
        (
            lambda rows: lines([rows[0] | {"seen": 10**30}]),
            r"do not make a table: `seen` is 10{30} in row 1: write it as a text, or leave it out",
        ),
        (
            lambda rows: lines([rows[0] | {"n": [1]}, rows[2] | {"n": {"a": 1}}]),
            r"`n` is a list of 1 in row 1 and an obj",
        ),
        (lambda rows: lines(rows[1:2]), r"has no row with its picture"),
        (lambda rows: "", r"rows\.jsonl is empty"),
        (lambda rows: lines(rows) + lines(rows[:1]), r"line 5: the id 1 is that of line 1"),
        (
            lambda rows: lines([rows[0], without(rows[2], "query")]),
            r"line 2 is no row .*: 'query' is missing",
        ),
        (lambda rows: lines([without(rows[0], "answer_type")]), r"line 1 is no row .*: 'answer_type' is missing"),
        (
            lambda rows: lines([rows[0] | {"query": "How many?"}]),
            r"line 1 is no row .* does not begin with .*Hint",
        ),
        (
            lambda rows: lines([rows[0] | {"query": 5}]),
            r"line 1 is no row of mathvista, whose fields are of other kinds: .*query is 5",
        ),
        (
            lambda rows: lines([rows[0], rows[2] | {"image": 5}]),
            r"line 2: `image` holds .* not 5",
        ),
        (lambda rows: lines([rows[0], rows[2] | {"answer": ""}]), r"line 2: the row has no answer to judge by"),
        (lambda rows: lines([rows[0], rows[2] | {"answer": None}]), r"line 2: the row has no answer to judge by"),
    ],
)
def test_a_damaged_line_is_named(folder: Path, damage: Rewrite, expected: str) -> None:
    rewrite(folder, damage([mathvista_row(str(pid)) for pid in range(1, 5)]))
    with pytest.raises(DataError, match=expected):
        rows_from_folder(folder.parent, ENTRY)


def test_a_file_that_is_not_text_is_named(folder: Path) -> None:
    (folder / "rows.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"rows\.jsonl cannot be read"):
        rows_from_folder(folder.parent, ENTRY)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no .*rows\.jsonl: --data-dir takes a folder"):
        rows_from_folder(tmp_path, ENTRY)


@pytest.mark.parametrize(
    "content",
    [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"GIF89a"],
    ids=["empty", "text", "header", "gif"],
)
def test_a_broken_picture_is_left_out_and_two_are_named(folder: Path, content: bytes) -> None:
    (folder / "images" / "3.png").write_bytes(content)
    assert "3" not in rows_from_folder(folder.parent, ENTRY)[0]["pid"]
    assert rows_from_folder(folder.parent, ENTRY)[1]["3"] == "its picture is broken"
    (folder / "images" / "1.png").write_bytes(content)
    with pytest.raises(DataError, match=r"the picture .*images/3\.png is broken"):
        rows_from_folder(folder.parent, ENTRY)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_picture_that_breaks_off_is_left_out(folder: Path, share: float) -> None:
    path = folder / "images" / "3.png"
    Image.effect_noise((64, 64), 50).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert rows_from_folder(folder.parent, ENTRY)[1]["3"] == "its picture is broken"


def test_a_picture_of_absurd_size_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match=r"the picture .*images/\d\.png is broken"):
        rows_from_folder(folder.parent, ENTRY)


def test_tasks_are_found_by_name_and_alias_in_any_case_and_once() -> None:
    found = find_tasks(["MathVista", "shapes", "math_vista"])
    assert [entry.name for entry in found] == ["mathvista", "shapes"]


def response(text: str, finish_reason: str) -> Response:
    return Response(
        Record(
            key="k",
            task="mathvista",
            row_id="1",
            sample=0,
            prompt="p",
            prompt_token_ids=[],
            response_token_ids=[],
            response=text,
            finish_reason=finish_reason,  # type: ignore[arg-type]
            judgement=JudgementRecord(state="scored", extracted="x", correct=False, grader="another"),
        )
    )


@pytest.mark.parametrize(
    ("text", "finish_reason", "accuracy", "truncated", "unparsed"),
    [
        ("<think>a</think><answer>7</answer>", "stop", 1.0, 0.0, 0.0),
        ("<think>a</think><answer>8</answer>", "stop", 0.0, 0.0, 0.0),
        ("<think>a, b, c", "length", 0.0, 1.0, 0.0),
        ("I do not know.", "stop", 0.0, 0.0, 1.0),
    ],
)
def test_a_response_is_judged_anew_with_its_finish_reason(
    text: str, finish_reason: str, accuracy: float, truncated: float, unparsed: float
) -> None:
    metrics = response_metrics(get_judge("mathvista"))(mathvista_row("1"), [response(text, finish_reason)])
    assert metrics == {
        "accuracy": accuracy,
        "official": accuracy,
        "truncated": truncated,
        "unparsed": unparsed,
        "vas": None,
        "vas_response": None,
    }


def test_a_record_of_today_s_grader_is_not_judged_again() -> None:
    def judge(*_: object) -> Judgement:
        raise AssertionError("it is judged already")

    metrics = response_metrics(judge, "another")(mathvista_row("1"), [response("<answer>7</answer>", "stop")])
    assert (metrics["accuracy"], metrics["official"], metrics["unparsed"]) == (0.0, None, 0.0)


def test_a_plain_models_text_is_judged_without_attention() -> None:
    metrics = response_metrics(get_judge("mathvista"))(mathvista_row("1"), ["<answer>7</answer>"])
    expected = {"accuracy": 1.0, "official": 1.0, "truncated": 0.0, "unparsed": 0.0, "vas": None, "vas_response": None}
    assert metrics == expected


def test_the_mean_leaves_out_what_is_unknown() -> None:
    assert mean_of_known([1.0, None, 2.0]) == 1.5
    assert mean_of_known([None]) != mean_of_known([None]), "nan"
