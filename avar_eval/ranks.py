"""Several processes that answer the questions of one run together, as `accelerate launch` and torchrun start them.

Light: torch is imported only where there are several. Which process answers what is decided from the record book alone,
so they talk only to wait for each other, through gloo, which needs no GPU.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

from avar_eval.errors import AvarError, UsageError

Item = TypeVar("Item")

_VARIABLES: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_PATIENCE: Final = timedelta(days=7)
"""Processes may have unequal work; one that ends early is noticed at once, whatever this is."""


class RankError(AvarError):
    """Another process of this run has ended before its work was done.

    What to do: Look at the other process's message, which is the cause, and start all processes again.
    """


@dataclass(frozen=True)
class Ranks:
    """This process among `count`; local_rank counts those of one machine. By default a process alone."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that keeps the book, prints and writes results."""
        return self.rank == 0

    def shard(self, items: Sequence[Item]) -> list[Item]:
        """This process's share: every `count`-th item."""
        return list(items[self.rank :: self.count])

    def shards(self, items: Sequence[Item]) -> list[list[Item]]:
        """The shares of all processes."""
        return [list(items[rank :: self.count]) for rank in range(self.count)]

    def barrier(self) -> None:
        """Until all processes are here. Raises RankError if one of them has ended."""
        if self.count == 1:
            return
        import torch.distributed as dist

        with self._lost_ranks_named():
            dist.barrier()

    def all_gather(self, item: Item) -> list[Item]:
        """What every process has in this place, by rank; all of them must call. Raises RankError."""
        if self.count == 1:
            return [item]
        import torch.distributed as dist

        items: list[Any] = [None] * self.count
        with self._lost_ranks_named():
            dist.all_gather_object(items, item)
        return items

    @contextmanager
    def _lost_ranks_named(self) -> Iterator[None]:
        """Within this context a broken connection to another process is a RankError."""
        try:
            yield
        except RuntimeError as error:  # torch has no class of its own for what gloo finds
            if "gloo" not in str(error):
                raise
            raise RankError(
                f"another process of this run has ended early, see its message; process {self.rank} of {self.count} "
                "stops, run the same command again to go on"
            ) from error


def launched() -> Ranks:
    """What the launcher's variables say. Raises UsageError if they are no numbers."""
    defaults = zip(_VARIABLES, (0, 1, 0), strict=True)
    try:
        rank, count, local = (int(os.environ.get(name) or default) for name, default in defaults)
    except ValueError:
        values = ", ".join(f"{name}={os.environ.get(name)}" for name in _VARIABLES)
        raise UsageError(f"the launcher's variables are no numbers: {values}") from None
    return Ranks(rank, count, local) if count > 1 else Ranks()


def init_ranks() -> Ranks:
    """Meet the other processes, if this one was started as one of several. Raises UsageError, RankError."""
    ranks = launched()
    if ranks.count > 1:
        import torch.distributed as dist

        if not dist.is_initialized():
            missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
            if missing:
                raise UsageError(
                    f"WORLD_SIZE is {ranks.count}, but {missing[0]} is not set: start several processes with "
                    "`accelerate launch --num_processes N -m avar_eval.cli …`, or unset WORLD_SIZE for one"
                )
            dist.init_process_group("gloo", rank=ranks.rank, world_size=ranks.count, timeout=_PATIENCE)
    return ranks
