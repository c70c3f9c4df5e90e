"""Training rows: every accepted shape becomes the same table, and a row that does not fit is named."""

import json
from pathlib import Path
from typing import Any

import pytest
import training as runs
from PIL import Image

from avar_eval.errors import UsageError
from avar_eval.recipes.data import drop_too_long, load
from avar_eval.recipes.sources import TrainingDataError, check_source
from avar_eval.tasks.shapes_prior.dataset import rows as prior_rows


def write(folder: Path, rows: list[Any], name: str = "train.jsonl") -> str:
    folder.mkdir(exist_ok=True)
    for index in range(3):
        Image.new("RGB", (56, 56), (80 * index, 0, 0)).save(folder / f"{index}.png")
    lines = json.dumps(rows) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in rows)
    (folder / name).write_text(lines)
    return str(folder)


def told(row: Any) -> list[tuple[str, str]]:
    """A conversation as (role, text), images as `<image>`."""
    turns = [*row["prompt"], *row.get("completion", [])]
    return [
        (turn["role"], "".join(part["text"] if part["type"] == "text" else "<image>" for part in turn["content"]))
        for turn in turns
    ]


SPEAKERS = ("human", "gpt", "human", "gpt")
SHAREGPT = {
    "conversations": [
        {"from": "human", "value": "<image>\nHow many? <image>"},
        {"from": "gpt", "value": "<think>I look again.</think><answer>2</answer>"},
    ],
    "images": ["0.png", "1.png"],
}
SAID = [
    ("system", "Be brief."),
    ("user", "<image>\nHow many? <image>"),
    ("assistant", "<think>I look again.</think><answer>2</answer>"),
]
ROLES = {
    "messages": [
        {"role": "user", "content": "<image>\nHow many? <image>"},
        {"role": "assistant", "content": "<think>I look again.</think><answer>2</answer>"},
    ],
    "images": ["0.png", "1.png"],
}
PARTS = {
    "prompt": [
        {
            "role": "user",
            "content": [
                {"type": "image"},
                {"type": "text", "text": "\nHow many? "},
                {"type": "image"},
            ],
        }
    ],
    "completion": [{"role": "assistant", "content": "<think>I look again.</think><answer>2</answer>"}],
    "images": ["0.png", "1.png"],
}


@pytest.mark.parametrize("row", [SHAREGPT, ROLES, PARTS])
@pytest.mark.parametrize("name", ["train.jsonl", "data.json"])
def test_every_format_is_the_same_conversation(tmp_path: Path, row: Any, name: str) -> None:
    (read,) = load(write(tmp_path, [row], name), "sft", system_prompt="Be brief.")
    assert told(read) == SAID
    assert [image.getpixel((0, 0)) for image in read["images"]] == [(0, 0, 0), (80, 0, 0)]


def test_the_system_turn_of_a_row_is_kept(tmp_path: Path) -> None:
    own = SHAREGPT | {"system": "Think."}
    (read,) = load(write(tmp_path, [own]), "sft", system_prompt="Be brief.")
    assert told(read)[0] == ("system", "Think.")


def test_images_without_a_place_begin_the_question(tmp_path: Path) -> None:
    row = {"prompt": "How many?", "completion": "2", "images": ["0.png", "1.png"]}
    (read,) = load(write(tmp_path, [row]), "sft", system_prompt=None)
    assert told(read) == [("user", "<image><image>How many?"), ("assistant", "2")]


def test_every_answer_of_a_conversation_is_trained_on_once(tmp_path: Path) -> None:
    more = [{"from": "human", "value": "And here? <image>"}, {"from": "gpt", "value": "Three."}]
    row = {"conversations": SHAREGPT["conversations"] + more, "images": ["0.png", "1.png", "2.png"]}  # type: ignore[operator]
    first, second = load(write(tmp_path, [row]), "sft", system_prompt=None)
    assert [told(read)[-1][1] for read in (first, second)] == [SAID[2][1], "Three."]
    assert [len(read["images"]) for read in (first, second)] == [2, 3]
    assert told(second)[:2] == SAID[1:]


