"""What a guess of the published rule is worth where two runs are compared: the same as in their own scores."""

from pathlib import Path

import pytest
from invented_rows import mmmu_row

from avar_eval.records.record import JudgementRecord, Record
from avar_eval.results.compare import Comparison, compare
from avar_eval.results.grading import Answered, grade_all
from avar_eval.results.metrics import Benchmark
from avar_eval.results.schema import Results, TaskRecords, read_results, run_id, write_task_records
from avar_eval.results.summary import attention_means, left_out_rows, task_result
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
    write_task_records(folder, {"mmmu": TaskRecords(keys=list(ROWS), clusters=list(ROWS), guess_chances=worth)})
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
