"""A task's numbers: both verdicts, own metrics with clustered intervals, several samples."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from invented_results import invented_results

from avar_eval.outcomes import JudgeOutcome, Outcome
from avar_eval.results import metrics as module
from avar_eval.results.metrics import Benchmark, benchmark_metrics, majority_correct, response_metrics
from avar_eval.results.schema import LeftOut, Results, note_other_run, run_id
from avar_eval.results.summary import left_out_rows
from avar_eval.statistics import Estimate, clustered_proportion, pass_at_k
from avar_eval.tasks.catalog import catalog
from avar_eval.tasks.shares import Parts, Units

ENTRY = catalog()["shapes"]


def proportion(values: Sequence[bool]) -> Estimate:
    """Of values that have nothing in common."""
    return clustered_proportion(values, range(len(values)))


def outcome(row: str, correct: bool, sample: int = 0, **more: Any) -> Outcome:
    return Outcome(row, sample, **{"state": "scored", "extracted": "x", **more}, correct=correct)


@pytest.fixture
def hooked(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what the benchmark's task.py offers; gives a benchmark of rows a0, a1, b0, …: two variants a question."""

    def hooked(**hooks: Any) -> Benchmark:
        monkeypatch.setattr(module, "task_hooks", lambda task: SimpleNamespace(**hooks))
        return Benchmark(ENTRY, {f"{q}{v}": {"question": q} for q in "abcdefghij" for v in range(2)})

    return hooked


def all_right(rows: Sequence[Mapping[str, Any]]) -> Parts:
    """The share of questions with all variants right, and a metric of nothing."""
    return {"worst": Units.of(range(len(rows)), [row["question"] for row in rows]), "of nothing": Units.of([])}


def test_both_verdicts_and_states_are_counted_apart(hooked: Any) -> None:
    outcomes = [
        outcome("a0", True, official=False),
        outcome("a1", False, state="timeout", official=True),
        outcome("b0", False, state="unparsed", official=None),
        outcome("b1", False, state="truncated", official=False, cut=True),
        outcome("c0", False, official=False, cut=True),
    ]
    found = response_metrics(hooked(), outcomes)
    assert {name: (one.value, one.n) for name, one in found.items()} == {
        "accuracy": (0.2, 5),
        "official": (0.25, 4),
        "truncated": (0.4, 5),
        "unparsed": (0.2, 5),
        "timeout": (0.2, 5),
    }
    assert found["accuracy"] == proportion([True, False, False, False, False])


def test_a_guess_of_the_published_rule_counts_what_it_is_worth(hooked: Any) -> None:
    """Four options: of 20 rows 5 are right, 10 wrong, and on 5 it guesses; a row without a response is no guess."""
    benchmark = hooked(guess_chance=lambda row: 0.25 if row["question"] < "f" else None, parts=all_right)
    verdicts = [True] * 5 + [None] * 5 + [False] * 9 + [None]
    rows = [f"{q}{v}" for q in "abcdefghij" for v in range(2)]
    outcomes = [outcome(row, False, official=official) for row, official in zip(rows, verdicts, strict=True)]
    found = response_metrics(benchmark, outcomes)
    assert (found["official"].value, found["official"].n) == ((5 + 5 / 4) / 19, 19), "of the last one nothing is known"
    assert (found["official_guessed"].value, found["official_guessed"].n) == (0.25, 20)
    assert benchmark_metrics(benchmark, outcomes)["official"]["worst"].n == 19
    missing = [outcome("a0", False, official=None, state="missing")]
    assert response_metrics(benchmark, missing)["official"].n == 0
    assert "official_guessed" not in response_metrics(hooked(), outcomes)


def test_a_judges_errors_are_no_verdicts(hooked: Any) -> None:
    judges = [JudgeOutcome("scored", "x", True), JudgeOutcome("judge_error"), JudgeOutcome("unparsed", None, False)]
    found = response_metrics(hooked(), [outcome(f"a{i}", False, judge=judge) for i, judge in enumerate(judges)])
    assert (found["judge"].value, found["judge"].n) == (0.5, 2)
    assert (found["judge_error"].value, found["judge_error"].n) == (pytest.approx(1 / 3), 3)


def test_intervals_are_clustered_by_the_benchmarks_unit(hooked: Any) -> None:
    outcomes = [outcome(f"{q}{v}", q < "f") for q in "abcdefghij" for v in range(2)]
    rows = response_metrics(hooked(), outcomes)["accuracy"].ci95
    questions = response_metrics(hooked(cluster=lambda row: row["question"]), outcomes)["accuracy"].ci95
    assert rows == proportion([one.correct for one in outcomes]).ci95
    assert questions is not None
    assert rows is not None
    assert questions[0] < rows[0] < rows[1] < questions[1]