def test_numbered_places_hold_the_images_of_their_numbers(tmp_path: Path) -> None:
    first, last = "<image2> Is <Image 1> like it?", "And <image2>?"
    said = [{"from": who, "value": words} for who, words in zip(SPEAKERS, (first, "No.", last, "Yes."), strict=True)]
    row = {"conversations": said, "images": ["0.png", "1.png"]}
    one, two = load(write(tmp_path, [row]), "sft", system_prompt=None)
    assert told(one) == [("user", "<image> Is <image> like it?"), ("assistant", "No.")]
    assert [image.getpixel((0, 0)) for image in one["images"]] == [(80, 0, 0), (0, 0, 0)]
    assert told(two)[2:] == [("user", "And <image>?"), ("assistant", "Yes.")]
    assert [image.getpixel((0, 0)) for image in two["images"]] == [(80, 0, 0), (0, 0, 0), (80, 0, 0)]


@pytest.mark.parametrize("nothing", [{"image": ""}, {"image": None}, {"images": []}, {"images": [""]}, {}])
def test_an_image_without_a_name_is_none(tmp_path: Path, nothing: dict[str, Any]) -> None:
    (read,) = load(write(tmp_path, [{"prompt": "Why?", "completion": "So."} | nothing]), "sft", system_prompt=None)
    assert read["images"] == []
    with pytest.raises(TrainingDataError, match="it has 0 images and 1 places"):
        load(write(tmp_path, [{"prompt": "<image>Why?", "completion": "So."} | nothing]), "sft", system_prompt=None)


def test_text_only_rows_stay_in_the_table(tmp_path: Path) -> None:
    text = {"prompt": "Why?", "completion": "So."}
    read = load(write(tmp_path, [SHAREGPT, text]), "sft", system_prompt=None)
    assert [len(row["images"]) for row in read] == [2, 0]


