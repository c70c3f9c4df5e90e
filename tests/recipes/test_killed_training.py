"""`kill -9` while training, while scoring, and while a checkpoint is written: the same command goes on from there."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from runs import Finished, Running, Server, records_of, wait_for_records, wait_until
from safetensors.torch import load_file

from avar_eval.leaderboard.store import Store
from avar_eval.watch.complete import complete_checkpoints, read_training_run

QUESTIONS = 2
TRAIN = (
    "sft", "tiny_agto_sft", "--train_rows", "24", "--global_batch_size", "2", "--per_device_train_batch_size", "2",
    "--max_steps", "6", "--save_steps", "2", "--logging_steps", "1",
)  # fmt: skip
SCORED = ("--score_tasks", "shapes", "--score_limit", str(QUESTIONS))
STEPS = [0, 2, 4, 6]


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("trainings"), ("avar_eval.recipes.run", "avar_eval.recipes.sft"))
    yield server
    server.stop()


def succeeded(finished: Finished) -> None:
    assert finished.code == 0, finished.stderr[-3000:]


@pytest.fixture(scope="module")
def straight(trainings: Server) -> Path:
    """An uninterrupted training, without scores."""
    folder = trainings.folder / "straight"
    succeeded(trainings.start(*TRAIN, "--output_dir", str(folder), program="avar-train").wait())
    return folder


def rows(leaderboard: Path) -> list[tuple[str | None, int | None, float | None]]:
    return [(row.training_run, row.training_step, row.accuracy) for row in Store(leaderboard).rows()]


def one_score_each(scores: Path, leaderboard: Path, run: str) -> None:
    for step in STEPS:
        records = records_of(scores / f"step-{step}")
        assert len(records) == len({record["key"] for record in records}) == QUESTIONS
        assert all(record["attention"] for record in records)
    assert sorted(step for name, step, _ in rows(leaderboard) if name == run and step is not None) == STEPS


def test_a_training_killed_again_and_again_ends_as_if_nothing_had_been(trainings: Server, straight: Path) -> None:
    """Its checkpoints are scored on the way, which changes nothing of the training either."""
    folder, leaderboard = trainings.folder / "killed", trainings.folder / "leaderboard"
    command = (*TRAIN, *SCORED, "--output_dir", str(folder))

    def start(stands_at: int) -> Running:
        """stands_at: the step in whose scoring it stands still."""
        standing = {f"step-{stands_at}/records.jsonl": 1}
        return trainings.start(*command, program="avar-train", stands_at=standing, AVAR_LEADERBOARD=str(leaderboard))

    running = start(stands_at=2)
    wait_for_records(folder / "scores" / "step-2", 1)  # it is scoring
    running.kill()
    assert list(complete_checkpoints(folder)) == [2]
    running = start(stands_at=4)
    # it has trained two more steps, and is writing or, at the latest, scoring what it has written
    wait_until(lambda: (folder / "checkpoint-4").exists(), "the next checkpoint")
    running.kill()
    assert read_training_run(folder).finished is False  # type: ignore[union-attr]
    succeeded(trainings.start(*command, program="avar-train", AVAR_LEADERBOARD=str(leaderboard)).wait())

    trained, expected = (load_file(of / "checkpoint-6" / "model.safetensors") for of in (folder, straight))
    assert all(torch.equal(trained[name], expected[name]) for name in expected)
    assert read_training_run(folder).finished is True  # type: ignore[union-attr]
    one_score_each(folder / "scores", leaderboard, "killed")
    assert (folder / "best").resolve().name.startswith("checkpoint-")


def test_a_torn_checkpoint_is_written_anew(trainings: Server, straight: Path, tmp_path: Path) -> None:
    """As a kill leaves it in the midst of writing: the weights are there, the mark is not."""
    folder = Path(shutil.copytree(straight, tmp_path / "torn"))
    (folder / "checkpoint-6" / "complete.json").unlink()
    weights = folder / "checkpoint-6" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    succeeded(trainings.start(*TRAIN, "--output_dir", str(folder), program="avar-train").wait())
    assert list(complete_checkpoints(folder)) == [2, 4, 6]
    trained, expected = (load_file(of / "checkpoint-6" / "model.safetensors") for of in (folder, straight))
    assert all(torch.equal(trained[name], expected[name]) for name in expected)


def test_a_killed_watch_scores_nothing_twice_and_skips_nothing(
    trainings: Server, straight: Path, tmp_path: Path
) -> None:
    folder, leaderboard = Path(shutil.copytree(straight, tmp_path / "watched")), tmp_path / "leaderboard"
    options = ("--tasks", "shapes", "--limit", str(QUESTIONS), "--batch-size", "1", "--max-new-tokens", "24")
    command = ("watch", str(folder), *options, "--run", "watched")
    standing = {"step-4/records.jsonl": 1}
    running = trainings.start(*command, stands_at=standing, AVAR_LEADERBOARD=str(leaderboard))
    wait_for_records(folder / "scores" / "step-4", 1)
    running.kill()
    before = {step: records_of(folder / "scores" / f"step-{step}") for step in (0, 2, 4)}
    assert [len(before[step]) for step in (0, 2)] == [QUESTIONS, QUESTIONS]
    results = folder / "scores" / "step-2" / "results.json"
    written = results.stat().st_mtime_ns
    shutil.rmtree(leaderboard)  # as if the crash had come before the leaderboard had its rows
    done = trainings.start(*command, AVAR_LEADERBOARD=str(leaderboard)).wait()
    succeeded(done)
    assert "scoring step 2" not in done.stderr
    assert results.stat().st_mtime_ns == written
    one_score_each(folder / "scores", leaderboard, "watched")
    for step, records in before.items():
        assert records_of(folder / "scores" / f"step-{step}")[: len(records)] == records
    assert "watched/checkpoint-6" in done.stdout
    again = trainings.start(*command, AVAR_LEADERBOARD=str(leaderboard)).wait()
    succeeded(again)
    assert "scoring" not in again.stderr
    assert len(rows(leaderboard)) == len(STEPS)

    other = trainings.start(*command, "--max-new-tokens", "25", AVAR_LEADERBOARD=str(leaderboard)).wait()
    assert other.code == 2
    assert "were made with max_new_tokens 24, now 25" in other.stderr
    nowhere = trainings.start("watch", str(tmp_path / "nowhere"), *options).wait()
    assert "there is no folder" in nowhere.stderr