def test_own_metrics_stand_under_each_verdict(hooked: Any) -> None:
    benchmark = hooked(parts=all_right, cluster=lambda row: row["question"])
    outcomes = [outcome(f"{q}{v}", q < "f", official=v == 0) for q in "abcdefghij" for v in range(2)]
    found = benchmark_metrics(benchmark, outcomes)
    assert list(found) == ["strict", "official"]
    worst = found["strict"]["worst"]
    assert (worst.value, worst.n) == (0.5, 20)
    assert worst.ci95 == pytest.approx(proportion([True] * 5 + [False] * 5).ci95, abs=0.03)
    assert found["official"]["worst"].value == 0
    assert found["official"]["worst"].ci95 == proportion([False] * 10).ci95, "ten questions, not twenty rows"
    assert found["strict"]["of nothing"].ci95 is None
    assert benchmark_metrics(hooked(), outcomes) == {}


def test_samples_give_their_mean_pass_and_majority(hooked: Any) -> None:
    outcomes = [
        outcome(row, text.strip() == "7", sample, extracted=text)
        for row, texts in {"a0": ["7", "8", " 7 "], "b0": ["1", "1", "7"]}.items()
        for sample, text in enumerate(texts)
    ]
    found = response_metrics(hooked(), outcomes)
    assert found["accuracy"].value == 0.5
    assert found["pass@2"].value == pytest.approx((1 + 2 / 3) / 2)
    assert found["pass@3"].value == 1
    assert found["majority"].value == 0.5
    assert "majority" not in response_metrics(hooked(), outcomes[:1])


def test_samples_of_own_metrics_are_averaged(hooked: Any) -> None:
    benchmark = hooked(parts=all_right, cluster=lambda row: row["question"])
    outcomes = [outcome(f"{q}{v}", s == 0 or q == "a", s) for q in "abcd" for v in range(2) for s in range(2)]
    assert benchmark_metrics(benchmark, outcomes)["strict"]["worst"].value == (1 + 0.25) / 2


def test_a_majority_needs_votes_and_the_first_drawn_wins_a_tie() -> None:
    assert not majority_correct([outcome("a", False, state="unparsed", extracted=None)])
    assert majority_correct([outcome("a", False, 1, extracted="8"), outcome("a", True, 0, extracted="7")])
    assert not majority_correct([outcome("a", False, 0, extracted="8"), outcome("a", True, 1, extracted="7")])


@given(st.lists(st.booleans(), min_size=1, max_size=7), st.integers(1, 7))
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(samples: list[bool], k: int) -> None:
    if k > len(samples):
        with pytest.raises(ValueError, match="cannot be had"):
            pass_at_k(sum(samples), len(samples), k)
        return
    draws = list(combinations(samples, k))
    assert math.isclose(pass_at_k(sum(samples), len(samples), k), sum(map(any, draws)) / len(draws))


def test_the_command_is_no_part_of_a_runs_name() -> None:
    """The same questions to the same weights are the same run, whatever the options were called."""
    protocol = {"model": "avar-tiny", "seed": 0, "command": "avar-eval -m avar-tiny -t shapes"}
    assert run_id(protocol) == run_id(protocol | {"command": "avar-eval --model avar-tiny --tasks shapes"})
    assert run_id(protocol) == run_id({name: protocol[name] for name in ("seed", "model")})
    assert run_id(protocol) != run_id(protocol | {"seed": 1})


MISSING = "its picture is missing"


def test_rows_left_out_are_named_with_their_reasons() -> None:
    assert left_out_rows({}) == LeftOut(n=0, ids=[], reason="")
    assert left_out_rows({"3": MISSING, "1": MISSING}) == LeftOut(n=2, ids=["3", "1"], reason="its picture is missing")
    both = left_out_rows({"3": MISSING}, {"9": "too long, request 8", "7": "too long, request 5"})
    assert both.ids == ["3", "7", "9"]
    assert both.reason == "its picture is missing (1); too long, request 5 (2)"


def test_a_run_of_other_settings_is_named_before_its_results_make_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = Results.model_validate(invented_results())
    here, there = (
        one.model_copy(update={"run_id": name, "protocol": one.protocol | {"command": f"avar-eval --seed {seed}"}})
        for name, seed in (("a", 1), ("b", 2))
    )
    note_other_run(tmp_path, here)
    here.write(tmp_path)
    note_other_run(tmp_path, here)
    assert capsys.readouterr().err == ""
    note_other_run(tmp_path, there)
    assert "held the results of another run (avar-eval --seed 1)" in capsys.readouterr().err


def test_more_reasons_than_are_read_are_counted() -> None:
    reasons = {str(row): f"reason {'abcdefg'[row]}" for row in range(7)}
    found = left_out_rows({}, reasons)
    assert found.n == 7
    assert found.reason == "; ".join(f"reason {letter} (1)" for letter in "abcde") + "; and 2 other reasons"
    five = left_out_rows({}, {row: reason for row, reason in reasons.items() if int(row) < 5})
    assert five.reason == "; ".join(f"reason {letter} (1)" for letter in "abcde")
