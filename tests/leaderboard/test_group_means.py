"""The means of groups in results.json, on the leaderboard and in the table that a run prints."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from avar_eval.leaderboard.store import Store
from avar_eval.leaderboard.table import markdown
from avar_eval.outcomes import Outcome, Verdict
from avar_eval.results.metrics import Benchmark
from avar_eval.results.run_table import print_results
from avar_eval.results.schema import GroupResult, Headline, LeftOut, Metric, Results, TaskResult, run_id
from avar_eval.results.summary import group_results, task_result
from avar_eval.tasks.catalog import catalog

NOTHING = Metric(value=None, ci95=None, n=0)
# AVAR-Thinker's row of the paper's table, with an MMMU-Pro of 42.9 as the mean of two settings.
ROW = {
    "mathvista": 0.747,
    "mathvision": 0.374,
    "mathverse_vo": 0.504,
    "mmmu": 0.638,
    "mmmu_pro_standard10": 0.44,
    "mmmu_pro_vision": 0.418,
    "mmstar": 0.641,
    "hallusion_image": 0.595,
}


def scored(name: str, strict: float, official: float | None, half: float = 0.02) -> TaskResult:
    """A task with a headline of that name: for HallusionBench the mean of its three, which is no accuracy."""

    def metric(value: float) -> Metric:
        return Metric(value=value, ci95=(value - half, value + half), n=2000)

    values: dict[Verdict, Metric] = {"strict": metric(strict)}
    if official is not None:
        values["official"] = metric(official)
    metrics = dict.fromkeys(("official", "vas", "vas_response", "truncated", "unparsed"), NOTHING)
    own: dict[Verdict, dict[str, Metric]] = {v: {name: m} for v, m in values.items()} if name != "accuracy" else {}
    return TaskResult(
        metrics=metrics
        | {"accuracy": metric(strict if name == "accuracy" else 0.95)}
        | ({"official": values["official"]} if official is not None else {}),
        benchmark=own,
        headline=Headline(name=name, values=values),
        vas_band=None,
        left_out=LeftOut(n=0, ids=[], reason=""),
    )


def tasks() -> dict[str, TaskResult]:
    names = {"hallusion_image": "mean"}
    return {task: scored(names.get(task, "accuracy"), value, value - 0.1) for task, value in ROW.items()}


def test_the_papers_average_has_its_columns_and_its_value_under_both_verdicts() -> None:
    found = group_results(tasks(), {})
    assert list(found) == ["avar7", "mmmu_pro"]
    assert list(found["avar7"].columns)[:5] == ["mathvista", "mathvision", "mathverse_vo", "mmmu", "mmmu_pro"]
    assert found["avar7"].columns["mmmu_pro"] == pytest.approx({"strict": 0.429, "official": 0.329})
    assert found["avar7"].mean["strict"].value == pytest.approx(0.561, abs=5e-4)
    assert found["avar7"].mean["official"].value == pytest.approx(0.461, abs=5e-4)
    assert found["avar7"].mean["strict"].n == 16000


def judged_mmmu_pro(shared: bool) -> tuple[dict[str, TaskResult], dict[str, tuple[Benchmark, list[Outcome]]]]:
    """Both settings of MMMU-Pro on 300 questions, which are the same in both, and answered alike, or not."""
    generator = np.random.default_rng(0)
    right = generator.random(300) < 0.5
    results, judged = {}, {}
    for number, name in enumerate(("mmmu_pro_standard10", "mmmu_pro_vision")):
        first = 0 if shared else 300 * number
        rows = {f"test_Art_{first + n}": {"id": f"test_Art_{first + n}", "options": "['1', '2']"} for n in range(300)}
        benchmark = Benchmark(catalog()[name], rows)
        values = right if shared or number == 0 else generator.permutation(right)
        outcomes = [
            Outcome(row, 0, "scored", "", bool(value), bool(value)) for row, value in zip(rows, values, strict=True)
        ]
        results[name] = task_result(benchmark, outcomes, {}, LeftOut())
        judged[name] = benchmark, outcomes
    return results, judged


def test_the_interval_of_a_mean_takes_a_question_that_two_tasks_share_as_one() -> None:
    widths = []
    for shared in (True, False):
        mean = group_results(*judged_mmmu_pro(shared))["mmmu_pro"].mean["strict"]
        assert mean.n == 600
        assert mean.ci95 is not None
        widths.append(mean.ci95[1] - mean.ci95[0])
    assert widths[0] == pytest.approx(proportion_width(300), rel=0.02)
    assert widths[1] == pytest.approx(proportion_width(600), rel=0.06)


def proportion_width(n: int) -> float:
    """Of Wilson's interval of a half."""
    low, high = proportion_confint(n // 2, n, method="wilson")
    return float(high - low)


def test_a_mean_of_which_nothing_but_numbers_is_known_has_no_interval() -> None:
    mean = group_results(tasks(), {})["avar7"].mean["strict"]
    assert (mean.ci95, mean.n) == (None, 16000)
    assert mean.value == pytest.approx(0.561, abs=5e-4)


def test_the_score_of_a_file_of_before_headlines_is_its_accuracy() -> None:
    """Such a task has none of the numbers that a mean takes by the headline: the mean is left out, not wrong."""
    old = tasks()["mmmu"].model_copy(update={"headline": None})
    assert "avar7" not in group_results(tasks() | {"mmmu": old}, {})


def test_figure_1a_takes_the_worst_case() -> None:
    dynamath = scored("accuracy", 0.5, 0.5)
    dynamath.benchmark["strict"] = {"worst": Metric(value=0.2, ci95=(0.1, 0.3), n=2000)}
    found = group_results(tasks() | {"dynamath": dynamath}, {})["avar_vas"]
    assert found.mean["strict"].value == pytest.approx((0.747 + 0.374 + 0.504 + 0.2) / 4)
    assert "official" not in found.mean  # its worst case was not measured by that verdict


@pytest.mark.parametrize("missing", ["mathvista", "mmmu_pro_vision"])
def test_a_mean_over_fewer_columns_is_not_reported(missing: str) -> None:
    assert "avar7" not in group_results({task: of for task, of in tasks().items() if task != missing}, {})


def test_a_verdict_that_one_task_lacks_has_no_mean() -> None:
    found = group_results(tasks() | {"mmmu": scored("accuracy", 0.638, None)}, {})["avar7"]
    assert list(found.mean) == ["strict"]


def results_of(run: dict[str, Any], groups: dict[str, GroupResult]) -> Results:
    protocol = run["protocol"] | {"backend": {"backend": "hf"}, "trained_on": [], "grader": dict.fromkeys(ROW, "1")}
    protocol |= {"decoding": {"samples": 4}}
    return Results(run_id=run_id(protocol), tasks=tasks(), groups=groups, protocol=protocol)


def test_the_table_and_the_leaderboard_show_the_mean(
    run: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = results_of(run, group_results(tasks(), {}))
    print_results(results, tmp_path)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "avar7: mean of 7" in line]
    assert "56.1" in line
    assert "46.1" in line
    store = Store(tmp_path / "store")
    store.add(results.write(tmp_path))
    (row,) = store.rows("avar7")
    assert (row.score_name, row.n, row.accuracy, row.vas) == ("mean", 16000, None, None)
    assert row.score == pytest.approx(0.561, abs=5e-4)
    assert row.official == pytest.approx(0.461, abs=5e-4)
    assert "| avar7 (mean) | avar-tiny |" in markdown([row])
