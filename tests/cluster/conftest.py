"""A cluster that the tests of this folder share."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ray_nodes import Nodes


@pytest.fixture(scope="session")
def nodes() -> "Iterator[Nodes]":
    """Three nodes; skipped where Ray is not installed."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when Ray is imported
    # Or Ray kills a worker where other processes, such as other tests, have nearly all of the machine's memory.
    os.environ["RAY_memory_monitor_refresh_ms"] = "0"  # noqa: SIM112
    pytest.importorskip("ray", reason="the extra ray is not installed")
    from ray_nodes import Nodes

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        started = Nodes()
    yield started
    started.cluster.shutdown()
