"""Files of earlier versions are read by everything that reads runs; what cannot be read is named by file and field.

`run_of_an_earlier_version` was written by avar-eval at commit 643920e: two questions of shapes and of shapes_prior, two
samples each, in a folder that held a steered run before.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invented_results import invented_results
from runs import Finished, records_of

from avar_eval import load_results
from avar_eval.diagnosis.correlate_points import run_points
from avar_eval.diagnosis.profile import MeasuredRun
from avar_eval.leaderboard.store import Store
from avar_eval.results.compare import compare
from avar_eval.results.schema import Results, ResultsError, read_results
from avar_eval.score.rescore import score_run

EARLIER = Path(__file__).with_name("run_of_an_earlier_version")
SETTINGS = ("--samples", "2", "--temperature", "0.7", "--attention-samples", "2", "--device", "cpu")


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EARLIER, tmp_path / "earlier"))


def test_a_file_is_written_again_as_it_was() -> None:
    text = (EARLIER / "results.json").read_text(encoding="utf-8")
    found = read_results(EARLIER)
    name = f'  "run_id": "{found.run_id}",\n'
    assert found.to_json() == text.replace(name, f'{name}  "protocol_id": null,\n')  # the one field that came since


def test_judged_again_a_run_keeps_its_numbers(earlier: Path) -> None:
    before, records = read_results(EARLIER), records_of(EARLIER)
    after = score_run(earlier, None)
    assert (after.groups, after.run_id) == (before.groups, before.run_id)
    check_numbers(before, after)
    assert [one["judgement"]["correct"] for one in records_of(earlier)] == [
        one["judgement"]["correct"] for one in records
    ]
    assert all(one.difference.value == (1 if one.scale == "ratio" else 0) for one in compare(EARLIER, earlier))


def test_a_run_goes_on_and_asks_nothing_again(earlier: Path, avar_eval: Callable[..., Finished]) -> None:
    again = avar_eval(
        *("--model", "avar-tiny", "--tasks", "shapes,shapes_prior", "--limit", "2", *SETTINGS, "--causal", "off"),
        *("--output", str(earlier)),
    )
    assert again.code == 0, again.stderr
    assert (earlier / "records.jsonl").read_bytes() == (EARLIER / "records.jsonl").read_bytes()
    check_numbers(read_results(EARLIER), read_results(earlier))


def check_numbers(before: Results, after: Results) -> None:
    """The same values of as many responses; intervals are better ones, and the ratio of sums is pooled over rows."""
    for name, task in before.tasks.items():
        found = after.tasks[name]
        assert found.benchmark.keys() == task.benchmark.keys()
        for verdict, own in task.benchmark.items():
            assert {of: metric.value for of, metric in own.items()} == {
                of: metric.value for of, metric in found.benchmark[verdict].items()
            }
        for metric, of in task.metrics.items():
            assert found.metric(metric).n == of.n
            close = pytest.approx(of.value, rel=0.05) if metric == "ratio_of_sums" else of.value
            assert found.metric(metric).value == close


def test_notebooks_leaderboard_and_diagnoses_read_it(earlier: Path, tmp_path: Path) -> None:
    found = load_results(earlier)
    assert "avar-tiny" in repr(found)
    rows = found.to_dataframe("rows")
    assert len(rows) == 8  # not those of the steered run
    assert rows[["reference", "image_sha256", "protocol_id"]].isna().all(axis=None)
    assert rows.strict.mean() == pytest.approx(
        (found.tasks["shapes"].metrics["accuracy"].value or 0) / 2
        + (found.tasks["shapes_prior"].metrics["accuracy"].value or 0) / 2
    )
    store = Store(tmp_path / "board")
    store.add(earlier / "results.json")
    assert [(row.task, row.n) for row in store.rows()] == [("shapes", 4), ("shapes_prior", 4)]
    (point,) = run_points([earlier], ["shapes"]).points
    assert point.measures["vas"].value == found.tasks["shapes"].metrics["vas"].value
    assert MeasuredRun(earlier, ["shapes"]).results.tasks.keys() == {"shapes", "shapes_prior"}


def test_a_file_without_the_fields_of_later_versions_is_shown(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(invented_results()), encoding="utf-8")
    found = load_results(tmp_path)
    shown = repr(found)
    assert "mathvista" in shown
    assert "33.3" in shown
    scores = found.to_dataframe()
    assert set(scores.metric[scores.task == "mathvista"]) == set(invented_results()["tasks"]["mathvista"]["metrics"])


def changed(value: object, *keys: str) -> dict[str, Any]:
    results = invented_results()
    part = results
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    return results


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (changed(2, "schema"), "has results schema 2, and this avar-eval reads schema 1"),
        (changed(None, "run_id"), "(run_id is null, not a text)"),
        (changed([], "tasks"), "(tasks is an empty list, not an object)"),
        (
            changed("many", "tasks", "shapes", "metrics", "accuracy", "n"),
            '(tasks.shapes.metrics.accuracy.n is "many", not a whole number)',
        ),
        (
            changed(1.5, "tasks", "shapes", "metrics", "accuracy", "value"),
            "(tasks.shapes.metrics.accuracy.value is 1.5, not 1 or less)",
        ),
        (
            changed(-1.0, "tasks", "shapes", "metrics", "vas", "value"),
            "(tasks.shapes.metrics.vas.value is -1.0, not 0 or more)",
        ),
        (changed({}, "tasks", "shapes", "metrics"), "(tasks.shapes.metrics has no accuracy)"),
        (changed({"name": "accuracy"}, "tasks", "shapes", "headline"), "(tasks.shapes.headline has no values)"),
        (
            changed({"strict": {"a": 0.5}}, "tasks", "shapes", "benchmark"),
            "(tasks.shapes.benchmark.strict.a is 0.5, not an object)",
        ),
        (changed("x", "protocol"), '(protocol is "x", not an object)'),
        (changed({}, "protocol"), "(protocol has no model)"),
        (changed({"image": "much"}, "protocol", "steering"), '(protocol.steering.image is "much", not a number)'),
        (changed(3, "protocol", "decoding"), "(protocol.decoding is 3, not an object)"),
        (changed({"shapes": 5}, "protocol", "grader"), "(protocol.grader.shapes is 5, not a list or a text)"),
        (changed("gpt", "protocol", "judge"), '(protocol.judge is "gpt", not an object)'),
        (
            changed({"mode": "much"}, "protocol", "causal"),
            "(protocol.causal.mode is \"much\", not 'off', 'fast' or 'full')",
        ),
        (changed({"name": 3}, "protocol", "protocol"), "(protocol.protocol.name is 3, not a text)"),
        (changed("x", "protocol", "limit"), '(protocol.limit is "x", not a whole number)'),
        (changed([3], "protocol", "tasks"), "(protocol.tasks is a list of 1, not an object)"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: dict[str, Any], field: str) -> None:
    (tmp_path / "results.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ResultsError) as raised:
        read_results(tmp_path)
    assert str(tmp_path / "results.json") in str(raised.value)
    assert field in str(raised.value)
