"""`avar-train filter`: what is kept, what is written, and what a killed run has to ask again."""

import json
from pathlib import Path
from typing import Any

import pytest
from endpoint import KEY, Endpoint, served
from PIL import Image
from runs import Server, wait_for_records
from typer.testing import CliRunner

from avar_eval.errors import UsageError
from avar_eval.recipes import difficulty
from avar_eval.recipes.cli import app
from avar_eval.recipes.data import load
from avar_eval.recipes.difficulty import FilterConfig, NothingKeptError, check_filter, filter_rows
from avar_eval.records.book import RecordBook
from avar_eval.run.asking import Asking

ROLLOUTS = 4
LIMIT = 10
ARGUMENTS = (
    "filter", "--model", "avar-tiny", "--data", "shapes", "--limit", str(LIMIT), "--rollouts", str(ROLLOUTS),
    "--max-new-tokens", "60", "--batch-size", "8", "--lowest", "0.01", "--highest", "0.99",
)  # fmt: skip


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filter")
    done = server.start(*ARGUMENTS, "--output", str(folder), program="avar-train").wait()
    assert done.code == 0, done.stderr
    return folder


def test_rows_within_the_bounds_are_kept_and_read_back_by_a_grpo_recipe(finished: Path) -> None:
    asked = load("shapes", "grpo", system_prompt=None, limit=LIMIT)
    right = [0] * LIMIT
    for record in records(finished):
        row = asked[int(record["row_id"])]
        right[int(record["row_id"])] += f"<answer>{row['answer']}</answer>" in record["response"]
    expected = [number for number, hits in enumerate(right) if 0 < hits < ROLLOUTS]
    kept = load(str(finished), "grpo", system_prompt=None)
    assert [row["answer"] for row in kept] == [asked[number]["answer"] for number in expected]
    assert [row["prompt"] for row in kept] == [asked[number]["prompt"] for number in expected]
    assert all(
        row["images"][0].tobytes() == asked[number]["images"][0].convert("RGB").tobytes()
        for row, number in zip(kept, expected, strict=True)
    )
    lines = [json.loads(line) for line in (finished / "rows.jsonl").read_text().splitlines()]
    assert [line["accuracy"] for line in lines] == [right[number] / ROLLOUTS for number in expected]


def test_the_histogram_counts_every_row_once(finished: Path) -> None:
    histogram = json.loads((finished / "difficulty.json").read_text())
    counts = histogram["rows_by_right_rollouts"]
    assert list(counts) == [str(right) for right in range(ROLLOUTS + 1)]
    assert sum(counts.values()) == histogram["rows"] == LIMIT
    assert histogram["accuracy"] == sum(int(right) * rows for right, rows in counts.items()) / (LIMIT * ROLLOUTS)
    assert histogram["protocol"]["decoding"]["temperature"] == 0.8
    with Image.open(finished / "difficulty.png") as picture:
        assert min(picture.size) > 300


def test_a_killed_filter_goes_on_and_asks_nothing_twice(server: Server, finished: Path, tmp_path: Path) -> None:
    command, book = (*ARGUMENTS, "--output", str(tmp_path)), tmp_path / "records.jsonl"
    run = server.start(*command, program="avar-train", stands_at={"records.jsonl": 8})
    wait_for_records(tmp_path, 8)
    run.kill()
    before = book.read_bytes()
    whole = before[: before.rfind(b"\n") + 1]
    assert whole.count(b"\n") < LIMIT * ROLLOUTS
    done = server.start(*command, program="avar-train").wait()
    assert done.code == 0, done.stderr
    assert book.read_bytes().startswith(whole)
    keys = [record["key"] for record in records(tmp_path)]
    assert len(set(keys)) == len(keys) == LIMIT * ROLLOUTS
    for name in ("rows.jsonl", "difficulty.json"):
        assert (tmp_path / name).read_text() == (finished / name).read_text()


