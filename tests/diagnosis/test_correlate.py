"""`avar-eval correlate`: r, interval and leave-one-out of published pairs and of runs; the paper's rows as data."""

import json
from pathlib import Path

import numpy as np
import pytest
from invented_runs import write_run
from typer.testing import CliRunner

from avar_eval.cli import app
from avar_eval.diagnosis.correlate import CorrelateError, Point, Points, correlate, paper_points, run_points
from avar_eval.diagnosis.correlate_figure import draw_correlation
from avar_eval.errors import AvarError
from avar_eval.leaderboard.paper import paper
from avar_eval.leaderboard.store import Store, default_store
from avar_eval.models.registry import registry
from avar_eval.statistics import pearson


def test_pearson_is_numpys_with_fishers_interval() -> None:
    x, y = [7.5, 10.1, 13.8, 18.9, 9.0], [44.8, 49.0, 50.0, 54.2, 44.0]
    found = pearson(x, y)
    assert found.r == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found.r is not None
    z, half = np.arctanh(found.r), 1.959964 / np.sqrt(5 - 3)
    assert found.ci95 == pytest.approx((np.tanh(z - half), np.tanh(z + half)))
    assert found.p is not None
    assert found.p < 0.05
    assert pearson([1, 2, 3], [2, 4, 7]).ci95 is None
    assert pearson([1, 2], [2, 4]).r is None
    assert pearson([1, 1, 1, 1], [1, 2, 3, 4]).r is None


def test_the_printed_pairs_of_the_paper() -> None:
    found = correlate(paper_points())
    assert [point.vas for point in found.points] == [7.5, 10.1, 13.8, 18.9]
    assert [round(point.accuracy, 2) for point in found.points] == [44.83, 49.0, 50.03, 54.17]
    assert found.n == 4
    printed = [(7.5, 68.2 + 25.2 + 41.1), (10.1, 70.6 + 32.9 + 43.5), (13.8, 72.0 + 34.1 + 44.0)]
    assert found.r == pytest.approx(np.corrcoef(np.array([*printed, (18.9, 74.7 + 37.4 + 50.4)]).T)[0, 1])
    without = {one.model: one.r for one in found.without}
    rest = np.array([(point.vas, point.accuracy) for point in found.points if point.model != "AVAR-Thinker"])
    assert without["AVAR-Thinker"] == pytest.approx(np.corrcoef(rest.T)[0, 1])


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


def test_runs_and_the_leaderboard_give_the_same(tmp_path: Path) -> None:
    runs = scored(tmp_path)
    of_runs = correlate(run_points(runs, None))
    assert [(point.model, point.accuracy) for point in of_runs.points] == [
        ("a", 30), ("b", pytest.approx(45)), ("c", 50), ("d", 80)]  # fmt: skip
    store = Store(default_store())
    for run in runs:
        store.add(run / "results.json")
    store.add(write_run(tmp_path / "s", "a", 30.0, rows=2, steering={"image": 0.5}) / "results.json")
    of_store = correlate(run_points([], ["shapes"]))
    assert (of_store.r, of_store.n, of_store.points) == (of_runs.r, 4, of_runs.points)


def test_a_steered_run_is_a_model_of_its_own_and_one_without_vas_is_named(tmp_path: Path) -> None:
    runs = scored(tmp_path)
    runs.append(write_run(tmp_path / "steered", "a", 8.0, rows=20, layers=4, steering={"image": 0.15, "system": 0.4}))
    runs.append(write_run(tmp_path / "served", "served", 8.0, rows=20, layers=4, measured=False))
    points = run_points(runs, None)
    assert "a, steered: image=0.15,system=0.4" in [point.model for point in points.points]
    assert points.left_out == {"served": "no finite VAS of shapes"}
    learned = write_run(tmp_path / "learned", "learned", 8.0, rows=4, layers=4, trained_on=["shapes"])
    assert [point.note for point in run_points([learned], None).points] == ["trained on shapes"]


def test_a_mean_over_fewer_tasks_than_the_other_models_have_is_no_point(tmp_path: Path) -> None:
    runs = scored(tmp_path)
    for run in runs:
        results = json.loads((run / "results.json").read_text())
        second = json.loads(json.dumps(results["tasks"]["shapes"]))
        if run.name == "b":
            second["metrics"]["vas"] = {"value": None, "ci95": None, "n": 0}
        results["tasks"]["shapes_prior"] = second
        (run / "results.json").write_text(json.dumps(results))
    points = run_points(runs, ["shapes", "shapes_prior"])
    assert [point.model for point in points.points] == ["a", "c", "d"]
    assert points.left_out == {"b": "no finite VAS of shapes_prior"}


def test_the_command_prints_n_and_writes_its_files(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["correlate", "--paper", "--output", str(tmp_path)])
    assert done.exit_code == 0, done.output
    for words in ("r = 0.968", "n = 4", "r = 0.9616, p = 9.0e-06 over 10 models", "for 4 of them"):
        assert words in done.output
    assert json.loads((tmp_path / "correlate.json").read_text())["n"] == 4
    assert (tmp_path / "correlate.png").stat().st_size > 20_000


@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_a_picture_of_many_models(tmp_path: Path, scale: float) -> None:
    points = [
        Point(
            model=f"model-{i}", vas=5 + i % 7 * scale, vas_ci95=(4 + i % 7 * scale, 7 + i % 7 * scale), accuracy=40 + i
        )
        for i in range(14)
    ]
    found = correlate(Points("tests", "x", points, {}))
    assert draw_correlation(found, tmp_path / "picture.png").stat().st_size > 20_000


def test_too_few_models_and_empty_store_get_one_message(tmp_path: Path) -> None:
    with pytest.raises(CorrelateError, match="needs 3 models with both VAS and accuracy, and there are 2"):
        correlate(run_points(scored(tmp_path)[:2], None))
    with pytest.raises(CorrelateError, match="no finished run in the leaderboard"):
        run_points([], None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--paper", "--tasks", "shapes"], "--paper takes neither"),
        (["NOWHERE"], "there is no file"),
        (["CORRUPT"], "is not a results.json"),
        (["RUN", "--tasks", "shaps"], "did you mean shapes"),
        (["RUN", "--tasks", "avar_vas"], "no run of mathvista"),
        (["RUN", "--tasks", ""], "--tasks is empty"),
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
    assert run_points(folders, None).note is None
    named = {"name": "custom", "prompts": {"shapes": {"prompt_template": "{{ question }}"}}}
    folders.append(write_run(tmp_path / "named", "model-named", 10.0, prompt_style="none", protocol=named))
    found = correlate(run_points(folders, None))
    assert found.note is not None
    assert "--uniform-prompts, or one --protocol, asks all alike" in found.note
    assert json.loads(found.to_json())["note"] == found.note
