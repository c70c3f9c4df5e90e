"""`avar-leaderboard curve`: a training's checkpoints over its steps."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from readable_figures import check_readable
from typer.testing import CliRunner

from avar_eval.errors import UsageError
from avar_eval.figures.style import drawing
from avar_eval.leaderboard.cli import app
from avar_eval.leaderboard.curve import checkpoint_rows, draw_curve
from avar_eval.leaderboard.store import Store

Write = Callable[..., Path]
FIRST, SECOND = "2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "leaderboard")


def add(store: Store, write_run: Write, number: int, step: int, accuracy: float, started: str | None = FIRST) -> None:
    path = write_run(str(number), accuracy=accuracy, training={"run": "mine", "started": started, "step": step})
    run = store.add(path).run
    moment = 1_700_000_000 + number
    os.utime(store.runs / f"{run.run_id}.json", (moment, moment))


def test_points_stand_by_step_and_the_last_one_of_a_step_counts(store: Store, write_run: Write) -> None:
    store.add(write_run())
    for number, (step, accuracy) in enumerate([(100, 0.7), (0, 0.5), (50, 0.1), (50, 0.6)], start=1):
        add(store, write_run, number, step, accuracy)
    points = checkpoint_rows(store.rows(), "mine", "shapes")
    assert [(row.training_step, row.score) for row in points] == [(0, 0.5), (50, 0.6), (100, 0.7)]
    both = checkpoint_rows(store.rows(), "mine")
    assert [row.task for row in both] == ["mathvista"] * 3 + ["shapes"] * 3


def test_an_earlier_training_of_the_same_name_is_another_one(store: Store, write_run: Write) -> None:
    add(store, write_run, 1, 0, 0.5)
    add(store, write_run, 2, 50, 0.6)
    add(store, write_run, 3, 0, 0.4, started=SECOND)
    assert [row.score for row in checkpoint_rows(store.rows(), "mine", "shapes")] == [0.4]


def test_unknown_names_are_told_the_known_ones(store: Store, write_run: Write) -> None:
    store.add(write_run())
    with pytest.raises(UsageError, match="no training is in the leaderboard yet"):
        checkpoint_rows(store.rows(), "mine")
    add(store, write_run, 1, 0, 0.5)
    with pytest.raises(UsageError, match="unknown run 'mina': did you mean mine"):
        checkpoint_rows(store.rows(), "mina")
    with pytest.raises(UsageError, match="unknown task 'shape': did you mean shapes"):
        checkpoint_rows(store.rows(), "mine", "shape")


def test_the_command_prints_the_points_and_draws_them(store: Store, write_run: Write, tmp_path: Path) -> None:
    for number, (step, accuracy) in enumerate([(0, 0.5), (50, 0.58)], start=1):
        add(store, write_run, number, step, accuracy)
    picture = tmp_path / "pictures" / "curve.png"
    command = ["curve", "mine", "--task", "shapes", "--store", str(store.path), "--output", str(picture)]
    printed = CliRunner().invoke(app, command, catch_exceptions=False).stdout
    assert [line.split()[:2] for line in printed.splitlines()[1:3]] == [["shapes", "0"], ["shapes", "50"]]
    assert "+8.0" in printed
    assert str(picture) in printed
    assert picture.read_bytes().startswith(b"\x89PNG")
    points = json.loads(CliRunner().invoke(app, [*command, "--json"], catch_exceptions=False).stdout)
    assert [(point["training_step"], point["score"]) for point in points] == [(0, 0.5), (50, 0.58)]


def test_the_picture_has_the_format_of_its_suffix_and_is_readable(
    store: Store, write_run: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, step in enumerate((0, 50, 100), start=1):
        add(store, write_run, number, step, 0.5 + step / 1000)
    command = ["curve", "mine", "--store", str(store.path), "--no-title", "--output"]
    for suffix, beginning in ((".pdf", b"%PDF"), (".svg", b"<?xml"), (".png", b"\x89PNG")):
        picture = tmp_path / f"figure{suffix}"
        CliRunner().invoke(app, [*command, str(picture)], catch_exceptions=False)
        assert picture.read_bytes().startswith(beginning)
    with pytest.raises(UsageError, match=r"--output takes a \.pdf, \.svg or \.png file"):
        CliRunner().invoke(app, [*command, str(tmp_path / "figure.jpg")], catch_exceptions=False)
    drawn: list[Figure] = []
    monkeypatch.setattr("avar_eval.leaderboard.curve.save_figure", lambda figure, _: drawn.append(figure))
    for title in (True, False):
        draw_curve(checkpoint_rows(store.rows(), "mine"), "mine", tmp_path / "a.png", title)
        with drawing():
            check_readable(drawn[-1], title)
