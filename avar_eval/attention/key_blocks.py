"""Keys in the order in which a GPU's kernels read them: cell by cell, in blocks, prepared once for many layers.

A cell holds the keys of a sequence that are in the same groups, ascending. It fills whole blocks, so that all keys of a
block have the same groups, and what belongs to no wanted group is not read.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int32
from torch import Tensor

BLOCK = 64
"""Keys of a block."""
MOST_GROUPS = 31
"""Groups of a key as bits of an int32."""
_NEVER = np.iinfo(np.int32).max
WORTH = 2 * BLOCK
"""A mass by difference must leave out so many keys."""


@dataclass(frozen=True)
class KeyBlocks:
    """The listed keys of a batch.

    positions: of the keys, -1 where a cell's last block is not full. cells: of each cell its first block, its number of
    blocks and its groups as bits, cells that are not read last. firsts, lasts: of each block, the first and the last
    key; the largest integer where it has gaps. read: how many leading cells of a sequence must be read. Where keys
    follow of a cell with groups, its mass is 1 minus that of all others, of which one, without groups, holds all keys
    that are in none. difference: whether any sequence has such a cell.
    """

    positions: Int32[Tensor, "batch places"]
    cells: Int32[Tensor, "batch cells 3"]
    firsts: Int32[Tensor, "batch blocks"]
    lasts: Int32[Tensor, "batch blocks"]
    read: Int32[Tensor, " batch"]
    difference: bool

    @classmethod
    def of(
        cls, membership: Bool[Tensor, "batch keys groups"], by_difference: Sequence[int], device: torch.device
    ) -> "KeyBlocks":
        """List the keys of a batch, on the CPU, and send them to `device` in one copy that waits for nothing.

        by_difference: the groups whose mass may be had by difference, that of one cell a sequence.
        """
        rows = [_Listed.of(row, sum(1 << group for group in by_difference)) for row in pack_groups(membership).numpy()]
        # multiples of 16 entries all through: Triton compiles anew for other strides and places in memory
        blocks = -(-max(len(row.firsts) for row in rows) // 16) * 16
        cells = max(len(row.cells) for row in rows)
        parts = [
            np.stack([_filled(row.positions, blocks * BLOCK, -1) for row in rows]),
            np.stack([_filled(row.cells, cells, 0) for row in rows]),
            np.stack([_filled(row.firsts, blocks, _NEVER) for row in rows]),
            np.stack([_filled(row.lasts, blocks, _NEVER) for row in rows]),
            np.array([row.read for row in rows]),
        ]
        filled = [_filled(part.astype(np.int32).ravel(), -(-part.size // 16) * 16, 0) for part in parts]
        whole = to_device(torch.from_numpy(np.concatenate(filled).astype(np.int32)), device)
        starts = np.cumsum([0, *(part.size for part in filled)]).tolist()
        positions, of_cells, firsts, lasts, read = (
            whole[start : start + part.size].view(part.shape) for start, part in zip(starts, parts, strict=False)
        )
        return cls(positions, of_cells, firsts, lasts, read, any(row.difference for row in rows))


@dataclass(frozen=True)
class _Listed:
    """One sequence's part of `KeyBlocks`."""

    positions: np.ndarray
    cells: np.ndarray
    firsts: np.ndarray
    lasts: np.ndarray
    read: int
    difference: bool

    @classmethod
    def of(cls, bits: np.ndarray, may_differ: int) -> "_Listed":
        # roles come in runs, so that there is little to sort
        edges = np.concatenate([[0], np.flatnonzero(bits[1:] != bits[:-1]) + 1, [len(bits)]])
        lengths = np.diff(edges)
        kinds, kind_of_run = np.unique(bits[edges[:-1]], return_inverse=True)
        counts = np.bincount(kind_of_run, lengths, minlength=len(kinds)).astype(np.int64)
        without = int(counts[kinds == 0].sum())
        candidates = np.where((kinds != 0) & (kinds & ~may_differ == 0), counts, 0)
        largest = int(candidates.argmax())
        difference = bool(candidates[largest] >= without + WORTH)
        # what is read, the keys of no group, the cell that is had by difference
        order = np.argsort(np.where(kinds == 0, 1, np.where(difference & (np.arange(len(kinds)) == largest), 2, 0)))
        rank = np.argsort(order)
        sizes = -(-counts[order] // BLOCK)
        starts = np.cumsum(sizes) - sizes
        runs = np.argsort(rank[kind_of_run], kind="stable")  # cell by cell, ascending
        before = np.cumsum(lengths[runs]) - lengths[runs]  # keys of all cells before a run
        gaps = starts * BLOCK - (np.cumsum(counts[order]) - counts[order])  # places before a cell that stay empty
        places = np.arange(len(bits)) + np.repeat(gaps[rank[kind_of_run[runs]]], lengths[runs])
        positions = np.full(sizes.sum() * BLOCK, -1)
        positions[places] = np.arange(len(bits)) + np.repeat(edges[:-1][runs] - before, lengths[runs])
        by_block = positions.reshape(-1, BLOCK)
        lasts = np.where(by_block[:, -1] < 0, _NEVER, by_block[:, -1])
        read = len(kinds) - (difference or without > 0)
        return cls(positions, np.stack([starts, sizes, kinds[order]], 1), by_block[:, 0], lasts, read, difference)


def pack_groups(membership: Bool[Tensor, "batch keys groups"]) -> Int32[Tensor, "batch keys"]:
    """Each key's groups as bits. At most `MOST_GROUPS` groups."""
    places = torch.arange(membership.shape[-1], device=membership.device, dtype=torch.int32)
    return (membership.int() << places).sum(-1, dtype=torch.int32)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """`values` on `device`; to a GPU through page-locked memory, for otherwise the CPU would wait for the GPU."""
    if values.device.type == "cpu" and device.type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def _filled(values: np.ndarray, length: int, value: int) -> np.ndarray:
    more = np.full((length - len(values), *values.shape[1:]), value)
    return np.concatenate([values, more])