class Undecided(Endpoint):
    """Answers "7" to the question number n in the first 2 n of its rollouts, then "8"."""

    def _completion(self, asked: str) -> dict[str, Any]:
        number = int(asked[asked.index("question ") + 9])
        answer = "7" if self.answered[asked] <= 2 * number else "8"
        message = {"role": "assistant", "content": f"<think>hm</think><answer>{answer}</answer>"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {"id": "1", "object": "chat.completion", "created": 0, "model": "served", "choices": [choice]}


def test_the_paper_s_bounds_with_any_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight rollouts of which 0, 2, 4, 6 and 8 are right: from 0.25 to 0.75 both ends are kept."""
    monkeypatch.setenv("TEST_KEY", KEY)
    rows = [{"prompt": f"question {number}", "answer": "7", "answer_type": "integer"} for number in range(5)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "kept"
    with served(Undecided()) as endpoint:
        command = ["filter", "--model", "served", "--data", str(tmp_path / "mine.jsonl"), "--output", str(output)]
        command += [
            "--backend",
            "api",
            "--backend-option",
            f"url={endpoint.url}",
            "--backend-option",
            "key-env=TEST_KEY",
        ]
        for _ in range(2):
            result = CliRunner().invoke(app, command, catch_exceptions=False)
            assert "3 of 5 rows kept" in result.output
            assert sum(endpoint.answered.values()) == 5 * 8
    lines = [json.loads(line) for line in (output / "rows.jsonl").read_text().splitlines()]
    assert [line["accuracy"] for line in lines] == [0.25, 0.5, 0.75]
    counts = json.loads((output / "difficulty.json").read_text())["rows_by_right_rollouts"]
    assert list(counts.values()) == [1, 0, 1, 0, 1, 0, 1, 0, 1]


def test_nothing_kept_is_an_error_after_the_histogram(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same questions again, so that nothing has to be asked: the model's batches are not reached."""
    monkeypatch.setattr(RecordBook, "append", lambda *_: pytest.fail("a question was asked twice"))
    asking = Asking.of(
        model="avar-tiny", limit=LIMIT, temperature=0.8, samples=ROLLOUTS, max_new_tokens=60, batch_size=8
    )
    config = FilterConfig(asking, "shapes", finished, keep=(0.9, 0.95))
    rows = (finished / "rows.jsonl").read_text()
    with pytest.raises(NothingKeptError, match=r"none of 10 rows has an accuracy from 0\.9 to 0\.95"):
        filter_rows(config)
    assert json.loads((finished / "difficulty.json").read_text())["kept"] == 0
    assert (finished / "rows.jsonl").read_text() == rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keep": (0.8, 0.2)}, "must be accuracies"),
        ({"samples": 1}, "--rollouts of at least 2"),
        ({"temperature": 0.0}, "temperature above 0"),
        ({"sources": "nowhere"}, "there is no training data 'nowhere'"),
        ({"model": "avar-tinny"}, "did you mean avar-tiny"),
    ],
)
def test_a_wrong_filter_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    asked = {"model": "avar-tiny", "samples": 8, "temperature": 0.8} | changes
    keep, sources = asked.pop("keep", (0.25, 0.75)), asked.pop("sources", "shapes")
    config = FilterConfig(Asking.of(**asked), sources, tmp_path, keep)
    with pytest.raises(UsageError, match=message):
        check_filter(config)


def test_a_backend_option_has_a_name_and_a_value(tmp_path: Path) -> None:
    arguments = [*ARGUMENTS, "--output", str(tmp_path), "--backend-option", "url"]
    result = CliRunner().invoke(app, arguments)
    assert "--backend-option takes NAME=VALUE, not 'url'" in str(result.exception)


def test_a_row_that_nothing_can_be_judged_against_is_named() -> None:
    row = {"answer": "E", "answer_type": "choice", "choices": ["x", "y"]}
    record = type("Record", (), {"response": "<answer>A</answer>", "finish_reason": "stop"})()
    with pytest.raises(difficulty.TrainingDataError, match="row 3 of mine: the answer 'E' of a row is not of its type"):
        difficulty._judgement("mine", 3, row, record)
