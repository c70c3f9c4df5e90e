"""`avar-eval --steer` and `avar-eval sweep` on the embedded model: identities, pairing, resuming and the picture."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from readable_figures import check_readable
from runs import MODEL, Finished, records_of
from scipy.stats import ttest_1samp

from avar_eval.attention.steering import Steering
from avar_eval.errors import UsageError
from avar_eval.figures.style import drawing
from avar_eval.records.record import JudgementRecord, Record
from avar_eval.results.metrics import Benchmark
from avar_eval.results.schema import Metric, TaskResult
from avar_eval.results.summary import attention_means, left_out_rows, task_result
from avar_eval.statistics import mean
from avar_eval.sweep.compare import Comparison, Sweep, compare
from avar_eval.sweep.figure import draw_sweep
from avar_eval.sweep.grid import steering_grid
from avar_eval.sweep.report import print_sweep
from avar_eval.tasks.catalog import catalog

Run = Callable[..., Finished]
SHORT = ("--tasks", "shapes", "--limit", "4", "--max-new-tokens", "8")
STRONG = "image=0.15,system=0.4,mode=prob,layers=0"


def succeeded(finished: Finished) -> None:
    assert finished.code == 0, finished.stderr


@pytest.fixture(scope="module")
def plain(avar_eval: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without steering, of which a sweep asks no causal columns; never to be changed."""
    folder = tmp_path_factory.mktemp("plain")
    succeeded(avar_eval("--model", MODEL, *SHORT, "--causal", "off", "--output", str(folder)))
    return folder


def test_a_steered_run_says_so_everywhere_and_reuses_nothing(avar_eval: Run, plain: Path, tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_bytes((plain / "records.jsonl").read_bytes())
    done = avar_eval("--model", MODEL, *SHORT, "--output", str(tmp_path), "--steer", STRONG)
    succeeded(done)
    assert f"steered: {STRONG}" in " ".join(done.stdout.split())
    results = json.loads((tmp_path / "results.json").read_text())
    assert Steering(**results["protocol"]["steering"]) == Steering(image=0.15, system=0.4, mode="prob", layers=[0])
    unsteered = json.loads((plain / "results.json").read_text())
    assert unsteered["protocol"]["steering"] is None
    assert results["run_id"] != unsteered["run_id"]
    records = records_of(tmp_path)
    assert records[:4] == records_of(plain)
    assert len({record["key"] for record in records}) == 8
    first, steered = (
        {record["row_id"]: record["attention"]["user"]["vas_by_layer"][0] for record in of}
        for of in (records[:4], records[4:])
    )
    assert steered == pytest.approx({row: vas * 1.15 / 0.6 for row, vas in first.items()}, rel=1e-4)


@pytest.mark.parametrize(
    ("steer", "expected"),
    [
        ("avr", "unknown steering 'avr': did you mean avar"),
        ("image=2000", "--steer: image takes a number from -1 to 100, not 2000.0"),
        ("", "--steer is empty"),
    ],
)
def test_a_wrong_steering_gets_one_message(avar_eval: Run, steer: str, expected: str) -> None:
    done = avar_eval("--model", MODEL, *SHORT, "--steer", steer)
    assert done.code == 2
    assert re.search(expected, done.stderr)
    assert len(done.stderr.splitlines()) == 1


def test_layers_that_the_model_lacks_end_in_one_message(avar_eval: Run, tmp_path: Path) -> None:
    done = avar_eval("--model", MODEL, *SHORT, "--steer", "vaf", "--output", str(tmp_path))
    assert done.code == 1
    assert "steering asks for layers up to 14, but the model's are 0 to 4" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ((MODEL, "--layers", "3-9"), 1, "steering asks for layers up to 9, but the model's are 0 to 4"),
        (("gpt-4o",), 2, "gpt-4o cannot be swept: it does not run with --backend transformers"),
        ((MODEL, "--mode", "logt"), 2, "mode takes logit, log, prob, abs, not 'logt'"),
        ((MODEL, "--system", "1.5"), 2, "system takes a number from -100 to 1, not 1.5"),
        (("avar-tny",), 2, "unknown model 'avar-tny': did you mean avar-tiny"),
    ],
)
def test_a_sweep_that_cannot_be_ends_before_anything_is_asked(
    avar_eval: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, expected: str
) -> None:
    done = avar_eval("sweep", *arguments, *SHORT, "--output", str(tmp_path / "run"))
    assert done.code == code
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    records = tmp_path / "run" / "records.jsonl"
    assert not records.exists() or not records.read_bytes()