def test_rows_for_grpo_keep_what_a_response_is_judged_by(tmp_path: Path) -> None:
    row = {
        "prompt": "<image>Which?",
        "images": ["0.png"],
        "answer": "B",
        "answer_type": "choice",
        "choices": ["x", "y"],
    }
    (read,) = load(write(tmp_path, [row]), "grpo", system_prompt=None)
    assert (read["answer"], read["answer_type"], read["choices"]) == ("B", "choice", ["x", "y"])
    assert told(read) == [("user", "<image>Which?")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (SHAREGPT | {"images": ["0.png"]}, r"row 1 of .*: it has 1 images and 2 places"),
        (SHAREGPT | {"images": ["0.png", "9.png"]}, r"row 1 of .*: its image .*9\.png does not exist"),
        ({"prompt": "Why?"}, "no turn of the assistant"),
        ({"prompt": "Why?", "completion": " \n"}, "an answer of the assistant is empty"),
        ({"prompt": "<image1><image2>", "completion": "x", "images": ["0.png"]}, "it has 1 images and 2 places"),
        ({"prompt": "<image1><image3>", "completion": "x", "images": ["0.png", "1.png"]}, "numbered 1, 3,"),
        ({"prompt": "<image0><image1>", "completion": "x", "images": ["0.png", "1.png"]}, "numbered 0, 1,"),
        ({"prompt": "<image1> or <image>", "completion": "x", "images": ["0.png", "1.png"]}, "in two ways"),
        (PARTS | {"prompt": PARTS["prompt"] + [{"role": "user", "content": "And <image>?"}]}, "in two ways"),  # type: ignore[operator]
        ({"prompt": "Why?", "completion": "x", "image": {"path": "9.png", "bytes": None}}, r"9\.png does not exist"),
        ({"images": []}, "none of `conversations`, `messages` and `prompt`"),
        ({"conversations": [{"from": "tool", "value": "x"}]}, "speaker must be one of .* not 'tool'"),
        ({"prompt": [{"role": "user", "content": 3}], "completion": "x"}, "content must be text"),
        ({"prompt": "Why?", "completion": "<image>", "images": ["0.png"]}, "not the user's"),
        ([1], "no JSON object"),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(TrainingDataError, match=message):
        load(write(tmp_path, [SHAREGPT, row]), "sft", system_prompt=None)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match=r"holds none of rows.jsonl"):
        load(str(tmp_path), "sft", system_prompt=None)
    for name, content, said in (
        ("a.parquet", b"", "is no Parquet file, or not a whole one: fetch it again"),
        ("a.parquet", b"PAR1 that breaks off", "is no Parquet file, or not a whole one: fetch it again"),
        ("a.csv", b"a,b\n1,\xff\n", r"cannot be read \(it is no text in UTF-8: byte 3 is 0xff\): fetch it again"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TrainingDataError, match=rf"^{tmp_path / name} {said}$"):
            load(str(tmp_path), "sft", system_prompt=None)
        (tmp_path / name).unlink()
    (tmp_path / "train.jsonl").write_text(json.dumps(SHAREGPT | {"images": []}).replace("<image>", "") + '\n{"a": ')
    with pytest.raises(
        TrainingDataError, match=r"line 2 of .*train\.jsonl cannot be read: it is no JSON: it breaks off"
    ):
        load(str(tmp_path), "sft", system_prompt=None)
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(TrainingDataError, match="holds no rows"):
        load(str(tmp_path), "sft", system_prompt=None)
    for answer in ({}, {"answer": None}, {"answer": " "}):
        with pytest.raises(TrainingDataError, match="no `answer`"):
            load(write(tmp_path, [SHAREGPT | answer]), "grpo", system_prompt=None)
    for name in ("nothing", "nothing/here.jsonl", "./owner/name", "shapes,nothing"):
        with pytest.raises(UsageError, match="there is no training data"):
            check_source(name)
    check_source("owner/name@main, shapes_prior")


def test_shapes_comes_with_and_without_anchors() -> None:
    anchored, plain = (
        load("shapes", "sft", system_prompt=None, limit=20, thoughts=thoughts) for thoughts in ("anchored", "plain")
    )
    assert [told(row)[0] for row in anchored] == [told(row)[0] for row in plain]
    answers = [[told(row)[-1][1] for row in rows] for rows in (anchored, plain)]
    assert answers[0] != answers[1]
    assert all(answer.startswith("<think>") and answer.endswith("</answer>") for answer in answers[0])
    judged = load("shapes", "grpo", system_prompt=None, limit=20)
    assert {row["answer_type"] for row in judged} <= {"choice", "integer", "text"}
    with pytest.raises(UsageError, match="train or validation split"):
        load("shapes", "sft", system_prompt=None, split="test")


def test_several_sources_are_read_one_after_the_other(tmp_path: Path) -> None:
    both = load(f"shapes,shapes_prior,{write(tmp_path, [SHAREGPT])}", "sft", system_prompt=None, limit=4)
    assert len(both) == 9
    assert [told(row)[0][1].split("\n")[0] for row in both][4] == "<image>" + next(prior_rows("train"))["question"]
    alone = load("shapes_prior", "sft", system_prompt=None, limit=4, thoughts="none")
    assert told(alone[0])[-1][1] == f"<think></think><answer>{next(prior_rows('train'))['answer']}</answer>"
    with pytest.raises(UsageError, match="thoughts must be one of anchored, plain, none, not 'few'"):
        load("shapes", "sft", system_prompt=None, limit=4, thoughts="few")  # type: ignore[arg-type] # from a recipe


def test_rows_over_the_limit_are_counted_and_left_out_whole(capsys: pytest.CaptureFixture[str]) -> None:
    rows = runs.dataset(runs.rows((1, 2, 0, 1), (3, 90, 5, 1)))
    processor = runs.processor()
    kept = drop_too_long(rows, processor, 120)
    assert len(kept) == 3
    assert "1 of 4 rows have more than 120 tokens" in capsys.readouterr().out
    assert [len(row["images"]) for row in kept] == [1, 0, 1]
    with pytest.raises(TrainingDataError, match="all 4 rows have more than 10 tokens"):
        drop_too_long(rows, processor, 10)


@pytest.mark.parametrize("limit", [None, 500])
def test_a_broken_picture_is_found_before_training(tmp_path: Path, limit: int | None) -> None:
    whole, broken = tmp_path / "whole.png", tmp_path / "broken.png"
    runs.picture(0).save(whole)
    broken.write_bytes(whole.read_bytes()[:300])
    row = {"prompt": "<image>Why?", "completion": "So."}
    source = write(tmp_path, [row | {"images": [whole.name]}, row | {"images": [broken.name]}])
    rows = load(source, "sft", system_prompt=None)
    with pytest.raises(
        TrainingDataError, match=r"row 1 .* cannot be prepared .*: its image .*broken\.png cannot be read: it breaks"
    ):
        drop_too_long(rows, runs.processor(), limit)
    assert len(drop_too_long(rows.select([0]), runs.processor(), limit)) == 1


def test_an_image_token_without_an_image_is_refused() -> None:
    processor = runs.processor()
    rows = runs.rows((1, 1), (3, 3))
    rows[1]["prompt"][1]["content"].append({"type": "text", "text": f"What is {processor.image_token}?"})
    with pytest.raises(TrainingDataError, match=r"row 1 .* cannot be prepared .* would stand for no image"):
        drop_too_long(runs.dataset(rows), processor, 120)
