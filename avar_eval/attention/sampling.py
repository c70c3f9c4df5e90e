"""Which rows of a task are measured."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class AttentionSampling:
    """Whose attention is measured: `samples` rows a task (0: none, None: all), chosen by a hash, not by order."""

    samples: int | None
    seed: int = 0

    def chosen(self, row_ids: Sequence[str]) -> set[str]:
        """The rows to measure."""
        ranked = sorted(row_ids, key=lambda row: hashlib.sha256(f"{self.seed}:{row}".encode()).digest())
        return set(ranked[: self.samples])