GRID = ("sweep", MODEL, *SHORT, "--system", "0,0.4", "--image", "0,0.15", "--mode", "prob")


@pytest.fixture(scope="module")
def swept(avar_eval: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Path]:
    """A finished sweep of three points; never to be changed."""
    folder = tmp_path_factory.mktemp("sweep") / "run"
    done = avar_eval(*GRID, "--output", str(folder))
    succeeded(done)
    return done, folder


def test_a_sweep_pairs_every_point_with_the_unsteered_run(swept: tuple[Finished, Path], plain: Path) -> None:
    done, folder = swept
    found: dict[str, Any] = json.loads((folder / "sweep.json").read_text())
    assert found["unsteered"] == json.loads((plain / "results.json").read_text())["tasks"]
    assert [of["steering"]["system"] for of in found["comparisons"]] == [0.4, 0.0, 0.4]
    assert len(records_of(folder)) == 4 * 4
    assert records_of(folder)[:4] == records_of(plain)
    for of in found["comparisons"]:
        expected = of["accuracy"]["value"] - found["unsteered"]["shapes"]["metrics"]["accuracy"]["value"]
        assert of["difference"]["value"] == pytest.approx(expected)
        assert of["difference"]["n"] == of["accuracy"]["n"] == 4
        assert 0 < of["p"] <= 1
    for heading in ("unsteered", "accuracy %", "difference", "VAS", "image=0.15"):
        assert heading in done.stdout


def test_a_sweep_draws_its_picture(swept: tuple[Finished, Path]) -> None:
    with Image.open(swept[1] / "sweep.png") as picture:
        assert picture.width > 400
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 20


def test_a_killed_sweep_goes_on_where_it_was(avar_eval: Run, swept: tuple[Finished, Path], tmp_path: Path) -> None:
    whole = (swept[1] / "records.jsonl").read_bytes()
    (tmp_path / "records.jsonl").write_bytes(whole[: int(0.6 * len(whole))])
    succeeded(avar_eval(*GRID, "--output", str(tmp_path)))
    assert (tmp_path / "sweep.json").read_bytes() == (swept[1] / "sweep.json").read_bytes()
    assert sorted((tmp_path / "records.jsonl").read_bytes().split(b"\n")) == sorted(whole.split(b"\n"))


def record(row: int, correct: bool, sample: int = 0) -> Record:
    judgement = JudgementRecord(state="scored", extracted="1", correct=correct, grader="test")
    return Record(
        key=f"{row}-{sample}-{correct}",
        task="shapes",
        row_id=str(row),
        sample=sample,
        prompt="Why?",
        prompt_token_ids=[1],
        response_token_ids=[2],
        response="1",
        finish_reason="stop",
        judgement=judgement,
    )


def numbers(records: list[Record]) -> TaskResult:
    """What a run finds that answered these."""
    benchmark = Benchmark(catalog()["shapes"], {record.row_id: {} for record in records})
    return task_result(benchmark, [record.outcome() for record in records], attention_means([]), left_out_rows({}))


def compared(steered: list[Record], unsteered: list[Record], cluster: Callable[[str], str] = str) -> Comparison:
    """One point alone."""
    point = (Steering(system=0.4), "shapes", numbers(steered), steered)
    (found,) = compare([point], {"shapes": unsteered}, {"shapes": cluster}, 0)
    return found


def test_pairs_are_formed_by_row_and_sample_whatever_their_order() -> None:
    right = [row % 3 == 0 for row in range(30)]
    steered = [record(row, not right[row] if row % 5 == 0 else right[row]) for row in range(30)]
    unsteered = [record(row, right[row]) for row in reversed(range(30))]
    found = compared(steered, unsteered)
    assert found.difference.value == pytest.approx((4 - 2) / 30)
    differences = [one.judgement.correct - right[int(one.row_id)] for one in steered if one.judgement]
    assert found.difference.ci95 == pytest.approx(mean(differences).ci95, abs=0.01)
    assert found.p == pytest.approx(ttest_1samp(differences, 0).pvalue, abs=0.01)


