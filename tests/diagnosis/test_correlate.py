"""`avar-eval correlate`: points of published pairs and of runs, one a training; any measure against any other."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from invented_runs import write_run
from typer.testing import CliRunner

from avar_eval.cli import app
from avar_eval.diagnosis.correlate import AXES, correlate, predictors
from avar_eval.diagnosis.correlate_figure import draw_correlation
from avar_eval.diagnosis.correlate_matrix import draw_matrix
from avar_eval.diagnosis.correlate_points import Board, CorrelateError, Point, paper_points, run_points
from avar_eval.diagnosis.correlate_report import print_correlation
from avar_eval.errors import AvarError
from avar_eval.leaderboard.paper import paper
from avar_eval.leaderboard.store import Store, default_store
from avar_eval.models.registry import registry
from avar_eval.results.schema import Metric


def test_the_printed_pairs_of_the_paper() -> None:
    found = correlate(paper_points())
    assert [point.value("vas") for point in found.points] == [7.5, 10.1, 13.8, 18.9]
    assert [round(100 * (point.value("accuracy") or 0), 2) for point in found.points] == [44.83, 49.0, 50.03, 54.17]
    assert found.n == 4
    printed = [(7.5, 68.2 + 25.2 + 41.1), (10.1, 70.6 + 32.9 + 43.5), (13.8, 72.0 + 34.1 + 44.0)]
    assert found.pearson.value == pytest.approx(np.corrcoef(np.array([*printed, (18.9, 74.7 + 37.4 + 50.4)]).T)[0, 1])
    assert found.spearman.value == pytest.approx(1)
    without = {one.model: one.r for one in found.without}
    rest = [(point.value("vas"), point.value("accuracy")) for point in found.points if point.model != "AVAR-Thinker"]
    assert without["AVAR-Thinker"] == pytest.approx(np.corrcoef(np.array(rest, float).T)[0, 1])
    assert (found.pearson.ci95, found.pearson.p, found.units) == (None, None, 1)  # steps of one training


def test_the_papers_rows_agree_with_the_registry_and_their_averages_are_marked() -> None:
    names = {"mathverse_vo": "mathverse_vision_only", "mmmu": "mmmu_val", "hallusion_image": "hallusionbench"}
    for row in paper().models:
        assert row.registered is not None
        entry = registry()[row.registered]
        assert entry.published is not None
        printed = {names.get(task, task): score for task, score in row.scores.items()}
        printed |= {name: value for name, value in (("average", row.average), ("vas", row.vas)) if value is not None}
        assert entry.published.model_dump(exclude_none=True) == pytest.approx(printed)
        assert set(row.trained_on) <= set(entry.trained_on)
    for row in (*paper().models, *paper().ablations):
        if row.average is not None:
            differs = abs(round(sum(row.scores.values()) / 7, 1) - row.average) > 0.01
            assert not differs or (row.notes is not None and "seven columns" in row.notes), row.name


def scored(folder: Path) -> list[Path]:
    return [
        write_run(folder / name, name, vas, rows=20, layers=4, tokens=4, accuracy=accuracy)
        for name, vas, accuracy in (("a", 6.0, 0.3), ("b", 9.0, 0.45), ("c", 12.0, 0.5), ("d", 18.0, 0.8))
    ]


def edited(run: Path, **metrics: float | None) -> Path:
    """The run with other metrics of its task, each with an interval around it."""
    results = json.loads((run / "results.json").read_text())
    for name, value in metrics.items():
        ci95 = None if value is None else sorted([0.9 * value, 1.1 * value])
        results["tasks"]["shapes"]["metrics"][name] = {"value": value, "ci95": ci95, "n": 20}
    (run / "results.json").write_text(json.dumps(results))
    return run


def with_second_task(run: Path, name: str, **metrics: Any) -> None:
    results = json.loads((run / "results.json").read_text())
    results["tasks"][name] = json.loads(json.dumps(results["tasks"]["shapes"]))
    results["tasks"][name]["metrics"] |= metrics
    (run / "results.json").write_text(json.dumps(results))


def test_runs_and_the_leaderboard_give_the_same_in_any_order(tmp_path: Path) -> None:
    runs = scored(tmp_path)
    of_runs = correlate(run_points(runs, None))
    assert [(point.model, point.value("accuracy")) for point in of_runs.points] == [
        ("a", 0.3), ("b", pytest.approx(0.45)), ("c", 0.5), ("d", 0.8)]  # fmt: skip
    assert all(point.measures["accuracy"].ci95 for point in of_runs.points)
    assert correlate(run_points(runs[::-1], None)).to_json() == of_runs.to_json()
    store = Store(default_store())
    for run in runs:
        store.add(run / "results.json")
    store.add(write_run(tmp_path / "s", "a", 30.0, rows=2, steering={"image": 0.5}) / "results.json")
    of_store = correlate(run_points([], ["shapes"]))
    assert (of_store.pearson, of_store.n, of_store.points) == (of_runs.pearson, 4, of_runs.points)


def test_a_steered_run_is_a_point_of_its_models_training_and_one_without_vas_is_named(tmp_path: Path) -> None:
    runs = scored(tmp_path)
    runs.append(write_run(tmp_path / "steered", "a", 8.0, rows=20, layers=4, steering={"image": 0.15, "system": 0.4}))
    runs.append(write_run(tmp_path / "served", "served", 8.0, rows=20, layers=4, measured=False))
    found = correlate(run_points(runs, None))
    assert "a, steered: image=0.15,system=0.4" in [point.model for point in found.points]
    assert found.units == 4  # a model that is not in the registry is a family of its own, with its steered runs
    assert found.left_out == {"served": "no finite VAS of shapes"}
    learned = write_run(tmp_path / "learned", "learned", 8.0, rows=4, layers=4, trained_on=["shapes"])
    assert [point.note for point in run_points([learned], None).points] == ["trained on shapes"]


def test_a_training_is_one_point_its_last_checkpoint(tmp_path: Path) -> None:
    runs = scored(tmp_path)
    for number, run in enumerate(("tiny-1", "tiny-2")):
        for step, vas in ((0, 5.0), (50, 7.0), (100, 8.0)):
            model = "avar-tiny" if step == 0 else f"{run}/checkpoint-{step}"
            training = {"run": run, "step": step, "started": "2026-01-01T00:00:00"}
            folder = tmp_path / f"{run}-{step}"
            runs.append(write_run(folder, model, vas + number, rows=4, layers=2, tokens=4, training=training))
    runs.append(write_run(tmp_path / "unwatched", "out/checkpoint-20", 9.0, rows=4, layers=2, tokens=4))
    runs.append(write_run(tmp_path / "unwatched-30", "out/checkpoint-30", 9.5, rows=4, layers=2, tokens=4))
    board = run_points(runs)
    by_model = {point.model: point for point in board.points}
    assert set(by_model) == {*"abcd", "avar-tiny", *(f"tiny-{n}/checkpoint-100" for n in (1, 2)), "out/checkpoint-30"}
    assert [by_model[name].family for name in ("avar-tiny", "tiny-1/checkpoint-100", "out/checkpoint-30")] == [
        "avar-tiny", "avar-tiny", "out"]  # fmt: skip
    assert any("3 checkpoints are left out" in note for note in board.notes)
    everything = run_points(runs, all_checkpoints=True)
    assert len(everything.points) == 11
    assert correlate(everything).units == correlate(board).units == 6


def test_vas_is_of_mathvista_where_all_have_it_and_else_the_task_is_said(tmp_path: Path) -> None:
    runs = scored(tmp_path)
    board = run_points(runs)
    assert board.measured_on == "shapes"
    assert "not all models have mathvista, of which the paper takes 200 cases" in board.notes[0]
    for number, run in enumerate(runs):
        with_second_task(run, "mathvista", vas={"value": 10.0 - number, "ci95": None, "n": 200})
    board = run_points(runs, ["shapes"])
    assert (board.measured_on, board.notes, board.accuracy) == ("mathvista", [], "shapes")
    assert sorted(point.value("vas") or 0 for point in board.points) == [7.0, 8.0, 9.0, 10.0]
    assert (
        (correlate(board).pearson.value or 0)
        < 0
        < (correlate(run_points(runs, ["shapes"], "shapes")).pearson.value or 0)
    )
    both = run_points(runs, ["shapes", "mathvista"])
    assert both.accuracy == "mean of shapes, mathvista"
    accuracy = next(point for point in both.points if point.model == "a").measures["accuracy"]
    assert accuracy.value == pytest.approx(0.3)
    assert accuracy.ci95 is not None
    single = next(point for point in board.points if point.model == "a").measures["accuracy"].ci95
    assert single is not None  # of two independent tasks the interval is narrower by the root of two
    assert accuracy.ci95[1] - accuracy.ci95[0] == pytest.approx((single[1] - single[0]) / 2**0.5)


def test_any_measure_may_be_an_axis_and_all_pairs_are_told(tmp_path: Path) -> None:
    runs = [
        edited(run, visual_gain=gain, visual_dependence=10.0**number, knockout_answer=-1.0 * number)
        for number, (run, gain) in enumerate(zip(scored(tmp_path), (0.1, 0.4, 0.2, 0.7), strict=True))
    ]
    found = correlate(run_points(runs), "visual_dependence", "visual_gain")
    gains = [0.1, 0.4, 0.2, 0.7]
    assert (found.x_log, found.y_log) == (True, False)
    assert found.pearson.value == pytest.approx(np.corrcoef(np.arange(4), gains)[0, 1])
    pairs = {(pair.x, pair.y): pair for pair in found.pairs}
    assert pairs["vas", "knockout_answer"].rho == pytest.approx(-1)
    assert pairs["accuracy", "visual_dependence"].rho == pytest.approx(1)
    closest = predictors(found, "visual_gain")
    assert {pair.y for pair in closest} == {"visual_gain"}
    assert [abs(pair.rho or 0) for pair in closest] == sorted((abs(pair.rho or 0) for pair in closest), reverse=True)
    edited(runs[0], visual_gain=None)
    left = correlate(run_points(runs), "vas", "visual_gain")
    assert (left.n, left.left_out) == (3, {"a": "no finite visual_gain of shapes"})
    assert next(pair for pair in left.pairs if (pair.x, pair.y) == ("vas", "visual_gain")).n == 3


def test_a_mean_over_fewer_tasks_than_the_other_models_have_is_no_point(tmp_path: Path) -> None:
    runs = scored(tmp_path)
    for run in runs:
        if run.name != "b":
            with_second_task(run, "shapes_prior")
    board = run_points(runs, ["shapes", "shapes_prior"])
    assert [point.model for point in board.points] == ["a", "c", "d"]
    assert board.left_out == {"b": "no run of shapes_prior"}


def test_the_command_prints_n_and_writes_its_files(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["correlate", "--paper", "--output", str(tmp_path)])
    assert done.exit_code == 0, done.output
    for words in (
        "r = 0.968, n = 4",
        "no interval and no p can be had of one",
        "r = 0.9616, p = 9.0e-06 over 10 models",
        "for 4 of them",
    ):
        assert words in done.output
    assert json.loads((tmp_path / "correlate.json").read_text())["n"] == 4
    assert (tmp_path / "correlate.png").stat().st_size > 20_000


def test_the_command_says_what_predicts_what_and_draws_it_as_asked(tmp_path: Path) -> None:
    runs = [
        edited(run, visual_gain=number / 10, visual_dependence=number / 4 + 0.1, vas_text=0.8 - number / 10)
        for number, run in enumerate(scored(tmp_path))
    ]
    figure = tmp_path / "figures" / "one.pdf"
    words = ["--figure", str(figure), "--no-title", "--output", str(tmp_path / "out"), "--y", "visual_gain"]
    done = CliRunner().invoke(app, ["correlate", *map(str, runs), *words])
    assert done.exit_code == 0, done.output
    for said in ("4 families resampled", "note: measures but accuracy are of shapes"):
        assert said in done.output
    assert "closest to" not in done.output  # of four models that could not be told
    for path in (figure, figure.with_stem("one-matrix")):
        assert path.read_bytes().startswith(b"%PDF")


def test_what_predicts_what_is_said_where_it_can_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = correlate(invented_board(14, 3.0, 9, ("vas", "accuracy", "blind", "visual_dependence")))
    print_correlation(found, [], published=False)
    said = capsys.readouterr().out
    assert "closest to visual_dependence: " in said
    assert "9 families resampled, Student's t of 8 degrees of freedom" in said
    few = correlate(invented_board(3, 3.0, 3, ("vas", "accuracy")))
    print_correlation(few, [], published=False)
    assert "no interval and no p: 3 families are too few to resample" in capsys.readouterr().out


def invented_board(n: int, scale: float, families: int, axes: tuple[str, ...]) -> Board:
    generator = np.random.default_rng(n)
    points = []
    for number in range(n):
        shares = {name: float(generator.uniform(0.2, 0.8)) for name in axes}
        values = {
            name: value if AXES[name].kind == "share" else 6 * scale ** (2 * value - 1)
            for name, value in shares.items()
        }
        points.append(
            Point(
                model=f"model-{number} " + "with a long name " * (number % 3),
                family=f"family {number % families}",
                measures={
                    name: Metric(value=value, ci95=(0.9 * value, 1.1 * value), n=100) for name, value in values.items()
                },
            )
        )
    return Board("tests", "x", "shapes", points)


@pytest.mark.parametrize(
    ("n", "scale", "families", "axes"),
    [(14, 3.0, 9, tuple(AXES)), (30, 1e5, 4, tuple(AXES)), (3, 2.0, 1, ("vas", "accuracy", "blind"))],
)
@pytest.mark.parametrize("title", [True, False])
def test_pictures_of_any_board(
    tmp_path: Path, n: int, scale: float, families: int, axes: tuple[str, ...], title: bool
) -> None:
    found = correlate(invented_board(n, scale, families, axes))
    assert found.x_log is (scale > 100)
    assert draw_correlation(found, tmp_path / "picture.png", title).stat().st_size > 20_000
    assert draw_matrix(found, tmp_path / "matrix.png", title).stat().st_size > 10_000


def test_too_few_models_and_empty_store_get_one_message(tmp_path: Path) -> None:
    with pytest.raises(CorrelateError, match="needs 3 models with both VAS and accuracy, and there are 2"):
        correlate(run_points(scored(tmp_path)[:2], None))
    with pytest.raises(CorrelateError, match="no finished run in the leaderboard"):
        run_points([], None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--paper", "--tasks", "shapes"], "--paper takes neither"),
        (["--paper", "--vas-task", "shapes"], "--paper takes neither"),
        (
            ["--paper", "--x", "visual_gain"],
            "none of these models has visual_gain of mathvista: they have accuracy, vas",
        ),
        (["NOWHERE"], "there is no file"),
        (["CORRUPT"], "is not a results.json"),
        (["RUN", "--tasks", "shaps"], "did you mean shapes"),
        (["RUN", "--vas-task", "shaps"], "did you mean shapes"),
        (["RUN", "--tasks", "avar_vas"], "no run of mathvista"),
        (["RUN", "--tasks", ""], "--tasks is empty"),
        (["RUN", "--x", "vass"], "did you mean vas"),
        (["RUN", "--x", "accuracy"], "--x and --y are both accuracy"),
        (["RUN", "--figure", "x.jpg"], "--figure takes a .pdf, .svg or .png file"),
    ],
)
def test_wrong_input_gets_one_message(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "results.json").write_text("{")
    run = write_run(tmp_path / "run", "a", 6.0, rows=2, layers=2)
    places = {"NOWHERE": tmp_path / "nowhere", "CORRUPT": tmp_path, "RUN": run}
    done = CliRunner().invoke(app, ["correlate", *(str(places.get(word, word)) for word in arguments)])
    assert isinstance(done.exception, AvarError)
    assert message in str(done.exception)


def test_a_correlation_says_when_models_were_not_asked_alike(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / str(vas), f"model-{vas}", vas, accuracy=vas / 20, prompt_style="none")
        for vas in (8.0, 12.0, 16.0)
    ]
    assert run_points(folders, None).notes[1:] == []
    named = {"name": "custom", "prompts": {"shapes": {"prompt_template": "{{ question }}"}}}
    folders.append(write_run(tmp_path / "named", "model-named", 10.0, prompt_style="none", protocol=named))
    found = correlate(run_points(folders, None))
    assert "--uniform-prompts, or one --protocol, asks all alike" in found.notes[-1]
    assert json.loads(found.to_json())["notes"] == found.notes
