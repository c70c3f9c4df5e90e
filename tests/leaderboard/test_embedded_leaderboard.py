"""The leaderboard in the repository: runs of the embedded model, and a README that is made from them."""

import json
from pathlib import Path

from avar_eval.answers import GRADER
from avar_eval.leaderboard.page.readme import readme_text
from avar_eval.leaderboard.paper import paper
from avar_eval.leaderboard.store import Store
from avar_eval.models.checkpoint import resolve_checkpoint, weights_sha256

ROOT = Path(__file__).parents[2]
FOLDER = Path("leaderboard/embedded")
README = Path("leaderboard/README.md")
MAKE = """
avar-eval --model avar-tiny --tasks shapes,shapes_prior --causal full --output avar-runs/embedded
avar-leaderboard add avar-runs/embedded --replace --store leaderboard/embedded
avar-leaderboard page --store leaderboard/embedded --readme leaderboard/README.md
"""


def test_the_readme_is_that_of_its_runs() -> None:
    rows = Store(ROOT / FOLDER).rows()
    text = readme_text(rows, paper(), FOLDER, README)
    assert (ROOT / README).read_text(encoding="utf-8") == text, f"it is stale, make it anew: {MAKE}"


def test_its_rows_are_verified_and_of_this_model_and_grader() -> None:
    rows, skipped = Store(ROOT / FOLDER).read()
    assert skipped == []
    assert {(row.model, row.task, row.n, row.mark, row.limit) for row in rows} == {
        ("avar-tiny", "shapes", 500, "verified", None),
        ("avar-tiny", "shapes_prior", 400, "verified", None),
    }
    assert {row.grader for row in rows} == {GRADER}, f"the grader is another one, run it again: {MAKE}"
    weights = {
        json.loads(path.read_text())["protocol"]["weights_sha256"] for path in (ROOT / FOLDER).glob("runs/*.json")
    }
    assert weights == {weights_sha256(resolve_checkpoint("avar-tiny"))}, f"avar-tiny is another one: {MAKE}"
