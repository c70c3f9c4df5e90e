"""The paper's reinforcement learning sources, from rows of the published form; a hub that says what it was asked."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import pytest
from PIL import Image

from avar_eval.answers import judge_answer
from avar_eval.errors import UsageError
from avar_eval.recipes.data import load
from avar_eval.recipes.paper_sources import PAPER_SOURCES
from avar_eval.recipes.sources import TrainingDataError, check_source
from avar_eval.tasks.prompts import THINKING

PICTURE = Image.new("RGB", (56, 28), (10, 200, 30))
GEO3K = {"images": [PICTURE], "problem": "<image>Find $x$.", "answer": "2 \\sqrt { 221 }"}
SHAREVL = [
    {"images": [PICTURE], "problem": "<image>Which?\nA. cat\nB. dog", "answer": "B"},
    {"images": [PICTURE], "problem": "How long is AB?", "answer": "12.5"},
    {"images": [PICTURE], "problem": "<image>What is shown?", "answer": "a cat"},
]
CLEVR = {
    "info": {"split": "new"},
    "questions": [
        {"image_filename": f"superCLEVR_new_{scene:06}.png", "question": question, "answer": answer}
        for scene in (0, 1, 20_000)
        for question, answer in (("How many cars?", 2), ("Is there a bus?", False), ("What color is it?", "red"))
    ],
}


def saved(rows: list[dict[str, Any]], folder: Path) -> str:
    """A data set as a download of the hub's: Parquet files with pictures inside."""
    table = datasets.Dataset.from_list(rows)
    (folder / "data").mkdir(parents=True)
    table.to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    return str(folder)


def asked(row: dict[str, Any]) -> str:
    (turn,) = row["prompt"]
    return "".join("<image>" if part["type"] == "image" else part["text"] for part in turn["content"])


def test_geo3k_from_a_downloaded_copy(tmp_path: Path) -> None:
    (row,) = load(f"geo3k={saved([GEO3K], tmp_path / 'geo3k')}", "grpo", system_prompt=None)
    assert asked(row) == f"<image>Find $x$.\n{THINKING}"
    assert (row["answer"], row["answer_type"]) == ("2 \\sqrt { 221 }", "expression")
    assert row["images"][0].getpixel((3, 3)) == (10, 200, 30)
    said = "<think>So.</think><answer>$2\\sqrt{221}$</answer>"
    assert judge_answer(said, answer=row["answer"], kind=row["answer_type"]).correct


def test_r1_sharevl_tells_letters_numbers_and_words_apart(tmp_path: Path) -> None:
    rows = load(f"r1_sharevl={saved(SHAREVL, tmp_path / 'r1')}", "grpo", system_prompt=None)
    assert [row["answer_type"] for row in rows] == ["choice", "expression", "text"]
    assert all(asked(row).startswith("<image>") for row in rows)
    assert rows[0]["choices"] == ["cat", "dog"]
    for said in ("B", "(B)", "B. dog", "dog"):
        assert judge_answer(f"<answer>{said}</answer>", answer="B", kind="choice", choices=rows[0]["choices"]).correct


def ai2d_folder(folder: Path) -> Path:
    """As ai2d-all.zip is unzipped: pictures 0, 1 and 10, of which 1 is on the list of test images."""
    (folder / "questions").mkdir(parents=True)
    (folder / "images").mkdir()
    for number in (10, 0, 1):
        texts = ["flies", "leaves", "seeds", "bark"]
        questions = {
            f"What do frogs eat in {number}?": {"abcLabel": False, "answerTexts": texts, "correctAnswer": 1},
            "What is A?": {"abcLabel": True, "answerTexts": texts, "correctAnswer": 0},
        }
        for place, told in enumerate(questions.values()):
            told["questionId"] = f"{number}.png-{place}"
        content = {"imageName": f"{number}.png", "questions": questions}
        (folder / "questions" / f"{number}.png.json").write_text(json.dumps(content))
        PICTURE.save(folder / "images" / f"{number}.png")
    (folder / "ai2d_test_ids.csv").write_text("1\n7\n")
    return folder


