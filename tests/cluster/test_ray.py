"""Three Ray nodes on this machine: whatever is killed, results are those of one process, and little is asked twice."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from runs import MODEL, Finished, Running, Server, records_of, wait_for_records, wait_until

if TYPE_CHECKING:
    from ray_nodes import Nodes

BATCH, ROWS = 2, 16
RUN = ("--model", MODEL, "--tasks", "shapes,shapes_prior", "--limit", str(ROWS // 2), "--batch-size", str(BATCH))
RUN = (*RUN, "--max-new-tokens", "64", "--causal-samples", "3")
BOOKS = ("records.jsonl", "attention.jsonl", "causal.jsonl")


@pytest.fixture(scope="module")
def alone(avar_eval: Callable[..., Finished], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one process; never to be changed."""
    folder = tmp_path_factory.mktemp("alone")
    done = avar_eval(*RUN, "--output", str(folder))
    assert done.code == 0, done.stderr
    assert len(records_of(folder)) == ROWS
    return folder


def start(server: Server, nodes: "Nodes", folder: Path, stands_at: int | None = None) -> Running:
    """stands_at: so many records after which the driver stands still, while its workers compute what they have."""
    command = (*RUN, "--cluster", nodes.address, "--output", str(folder))
    return server.start(*command, stands_at={} if stands_at is None else {"records.jsonl": stands_at})


def ended_alike(done: Finished, folder: Path, alone: Path) -> None:
    assert done.code == 0, done.stderr
    assert (folder / "results.json").read_bytes() == (alone / "results.json").read_bytes()
    for name in BOOKS:
        lines = [sorted((of / name).read_bytes().splitlines()) for of in (folder, alone)]
        assert lines[0] == lines[1], name
    assert not list(folder.glob("waiting*.jsonl"))


@contextmanager
def standing_still(workers: list[int]) -> Iterator[None]:
    """These processes do nothing within this context."""
    try:
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        yield
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGCONT)


def counted(done: Finished) -> dict[str, int]:
    """What the driver says at its end: workers started and lost, questions given, and of these again."""
    said = re.search(
        r"workers started: (\d+), lost: (\d+); questions given to them: (\d+), of these again after a loss: (\d+)",
        done.stderr,
    )
    assert said, done.stderr
    return dict(zip(("started", "lost", "asked", "again"), map(int, said.groups()), strict=True))


def test_three_nodes_end_like_one_process(server: Server, nodes: "Nodes", alone: Path, tmp_path: Path) -> None:
    done = start(server, nodes, tmp_path).wait()
    ended_alike(done, tmp_path, alone)
    assert counted(done) == {"started": 3, "lost": 0, "asked": ROWS, "again": 0}
    assert "its logs: " in done.stderr


def test_an_actor_is_killed(server: Server, nodes: "Nodes", alone: Path, tmp_path: Path) -> None:
    run = start(server, nodes, tmp_path, stands_at=BATCH)
    wait_for_records(tmp_path, BATCH)
    wait_until(lambda: len(nodes.workers()) == 3, "three workers")
    killed, *others = nodes.workers()
    with standing_still(others):  # they would have ended the run before its driver hears of the loss
        os.kill(killed, signal.SIGKILL)
        run.go_on()
        run.wait_for_message("note: lost ")
    done = run.wait()
    ended_alike(done, tmp_path, alone)
    counts = counted(done)
    assert counts["lost"] == 1
    assert counts["started"] == 4, "another one was started"
    assert counts["again"] <= BATCH, "what was under way on it"
    assert counts["asked"] == ROWS + counts["again"]


def test_the_driver_is_killed_and_started_again_on_the_same_cluster(
    server: Server, nodes: "Nodes", alone: Path, tmp_path: Path
) -> None:
    run = start(server, nodes, tmp_path, stands_at=BATCH)
    wait_for_records(tmp_path, BATCH)
    run.kill()
    recorded = {record["key"] for record in records_of(tmp_path)}
    waiting = tmp_path / "waiting.jsonl"
    known = len(recorded) + (waiting.read_bytes().count(b"\n") if waiting.exists() else 0)
    assert BATCH <= len(recorded) < ROWS
    wait_until(lambda: not nodes.workers(), "actors end with their driver")
    second = start(server, nodes, tmp_path, stands_at=len(recorded) + 1)
    wait_for_records(tmp_path, len(recorded) + 1)
    refused = start(server, nodes, tmp_path).wait()
    assert refused.code == 1
    assert "another run is writing to" in refused.stderr
    second.go_on()
    done = second.wait()
    ended_alike(done, tmp_path, alone)
    assert ROWS - known <= counted(done)["asked"] <= ROWS - len(recorded)
    assert counted(done)["again"] == 0


def test_a_node_is_lost_and_another_joins(server: Server, nodes: "Nodes", alone: Path, tmp_path: Path) -> None:
    run = start(server, nodes, tmp_path, stands_at=BATCH)
    wait_for_records(tmp_path, BATCH)
    wait_until(lambda: len(nodes.workers()) == 3, "three workers")
    nodes.remove_last()
    with standing_still(nodes.workers()):
        run.go_on()
        run.wait_for_message("note: lost ")
    nodes.add()
    done = run.wait()
    ended_alike(done, tmp_path, alone)
    counts = counted(done)
    assert counts["lost"] == 1
    assert counts["again"] <= BATCH
    assert counts["asked"] == ROWS + counts["again"]