def test_rows_of_a_cluster_and_samples_of_a_row_go_together() -> None:
    """As in every interval of a run: by row, four rows of a picture each would be four times the evidence."""
    steered = [record(row, row % 8 < 6) for row in range(80)]
    unsteered = [record(row, row % 8 < 4) for row in range(80)]
    by_row, by_picture = (compared(steered, unsteered, of) for of in (str, lambda row: str(int(row) // 8 % 10)))
    assert by_row.difference.ci95 is not None
    assert by_picture.difference.ci95 is None or by_picture.difference.ci95 != by_row.difference.ci95
    sampled = [record(row, row % 2 == 0, sample) for row in range(12) for sample in range(4)]
    plain = [record(row, row % 4 == 0, sample) for row in range(12) for sample in range(4)]
    once = [record(row, row % 2 == 0) for row in range(12)], [record(row, row % 4 == 0) for row in range(12)]
    assert compared(sampled, plain).difference.ci95 == pytest.approx(compared(*once).difference.ci95)


def test_the_best_point_of_a_grid_without_effect_is_seldom_above_0() -> None:
    generator = np.random.default_rng(1)
    above = 0
    for _ in range(60):
        unsteered = [record(row, bool(right)) for row, right in enumerate(generator.random(100) < 0.6)]
        points = []
        for number in range(16):
            steered = [record(row, bool(right)) for row, right in enumerate(generator.random(100) < 0.6)]
            points.append((Steering(system=0.1 + number / 100), "shapes", numbers(unsteered), steered))
        found = compare(points, {"shapes": unsteered}, {"shapes": str}, 0)
        above += any(one.difference.ci95 is not None and one.difference.ci95[0] > 0 for one in found)
        assert all((one.p < 0.05) == (not one.difference.ci95[0] <= 0 <= one.difference.ci95[1])
                   for one in found if one.difference.ci95)  # fmt: skip
    assert above <= 6  # by row and point, one in three


@pytest.mark.parametrize("title", [True, False])
@pytest.mark.parametrize("tasks", ["a", "ab", "abc"])
def test_a_picture_of_several_lines_and_tasks_is_readable(
    tasks: str, title: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr("avar_eval.sweep.figure.save_figure", lambda figure, path: drawn.append(figure) or path)
    records = [record(row, row % 2 == 0) for row in range(20)]
    result = numbers(records)
    grid = steering_grid("0,0.05,0.4,0.6", "0.15", "logit,prob", layers=["all", "1-3"])
    points = [(of, task, result, records) for of in grid for task in tasks]
    comparisons = compare(points, dict.fromkeys(tasks, records), dict.fromkeys(tasks, str), 0)
    sweep = Sweep(unsteered=dict.fromkeys(tasks, result), comparisons=comparisons, protocol={"model": "avar-tiny"})
    draw_sweep(sweep, tmp_path / "sweep.png", title)
    with drawing():
        check_readable(drawn[0], title)


def test_a_grid_holds_every_combination_once_and_nothing_unsteered() -> None:
    grid = steering_grid("0,0.4", "0,0.15", "logit,prob", layers=["all", "1-2"])
    assert len(grid) == len(set(grid)) == 2 * 2 * 3
    assert all(of.active for of in grid)
    assert Steering(image=0.15, system=0.4, mode="prob", layers=[1, 2]) in grid


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("0", "0"), "nothing is steered"),
        (("0.4,", "0"), "--system takes different values"),
        (("0.4,0.4", "0"), "--system takes different values"),
        (("much", "0"), "system takes a number"),
        (("0.4", "0", "prob,sqrt"), "mode takes"),
        ((",".join(str(i / 999) for i in range(201)), "0"), "201 points"),
    ],
)
def test_a_wrong_grid_gets_one_message(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        steering_grid(*arguments)


def test_no_number_is_cut_off_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steered, unsteered = ([record(row, row % of == 0) for row in range(1000)] for of in (7, 2))
    found = compared(steered, unsteered)
    wide = found.model_copy(update={"vas": Metric(value=13912.4, ci95=(941.75, 33383.5), n=1000)})
    monkeypatch.setenv("COLUMNS", "80")
    sweep = Sweep(unsteered={"shapes": numbers(unsteered)}, comparisons=[wide], protocol={"model": "model"})
    print_sweep(sweep, Path("sweep.png"), Path("folder"))
    shown = capsys.readouterr().out
    for number in ("1,000", "-35.7", "< 0.001", "13.9k", "[942–33.4k]"):
        assert number in shown
