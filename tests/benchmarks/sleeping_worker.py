"""A Ray actor that answers as long as an engine would take, for `cluster_simulation.py --ray`."""

import asyncio
from typing import Any

from cluster_simulation import Lengths, generation

from avar_eval.cluster.jobs import Ask
from avar_eval.cluster.ray_worker import RayWorker
from avar_eval.cluster.ray_workplace import Opening, RayCluster, RayWorkplace
from avar_eval.models.backend_options import VllmOptions
from avar_eval.models.checkpoint import find_source

SPEED = 40.0


class SleepingWorker(RayWorker):
    """Loads nothing."""

    lengths = Lengths(None, 1.0)

    def _load(self) -> str:
        return "a worker that sleeps"

    async def _ask(self, number: int, job: Ask) -> Any:
        tokens = self.lengths.of(job.prompt.key)
        await asyncio.sleep(tokens / SPEED)
        return generation(tokens)


def sleeping_workplace(processes: int, slots: int) -> RayWorkplace:
    """So many actors on this machine, each with `slots` questions under way."""
    opening = Opening(find_source("avar-tiny"), VllmOptions(in_flight=slots), "cpu", "float32", None, None, "", 1)
    return RayWorkplace(RayCluster("ray"), opening, processes, SleepingWorker)
