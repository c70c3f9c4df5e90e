"""A run as avar-eval writes it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invented_results import invented_results

Run = dict[str, Any]


@pytest.fixture
def run() -> Run:
    """A run that the tests may change."""
    return invented_results()


@pytest.fixture
def write_run(tmp_path: Path, run: Run) -> Callable[..., Path]:
    """Writes the run as results.json, with another run_id, model, accuracy (0..1) or limit if asked."""

    def write(
        run_id: str = run["run_id"], model: str = "avar-tiny", accuracy: float | None = 0.91, **protocol: Any
    ) -> Path:
        changed = json.loads(json.dumps(run)) | {"run_id": run_id}
        changed["tasks"]["shapes"]["metrics"]["accuracy"]["value"] = accuracy
        changed["tasks"]["shapes"]["headline"]["values"]["strict"]["value"] = accuracy
        changed["protocol"] |= {"model": model, **protocol}
        path = tmp_path / f"out-{run_id}" / "results.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(changed), encoding="utf-8")
        return path

    return write
