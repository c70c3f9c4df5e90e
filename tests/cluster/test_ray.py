"""Three Ray nodes on this machine: whatever is killed, results are those of one process, and little is asked twice."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from runs import MODEL, Finished, Running, Server, records_of, wait_for_records

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
cluster_utils = pytest.importorskip("ray.cluster_utils", reason="the extra ray is not installed")

BATCH, ROWS = 2, 16
RUN = ("--model", MODEL, "--tasks", "shapes,shapes_prior", "--limit", str(ROWS // 2), "--batch-size", str(BATCH))
RUN = (*RUN, "--max-new-tokens", "64", "--causal-samples", "3")
BOOKS = ("records.jsonl", "attention.jsonl", "causal.jsonl")


class Nodes:
    """A cluster's head and two nodes, of one CPU each; no dashboard."""

    def __init__(self) -> None:
        self.cluster = cluster_utils.Cluster()
        self.nodes = [self.cluster.add_node(**NODE) for _ in range(3)]

    @property
    def address(self) -> str:
        return f"ray://{self.cluster.address}"

    def workers(self) -> list[int]:
        """Process ids of the actors that hold a model."""
        raylets = {of.process.pid for node in self.nodes for of in node.all_processes.get("raylet", [])}
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                named = (path / "cmdline").read_bytes().startswith(b"ray::RayWorker")
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):  # it has ended meanwhile
                continue
            if named and parent in raylets:
                found.append(int(path.name))
        return sorted(found)

    def remove_last(self) -> None:
        """One node is gone from one moment to the next."""
        self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)

    def add(self) -> None:
        self.nodes.append(self.cluster.add_node(**NODE))


NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        started = Nodes()
    yield started
    started.cluster.shutdown()


@pytest.fixture(scope="module")
def alone(avar_eval: Callable[..., Finished], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one process; never to be changed."""
    folder = tmp_path_factory.mktemp("alone")
    done = avar_eval(*RUN, "--output", str(folder))
    assert done.code == 0, done.stderr
    assert len(records_of(folder)) == ROWS
    return folder


def start(server: Server, nodes: Nodes, folder: Path) -> Running:
    return server.start(*RUN, "--cluster", nodes.address, "--output", str(folder))


def ended_alike(done: Finished, folder: Path, alone: Path) -> None:
    assert done.code == 0, done.stderr
    assert (folder / "results.json").read_bytes() == (alone / "results.json").read_bytes()
    for name in BOOKS:
        lines = [sorted((of / name).read_bytes().splitlines()) for of in (folder, alone)]
        assert lines[0] == lines[1], name
    assert not list(folder.glob("waiting*.jsonl"))


def counted(done: Finished) -> dict[str, int]:
    """What the driver says at its end: workers started and lost, questions given, and of these again."""
    said = re.search(
        r"workers started: (\d+), lost: (\d+); questions given to them: (\d+), of these again after a loss: (\d+)",
        done.stderr,
    )
    assert said, done.stderr
    return dict(zip(("started", "lost", "asked", "again"), map(int, said.groups()), strict=True))


def test_three_nodes_end_like_one_process(server: Server, nodes: Nodes, alone: Path, tmp_path: Path) -> None:
    done = start(server, nodes, tmp_path).wait()
    ended_alike(done, tmp_path, alone)
    assert counted(done) == {"started": 3, "lost": 0, "asked": ROWS, "again": 0}
    assert "its logs: " in done.stderr


def test_an_actor_is_killed(server: Server, nodes: Nodes, alone: Path, tmp_path: Path) -> None:
    run = start(server, nodes, tmp_path)
    wait_for_records(tmp_path, BATCH)
    os.kill(nodes.workers()[0], signal.SIGKILL)
    done = run.wait()
    ended_alike(done, tmp_path, alone)
    counts = counted(done)
    assert counts["lost"] == 1
    assert counts["started"] == 4, "another one was started"
    assert counts["again"] <= BATCH, "what was under way on it"
    assert counts["asked"] == ROWS + counts["again"]


def test_the_driver_is_killed_and_started_again_on_the_same_cluster(
    server: Server, nodes: Nodes, alone: Path, tmp_path: Path
) -> None:
    run = start(server, nodes, tmp_path)
    wait_for_records(tmp_path, BATCH)
    run.kill()
    recorded = {record["key"] for record in records_of(tmp_path)}
    waiting = tmp_path / "waiting.jsonl"
    known = len(recorded) + (waiting.read_bytes().count(b"\n") if waiting.exists() else 0)
    assert BATCH <= len(recorded) < ROWS
    end = time.monotonic() + 60
    while nodes.workers() and time.monotonic() < end:
        time.sleep(0.1)
    assert not nodes.workers(), "actors end with their driver"
    second = start(server, nodes, tmp_path)
    while not (tmp_path / ".lock").exists() or not nodes.workers():
        time.sleep(0.1)
    refused = start(server, nodes, tmp_path).wait()
    assert refused.code == 1
    assert "another run is writing to" in refused.stderr
    done = second.wait()
    ended_alike(done, tmp_path, alone)
    assert ROWS - known <= counted(done)["asked"] <= ROWS - len(recorded)
    assert counted(done)["again"] == 0


def test_a_node_is_lost_and_another_joins(server: Server, nodes: Nodes, alone: Path, tmp_path: Path) -> None:
    run = start(server, nodes, tmp_path)
    wait_for_records(tmp_path, BATCH)
    nodes.remove_last()
    nodes.add()
    done = run.wait()
    ended_alike(done, tmp_path, alone)
    counts = counted(done)
    assert counts["lost"] == 1
    assert counts["again"] <= BATCH
    assert counts["asked"] == ROWS + counts["again"]
