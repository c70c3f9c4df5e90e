"""A run as avar-eval writes it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invented_results import invented_results, with_run_id

from avar_eval.statistics import clustered_proportion

Run = dict[str, Any]


@pytest.fixture
def run() -> Run:
    """A run that the tests may change."""
    return invented_results()


@pytest.fixture
def write_run(tmp_path: Path, run: Run) -> Callable[..., Path]:
    """Writes the run as results.json, with another model, accuracy (0..1), limit or field of the protocol if asked.

    name: makes it another run.
    """

    def write(
        name: str | None = None, model: str = "avar-tiny", accuracy: float | None = 0.91, **protocol: Any
    ) -> Path:
        changed = json.loads(json.dumps(run))
        shapes = changed["tasks"]["shapes"]
        shapes["metrics"]["accuracy"] = {"value": None, "ci95": None, "n": 0}
        if accuracy is not None:
            right = round(accuracy * 500)
            values = clustered_proportion([True] * right + [False] * (500 - right), range(500))
            shapes["metrics"]["accuracy"] = values.to_json()
        shapes["headline"]["values"]["strict"] = shapes["metrics"]["accuracy"]
        changed["protocol"] |= {"model": model, **protocol} | ({} if name is None else {"name": name})
        changed = with_run_id(changed)
        path = tmp_path / f"out-{changed['run_id']}-{accuracy}" / "results.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(changed), encoding="utf-8")
        return path

    return write
