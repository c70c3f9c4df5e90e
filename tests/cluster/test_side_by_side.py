"""Runs of a suite side by side on one cluster: results are those of one after the other, also after a kill."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from runs import Server, wait_until
from suites import Suites, books, state

if TYPE_CHECKING:
    from ray_nodes import Nodes

MODELS, LIMIT = 3, 6
SUITE = f"""
tasks: [shapes]
limit: {LIMIT}
batch-size: 1
max-new-tokens: 24
attention-samples: 3
causal-samples: 2
models:
  - avar-tiny
  - {{model: avar-tiny, steer: image=0.5}}
  - {{model: avar-tiny, name: hot, temperature: 1.5, seed: 3}}
"""


@pytest.fixture(scope="module")
def suites(forking_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Suites:
    folder = tmp_path_factory.mktemp("side_by_side")
    (folder / "suite.yaml").write_text(SUITE, encoding="utf-8")
    return Suites(forking_server, folder / "suite.yaml", folder / "asked")


@pytest.fixture(scope="module")
def one_by_one(suites: Suites, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("one_by_one")
    done = suites.run(output)
    assert done.code == 0, done.stderr
    return output


def running(output: Path) -> list[str]:
    """The runs that are under way, with a response each at least."""
    path = output / "suite.json"
    under_way = [run["name"] for run in state(output) if run["status"] == "running"] if path.exists() else []
    answered = books(output)
    return [name for name in under_way if answered.get(name)]


def test_two_at_a_time_end_as_one_by_one_and_so_they_do_after_a_kill(
    suites: Suites, one_by_one: Path, nodes: "Nodes", tmp_path: Path
) -> None:
    options = ("--cluster", nodes.address, "--cluster-workers", "1", "--parallel", "2")
    suite = suites.start(tmp_path, *options, stands_at={"records.jsonl": 1})
    wait_until(lambda: len(running(tmp_path)) == 2, "two runs at work")
    suite.kill()
    done = suites.run(tmp_path, *options)
    assert done.code == 0, done.stderr
    assert json.loads((tmp_path / "suite.json").read_text()) == json.loads((one_by_one / "suite.json").read_text())
    for run in state(one_by_one):
        assert (tmp_path / run["results"]).read_bytes() == (one_by_one / run["results"]).read_bytes()
        assert f"finished: {run['name']}\n" in done.stderr
        log = (tmp_path / "logs" / f"{run['name']}.log").read_text()
        assert "note: workers started: 1, lost: 0" in log
    assert {name: len(records) for name, records in books(tmp_path).items()} == dict.fromkeys(books(one_by_one), LIMIT)
    assert "workers started" not in done.stderr, "messages of runs side by side are in their logs"
