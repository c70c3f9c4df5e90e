"""A Ray cluster of several nodes on this machine."""

from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}


class Nodes:
    """A cluster's head and two nodes, of one CPU each; no dashboard."""

    def __init__(self) -> None:
        self.cluster = Cluster()
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
