"""Two runs compared: what guesses are worth, scores that need a benchmark's rows, means, attention; many rows."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invented_rows import hallusion_row, mmmu_pro_row, mmmu_row, vision_row
from large_runs import mathvision_rows, write_large_run
from typer.testing import CliRunner

from avar_eval.attention.summary import AttentionSummary, QueryAttention
from avar_eval.cli import app
from avar_eval.records.causal import AlteredRecord, CausalRecord
from avar_eval.records.record import JudgementRecord, Record
from avar_eval.results.compare import Comparison, compare
from avar_eval.results.grading import Answered, grade_all
from avar_eval.results.metrics import Benchmark
from avar_eval.results.schema import Results, TaskRecords, read_results, run_id, write_task_records
from avar_eval.results.summary import attention_means, group_results, left_out_rows, task_result
from avar_eval.tasks.catalog import catalog

OPTIONS = "['Spring', 'Summer', 'Autumn']"
ROWS = {f"validation_Art_{n}": mmmu_row(f"validation_Art_{n}", options=OPTIONS) for n in range(12)}
RIGHT, WRONG, GUESSED = "Answer: C", "Answer: A", "no idea at all"


def finished_run(folder: Path, responses: list[str], *, chances: bool = True) -> Path:
    """A run on twelve rows of three options, as a run leaves it; without `chances` one of before they were written."""
    folder.mkdir()
    benchmark = Benchmark(catalog()["mmmu"], ROWS)
    judged = grade_all("mmmu", [Answered(ROWS[row], text, "stop") for row, text in zip(ROWS, responses, strict=True)])
    records = [
        Record(
            key=row,
            task="mmmu",
            row_id=row,
            sample=0,
            prompt="",
            prompt_token_ids=[],
            response_token_ids=[],
            response=text,
            finish_reason="stop",
            judgement=JudgementRecord(**judgement.to_json()),
        )
        for row, text, judgement in zip(ROWS, responses, judged, strict=True)
    ]
    (folder / "records.jsonl").write_text("".join(record.model_dump_json() + "\n" for record in records))
    protocol = {"model": "m", "steering": None}
    task = task_result(benchmark, [record.outcome() for record in records], attention_means([]), left_out_rows({}))
    Results(run_id=run_id(protocol), tasks={"mmmu": task}, protocol=protocol).write(folder)
    worth = [benchmark.guess_chance(row) for row in ROWS] if chances else None
    strata = ["Art"] * len(ROWS)
    asked = TaskRecords(keys=list(ROWS), clusters=list(ROWS), strata=strata, guess_chances=worth)
    write_task_records(folder, {"mmmu": asked})
    return folder


def official(a: Path, b: Path) -> Comparison:
    (found,) = [one for one in compare(a, b) if one.verdict == "official"]
    return found


def test_a_guess_counts_as_in_the_scores(tmp_path: Path) -> None:
    a = finished_run(tmp_path / "a", [RIGHT] * 4 + [GUESSED] * 6 + [WRONG] * 2)
    b = finished_run(tmp_path / "b", [RIGHT] * 6 + [GUESSED] * 2 + [WRONG] * 4)
    found = official(a, b)
    assert found.a == pytest.approx((4 + 6 / 3) / 12)
    assert found.b == pytest.approx((6 + 2 / 3) / 12)
    for run, share in ((a, found.a), (b, found.b)):
        assert share == pytest.approx(read_results(run).tasks["mmmu"].metrics["official"].value)
    assert found.difference.n == 12
    rows = list(ROWS)
    assert (found.gained, found.lost) == (rows[4:6], rows[8:10])
    assert found.test == "permutation"


def test_runs_of_before_groups_were_written_down_are_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [finished_run(tmp_path / name, [RIGHT] * 12) for name in "ab"]
    compare(*runs)
    assert "which group" not in capsys.readouterr().err
    for run in runs:
        asked = json.loads((run / "asked.json").read_text())
        del asked["mmmu"]["strata"]
        (run / "asked.json").write_text(json.dumps(asked))
    compare(*runs)
    assert capsys.readouterr().err.count("says which group each row of mmmu is in") == 1


def test_verdicts_are_compared_within_the_groups_that_are_always_asked(tmp_path: Path) -> None:
    ids = [f"validation_{name}_{n}" for name in ("Art", "Music") for n in range(40)]
    rows = {one: mmmu_row(one, options=OPTIONS) for one in ids}
    a = judged_run(tmp_path / "a", {"mmmu": rows}, lambda number: number >= 40 and number % 2 == 0)
    b = judged_run(tmp_path / "b", {"mmmu": rows}, lambda number: number < 40 and number % 2 == 0)
    found = {one.metric: one for one in compare(a, b)}
    within = 40 / 39 * 0.25  # the variance of a subject's differences, half of which are 0 and half of one sign
    assert found["accuracy"].error == pytest.approx(math.sqrt(2 * (1 / 2) ** 2 * within / 40))
    assert found["accuracy"].error < 0.75 * math.sqrt(0.5 / 80)
    assert (found["accuracy"].test, found["accuracy"].p) == ("permutation", 1.0)


def test_without_guesses_it_is_mcnemars_test(tmp_path: Path) -> None:
    a, b = finished_run(tmp_path / "a", [RIGHT] * 12), finished_run(tmp_path / "b", [RIGHT] * 5 + [WRONG] * 7)
    found = official(a, b)
    assert (found.test, found.p) == ("McNemar mid-p", pytest.approx(1 / 2**7))
    assert found.difference.ci95 is not None
    assert found.difference.ci95[1] < 0


def test_a_run_that_does_not_say_what_guesses_are_worth_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = finished_run(tmp_path / "a", [RIGHT] * 4 + [GUESSED] * 8, chances=False)
    b = finished_run(tmp_path / "b", [RIGHT] * 6 + [GUESSED] * 6)
    found = official(a, b)
    assert (found.difference.n, found.a, found.b) == (4, 1.0, 1.0)
    said = capsys.readouterr().err
    assert f"{a} does not say what the published rule's guesses are worth" in said
    assert "leaves out 8 responses to mmmu" in said
    assert str(b) not in said


def judged_run(folder: Path, tasks: dict[str, dict[str, dict[str, Any]]], right: Callable[[int], bool]) -> Path:
    """A run whose answers are right or wrong by their row's number, with attention, and causal measures of 30."""
    folder.mkdir()
    results, asked, lines, judged = {}, {}, [], {}
    for task, rows in tasks.items():
        benchmark = Benchmark(catalog()[task], rows)
        records = [
            Record(
                key=f"{task} {row}",
                task=task,
                row_id=row,
                sample=0,
                prompt="",
                prompt_token_ids=[],
                response_token_ids=[],
                response="",
                finish_reason="stop" if number else "length",
                judgement=JudgementRecord(state="scored", extracted="", correct=right(number), grader="1"),
                attention=AttentionSummary(user=attention(2.0 if right(number) else 1.5), response=None),
                causal=CausalRecord(
                    tokens=1,
                    dependence=0.5 + number % 7 + right(number),
                    blind=AlteredRecord(key="", images="grey", state="scored", extracted="", correct=number % 4 == 0),
                )
                if number < 30
                else None,
            )
            for number, row in enumerate(rows)
        ]
        outcomes = [record.outcome() for record in records]
        judged[task] = benchmark, outcomes
        results[task] = task_result(benchmark, outcomes, attention_means([]), left_out_rows({}))
        asked[task] = TaskRecords(
            keys=[record.key for record in records],
            clusters=[benchmark.cluster(row) for row in rows],
            strata=None if benchmark.stratum is None else [benchmark.stratum(row) for row in rows],
        )
        lines += [record.model_dump_json() + "\n" for record in records]
    (folder / "records.jsonl").write_text("".join(lines))
    protocol = {"model": folder.name, "steering": None}
    groups = group_results(results, judged)
    Results(run_id=run_id(protocol), tasks=results, groups=groups, protocol=protocol).write(folder)
    write_task_records(folder, asked)
    return folder


