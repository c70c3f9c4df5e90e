"""Which of a benchmark's own metrics stand below a run's table: a few, by one rule for all tasks."""

from pathlib import Path

import pytest
from invented_results import invented_results

from avar_eval.results.run_table import print_results
from avar_eval.results.schema import Results
from avar_eval.results.verdict_tables import print_scores
from avar_eval.tasks.catalog import catalog
from avar_eval.tasks.language_priors.questions import KINDS

SHARE = {"value": 0.5, "ci95": [0.4, 0.6], "n": 100}
PRIORS = ["agree", "disagree", *(f"{kind.name}_{part}" for kind in KINDS for part in ("agree", "disagree"))]
LEVELS = [f"level {level}" for level in range(1, 6)]
SUBJECTS = [f"subject {number}" for number in range(16)]
OWN = [
    ("language_priors", PRIORS, ["agree", "disagree"]),
    ("language_priors_blind", PRIORS, ["agree", "disagree"]),
    ("mathvision", [*LEVELS, *SUBJECTS, *(f"{one}, {other}" for one in LEVELS for other in SUBJECTS)], LEVELS),
    ("mmmu_val", ["Art", "Science", *(f"subject/{number}" for number in range(30))], ["Art", "Science"]),
    ("mathvista", [f"skill/{number}" for number in range(13)], []),
    ("easy_vqa", ["color", "shape", "presence", "absence"], ["color", "shape", "presence", "absence"]),
    ("somebodys", ["a", "a/1"], ["a", "a/1"]),
]


def results_of(task: str, own: list[str]) -> Results:
    content = invented_results()
    content["tasks"] = {task: content["tasks"]["shapes"] | {"benchmark": {"strict": dict.fromkeys(own, SHARE)}}}
    return Results.model_validate(content)


@pytest.mark.parametrize(("task", "own", "main"), OWN, ids=[task for task, *_ in OWN])
def test_below_a_runs_table_stand_the_main_ones(
    task: str, own: list[str], main: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_results(results_of(task, own), tmp_path)
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split()[1:] for line in lines if line.startswith(f"{task} ") and "50.0" in line]
    assert [" ".join(row).partition(" 50.0")[0] for row in rows] == main
    told = [line for line in lines if line.startswith(f"{task}: ") and "finer metrics" in line]
    left = [name for name in own if name not in main]
    assert len(told) == bool(left)
    assert all(f"{len(left)} finer metrics are in results.json: '{left[0]}'" in line for line in told)


def test_scored_responses_have_no_results_json_and_show_all(capsys: pytest.CaptureFixture[str]) -> None:
    print_scores("language_priors", [("somebodys", results_of("shapes", PRIORS).tasks["shapes"])], None)
    shown = capsys.readouterr().out
    assert all(name in shown for name in PRIORS)
    assert "somebodys: strict % (responses)" in shown


def test_main_metrics_are_ones_of_the_task() -> None:
    declared = {name: entry.main for name, entry in catalog().items() if entry.main}
    known = {task: own for task, own, _ in OWN}
    assert declared.keys() >= {"language_priors", "language_priors_blind", "mathvision", "mathvision_testmini"}
    assert all(set(main) <= set(known[task.removesuffix("_testmini")]) for task, main in declared.items())
