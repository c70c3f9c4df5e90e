"""Responses that another program generated, as rows of the leaderboard: judged by our rules, the rest as reported."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avar_eval.errors import UsageError
from avar_eval.judge.model import JudgeModel
from avar_eval.leaderboard.store import Store, default_store
from avar_eval.models.registry import find_model
from avar_eval.results.schema import Results, run_id
from avar_eval.score.response_file import UNNAMED, ScoredModel
from avar_eval.tasks.catalog import TaskEntry
from avar_eval.terminal import note


def add_rows(
    entry: TaskEntry, responses: Path, scored: Sequence[ScoredModel], judge: JudgeModel | None
) -> Sequence[ScoredModel]:
    """Add each model's numbers to the leaderboard; returns them as they are.

    What is known of how the responses came about is that they are these (`responses_sha256`): the card names the
    backend `external`, no prompt, decoding or weights, and there is no attention. Raises UsageError for a model without
    a name, and what the store raises.
    """
    if any(one.model == UNNAMED for one in scored):
        raise UsageError(f"{responses} does not say whose responses it holds: give --model NAME with --add")
    for one in scored:
        protocol = _protocol(entry, one, judge)
        results = Results(run_id=run_id(protocol), tasks={entry.name: one.result}, protocol=protocol)
        done = Store(default_store()).add_results(results, responses)
        note(f"{done.event or 'unchanged'}: {one.model} on {entry.name} (run {results.run_id}), as reported")
    return scored


def _protocol(entry: TaskEntry, one: ScoredModel, judge: JudgeModel | None) -> dict[str, Any]:
    registered = find_model(one.model)
    return {
        "model": one.model,
        "revision": None,
        "backend": {"backend": "external"},
        "responses_sha256": one.responses_sha256,
        "system_prompt": None,
        "steering": None,
        "tasks": {
            entry.name: {
                "version": entry.version, "dataset": entry.dataset, "revision": entry.revision, "split": entry.split,
            }
        },
        "limit": None,
        "prompt_sha256": {},
        "grader": {entry.name: one.grader},
        "trained_on": [entry.name] if registered and registered.trained_on_task(entry.name) else [],
        "judge": judge.identity() if judge else None,
    }  # fmt: skip