def test_ai2d_is_its_training_split_alone(tmp_path: Path) -> None:
    """The pictures of the test split are a benchmark's; letters that the published pictures lack are not asked for."""
    rows = load(f"ai2d={ai2d_folder(tmp_path)}", "grpo", system_prompt=None)
    assert [row["id"] for row in rows] == ["0.png-0", "10.png-0"]
    assert asked(rows[0]) == f"<image>What do frogs eat in 0?\n(A) flies\n(B) leaves\n(C) seeds\n(D) bark\n{THINKING}"
    assert (rows[0]["answer"], rows[0]["choices"]) == ("B", ["flies", "leaves", "seeds", "bark"])
    with pytest.raises(UsageError, match="of AI2D only the train split is read, not 'test'"):
        load(f"ai2d={tmp_path}", "grpo", system_prompt=None, split="test")
    (tmp_path / "ai2d_test_ids.csv").unlink()
    with pytest.raises(TrainingDataError, match=r"ai2d_test_ids\.csv cannot be read as questions of AI2D"):
        load(f"ai2d={tmp_path}", "grpo", system_prompt=None)


def test_super_clevr_reads_the_training_scenes_one_question_of_each_first(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for question in CLEVR["questions"]:
        PICTURE.save(tmp_path / "images" / question["image_filename"])  # type: ignore[index]
    (tmp_path / "superCLEVR_questions_30k.json").write_text(json.dumps(CLEVR))
    rows = load(f"super_clevr={tmp_path}", "grpo", system_prompt=None)
    assert [row["answer"] for row in rows] == ["2", "2", "no", "no", "red", "red"]
    assert [row["answer_type"] for row in rows] == ["integer"] * 2 + ["text"] * 4


def hub(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """A hub with one data set and two commits; the list holds what is asked of it."""
    calls: list[tuple[Any, ...]] = []
    commits = ["37e4933" + "0" * 33, "b" * 40]

    def load_dataset(name: str, *, split: str, revision: str) -> datasets.Dataset:
        calls.append((name, split, revision))
        return datasets.Dataset.from_list(rows)

    api = SimpleNamespace(
        list_repo_commits=lambda name, repo_type: [SimpleNamespace(commit_id=commit) for commit in commits],
        dataset_info=lambda name, revision: SimpleNamespace(sha=commits[1]),
    )
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    return calls


def test_what_is_read_from_the_hub_is_read_at_a_commit_that_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = hub(monkeypatch, [GEO3K])
    load("geo3k", "grpo", system_prompt=None)
    load("r1_sharevl", "grpo", system_prompt=None)
    assert [revision for *_, revision in calls] == ["37e4933" + "0" * 33, "b" * 40]
    assert f"training data HuanjinYao/R1-ShareVL-52K at commit {'b' * 40}" in capsys.readouterr().err
    with pytest.raises(TrainingDataError, match="0 commits begin with 1234567"):
        load("hiyouga/geometry3k@1234567", "grpo", system_prompt=None)


def test_pins_are_commits_or_their_beginnings() -> None:
    for source in PAPER_SOURCES.values():
        assert source.revision is None or len(source.revision) in (7, 40)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("super_clevr", r"download superCLEVR_questions_30k\.json and images\.zip of RyanWW/Super-CLEVR"),
        ("ai2d", r"ai2d is no table on the hub: download ai2d-all\.zip and ai2d_test_ids\.csv .* give ai2d=FOLDER"),
        ("geo3k=nowhere", "there is no folder 'nowhere' with a copy of geo3k"),
        ("geo4k=/tmp", "unknown source 'geo4k': did you mean geo3k"),
        (
            "geo4k",
            "give shapes, shapes_prior, .* language_priors, .* geo3k, r1_sharevl, ai2d, m3cot, .* super_clevr, .*, "
            "vard_coldstart, .* a .json",
        ),
    ],
)
def test_a_source_that_cannot_be_is_refused(source: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_source(source)


def test_a_row_of_another_form_is_named(tmp_path: Path) -> None:
    folder = saved([GEO3K, GEO3K | {"problem": None}], tmp_path / "x")
    with pytest.raises(TrainingDataError, match=r"row 1 of geo3k has not the published form .* fields are images"):
        load(f"geo3k={folder}", "grpo", system_prompt=None)
    (tmp_path / "superCLEVR_questions_30k.json").write_text("[]")
    with pytest.raises(TrainingDataError, match="cannot be read as questions of RyanWW/Super-CLEVR"):
        load(f"super_clevr={tmp_path}", "grpo", system_prompt=None)