def attention(vas: float) -> QueryAttention:
    return QueryAttention(
        tokens=3, vas=vas, vas_without_sink=vas, ratio_of_sums=vas / 10, vas_by_layer=None,
        share_by_layer={"image": [0.1], "system": [0.2]},
    )  # fmt: skip


def written(data: Path, folder: str, rows: list[dict[str, Any]]) -> None:
    (data / folder).mkdir(parents=True)
    plain = [row | {name: "a.png" for name in row if name.startswith("image") and row[name]} for row in rows]
    (data / folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in plain))


def test_a_benchmarks_own_score_is_compared_where_its_rows_are_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [hallusion_row(str(figure), str(number), set_id=str(of_set)) for of_set in range(20)
            for figure in (1, 2) for number in range(3)]  # fmt: skip
    written(tmp_path / "data", "hallusionbench", rows)
    by_id = {catalog()["hallusion"].row_id(row): row for row in rows}
    a = judged_run(tmp_path / "a", {"hallusion": by_id}, lambda number: number % 5 > 0)
    b = judged_run(tmp_path / "b", {"hallusion": by_id}, lambda number: number % 5 > 0 or number < 60)
    (own,) = [one for one in compare(a, b, data_dir=tmp_path / "data") if one.metric == "mean"]
    for run, value in ((a, own.a), (b, own.b)):
        score = read_results(run).tasks["hallusion"].headline
        assert score is not None
        assert value == pytest.approx(score.values["strict"].value)
    assert own.difference.value == pytest.approx(own.b - own.a)
    assert (own.clusters, own.verdict, own.test) == (20, "strict", "permutation")
    assert own.p is not None
    assert own.p < 0.05
    assert not any(one.metric == "mean" for one in compare(a, b))
    assert "scores that need the rows of hallusion are not compared: give --data-dir" in capsys.readouterr().err


def test_groups_means_are_compared_by_question(tmp_path: Path) -> None:
    standard = [mmmu_pro_row(f"test_Botany_{n}") for n in range(40)]
    vision = [vision_row(f"test_Botany_{n}") for n in range(40)]
    written(tmp_path / "data", catalog()["mmmu_pro_standard10"].data, standard)
    written(tmp_path / "data", catalog()["mmmu_pro_vision"].data, vision)
    tasks = {
        name: {str(row["id"]): row for row in rows}
        for name, rows in (("mmmu_pro_standard10", standard), ("mmmu_pro_vision", vision))
    }
    a = judged_run(tmp_path / "a", tasks, lambda number: number % 2 == 0)
    b = judged_run(tmp_path / "b", tasks, lambda number: number % 2 == 0 or number % 5 == 0)
    found = compare(a, b, data_dir=tmp_path / "data")
    mean = next(one for one in found if one.task == "mmmu_pro")
    assert (mean.metric, mean.verdict, mean.clusters, mean.difference.n) == ("mean", "strict", 40, 80)
    assert mean.difference.value == pytest.approx(4 / 40)
    alone = next(one for one in found if one.task == "mmmu_pro_vision")
    # both settings were answered alike: the second says nothing that the first has not
    assert mean.error == pytest.approx(alone.error * math.sqrt(40 / 39), rel=1e-6)


def test_attention_is_compared_as_a_ratio(tmp_path: Path) -> None:
    rows = {str(n): {} for n in range(30)}
    a = judged_run(tmp_path / "a", {"shapes": rows}, lambda number: False)
    b = judged_run(tmp_path / "b", {"shapes": rows}, lambda number: number % 2 == 0)
    found = {one.metric: one for one in compare(a, b)}
    assert set(found) == {"accuracy", "ratio_of_sums", "vas", "blind", "visual_gain", "visual_dependence"}
    expected = math.exp(15 * math.log(2.0 / 1.5) / 30)
    for name, of in (("vas", 1.0), ("ratio_of_sums", 0.1)):
        assert found[name].scale == "ratio"
        assert found[name].a == pytest.approx(1.5 * of)
        assert found[name].difference.value == pytest.approx(expected)
        assert found[name].difference.ci95 is not None
        assert found[name].difference.ci95[0] > 1


def test_causal_columns_are_compared_on_the_rows_that_have_them(tmp_path: Path) -> None:
    rows = {str(n): {} for n in range(40)}
    a = judged_run(tmp_path / "a", {"shapes": rows}, lambda number: False)
    b = judged_run(tmp_path / "b", {"shapes": rows}, lambda number: number % 2 == 0)
    found = {one.metric: one for one in compare(a, b)}
    assert found["accuracy"].difference.n == 40
    for name, scale, value in (
        ("blind", "share", 0.0),
        ("visual_gain", "share", 0.5),
        ("visual_dependence", "value", 0.5),
    ):
        assert (found[name].scale, found[name].difference.n) == (scale, 30)
        assert found[name].difference.value == pytest.approx(value)
    assert found["visual_gain"].a == pytest.approx(-8 / 30)
    shown = CliRunner().invoke(app, ["compare", str(a), str(b)])
    assert shown.exit_code == 0, shown.output
    assert "visual_gain" in shown.stdout
    assert "responses that ended at the token limit: 2.5 % and 2.5 %" in shown.stdout


def test_twenty_thousand_rows_take_a_moment(tmp_path: Path) -> None:
    """Intervals of a benchmark of 96 sub-scores, and two runs of it compared, files read.

    `python tests/benchmarks/statistics_speed.py` does it with 100,000.
    """
    benchmark = Benchmark(catalog()["mathvision"], mathvision_rows(20_000))
    runs = tmp_path / "a", tmp_path / "b"
    for folder, more in zip(runs, (0, 50), strict=True):
        assert write_large_run(folder, benchmark, more) < 3
    before = time.thread_time()
    found = compare(*runs)
    assert time.thread_time() - before < 3
    assert found[0].difference.n == 20_000
    assert found[0].p is not None
    assert found[0].p < 0.001
