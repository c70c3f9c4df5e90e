"""Attention masses and their gradient by Triton kernels: what `avar_eval.attention.mass` defines, launched on a GPU.

One launch a layer for the masses, two more for their normalisers where the attention kernel gave none, and two for the
gradient. Nothing here waits for the GPU, and nothing is as large as queries times keys.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import triton
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from avar_eval.attention import triton_kernels as kernels
from avar_eval.attention.problem import AttentionProblem
from avar_eval.attention.visibility import Visibility, as_index

_PROGRAMS = 256
"""About as many as a GPU runs at a time: with fewer, each reads a part of the keys only."""
_PART = 256
"""The fewest keys that are worth a program of their own."""
_FEW = 128
"""Queries of which a gradient's products are computed in two parts; more would cost what they gain."""
_MANY = 1 << 17
"""Rows from which on blocks of 128, which read keys less often, pay: on an H200 64 win at 57,000, 128 at 420,000."""
_JOINED = 32
"""Rows that one program joins the parts of."""


def attention_mass(
    query: Float[Tensor, "batch heads queries dim"],
    key: Float[Tensor, "batch kv_heads keys dim"],
    lse: Float[Tensor, "batch heads queries_or_rows"] | None,
    problem: AttentionProblem,
    without_sink: bool = False,
) -> Float[Tensor, "batch heads rows groups"]:
    """`avar_eval.attention.mass.attention_mass` of bfloat16, float16 or float32 states, at most 256 wide.

    Not for a mask function, nor for more than `key_blocks.MOST_GROUPS` groups, nor for no queries. without_sink: lse is
    that of the wanted queries alone and counts a learnt sink, so that masses do not add up to 1.
    """
    given = None if lse is None else lse.detach()
    masses: Tensor = _Mass.apply(_by_row(query), _by_row(key), given, problem, without_sink)
    return masses


@torch.no_grad()
def normaliser(
    query: Float[Tensor, "batch heads queries dim"],
    key: Float[Tensor, "batch kv_heads keys dim"],
    problem: AttentionProblem,
) -> Float[Tensor, "batch heads rows"]:
    """`avar_eval.attention.mass.attention_normaliser`, for the same states."""
    return _Launch(_by_row(query), _by_row(key), problem).normaliser()


def _by_row(states: Tensor) -> Tensor:
    """Kernels take any strides but that of the last dimension."""
    return states if states.stride(-1) == 1 else states.contiguous()


class _Mass(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, lse: Tensor | None, problem: AttentionProblem, without_sink: bool
    ) -> Tensor:
        launch = _Launch(query, key, problem)
        ctx.problem, ctx.by_row = problem, lse is None or problem.groups.all_keys or without_sink
        if problem.groups.all_keys and not without_sink:
            lse, masses = launch.on_all_keys()
        else:
            lse = launch.normaliser() if lse is None else lse
            masses = launch.masses(lse, ctx.by_row, without_sink)
        ctx.save_for_backward(query, key, lse, masses)
        return masses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        query, key, lse, masses = ctx.saved_tensors
        launch = _Launch(query, key, ctx.problem)
        return *launch.gradients(lse, ctx.by_row, masses, gradient.contiguous()), None, None, None


@dataclass(frozen=True)
class Tile:
    """A program's block of scores, as an H100 likes it: rows, keys and dimensions; warps; loads that run ahead."""

    height: int
    width: int
    wide: int
    warps: int
    stages: int

    @classmethod
    def of(cls, dim: int, dtype: torch.dtype, rows: int, memory: int) -> "Tile":
        """rows: of the whole call. memory: bytes that a program's blocks may take."""
        wide = max(16, triton.next_power_of_2(dim))
        if dtype == torch.float32:  # no tensor cores: small blocks, which registers hold
            return cls(32, 32, wide, 8, 1)
        many = rows >= _MANY and wide <= 128
        height, width = 128 if many else 64, 64
        stages = (memory // (wide * dtype.itemsize) - height) // width
        return cls(height, width, wide, 8 if many else 4, max(1, min(2, stages)))

    def for_gradients(self) -> "Tile":
        """Its sums take as many registers again."""
        warps = 4 if self.height >= 64 and self.wide <= 128 else 8
        return Tile(min(self.height, 64), self.width, self.wide, warps, self.stages)


class _Launch:
    """One call's arguments as kernels take them."""

    def __init__(self, query: Tensor, key: Tensor, problem: AttentionProblem) -> None:
        self.query, self.key, self.problem = query, key, problem
        self.batch, self.heads = query.shape[:2]
        self.kv_heads, self.keys = key.shape[1:3]
        self.share = self.heads // self.kv_heads
        rows = problem.queries
        self.rows = len(rows)
        in_a_row = isinstance(rows, range) and rows.step == 1
        self.chosen = (self.rows, rows[0] if in_a_row else 0, None if in_a_row else as_index(rows, query.device))
        self.hide = self._hidden_by(problem.visibility)
        self.score = (problem.scaling, problem.softcap)
        self.tile = Tile.of(query.shape[-1], query.dtype, self.batch * self.heads * self.rows, _memory(query.device))

    def _hidden_by(self, of: Visibility) -> tuple[Any, ...]:
        """Pointers and strides of what hides keys besides causality, each None where there is no such thing."""

        def by_key(values: Tensor | None) -> tuple[Any, Any]:
            return (None, None) if values is None else (_bytes(values), values.expand(self.batch, -1).stride(0))

        dense: tuple[Any, ...] = (None,) * 5
        if of.mask is not None:
            dense = (_bytes(of.mask), *of.mask.expand(self.batch, self.heads, -1, -1).stride())
        return of.window, *by_key(of.padding), *by_key(of.segments), *dense

    def _constants(self, tile: Tile) -> dict[str, Any]:
        groups = self.problem.groups.count
        return {
            "groups": groups,
            "share": self.share,
            "dim": self.query.shape[-1],
            "wide": tile.wide,
            "height": tile.height,
            "width": tile.width,
            "slots": max(16, triton.next_power_of_2(groups)),
            "causal": self.problem.visibility.causal,
            "num_warps": tile.warps,
            "num_stages": tile.stages,
        }

    def _blocks(self) -> tuple[tuple[Any, ...], int]:
        of = self.problem.groups.blocks
        pointers = (of.positions, of.positions.stride(0), of.cells, of.firsts, of.lasts, of.firsts.stride(0), of.read)
        return pointers, of.cells.shape[1]

    def _grid(self, tile: Tile, parts: int = 1) -> tuple[int, int, int]:
        return triton.cdiv(self.share * self.rows, tile.height), self.batch * self.kv_heads, parts

    def _new(self, *shape: int) -> Tensor:
        return self.query.new_empty(shape, dtype=torch.float32)

    def masses(self, lse: Tensor, by_row: bool, without_sink: bool) -> Float[Tensor, "batch heads rows groups"]:
        """See `triton_kernels.masses`. by_row: whether lse is that of the wanted queries alone."""
        of = self.problem.groups
        masses = self._new(self.batch, self.heads, self.rows, of.count)
        blocks, cells = self._blocks()
        kernels.masses[self._grid(self.tile)](
            _strided(self.query),
            _strided(self.key),
            (*_strided(lse), 1 if by_row else None),
            *self.chosen,
            blocks,
            masses,
            self.hide,
            self.score,
            self.problem.visibility.offset,
            self.kv_heads,
            cells,
            plain=_is_plain(self.hide),
            difference=of.blocks.difference and not without_sink,
            every=of.blocks.difference and without_sink,
            **self._constants(self.tile),
        )
        return masses

    def normaliser(self) -> Float[Tensor, "batch heads rows"]:
        """That of the wanted queries over all keys."""
        return self._over_parts(None)[0]

    def on_all_keys(self) -> tuple[Float[Tensor, "batch heads rows"], Float[Tensor, "batch heads rows groups"]]:
        """Normaliser and masses of a few queries, reading every key."""
        lse, masses = self._over_parts(self.problem.groups.bits)
        assert masses is not None
        return lse, masses

    def _over_parts(self, bits: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """See `triton_kernels.on_all_keys`; the parts of the keys are as many as keep a GPU busy."""
        grid = self._grid(self.tile)
        parts = max(1, min(_PROGRAMS // (grid[0] * grid[1]), self.keys // _PART))
        part = triton.cdiv(triton.cdiv(self.keys, parts), self.tile.width) * self.tile.width
        parts = triton.cdiv(self.keys, part)
        shape, groups = (self.batch, self.heads, self.rows), self.problem.groups.count
        lse, masses = self._new(parts, *shape), None if bits is None else self._new(parts, *shape, groups)
        constants = self._constants(self.tile)
        kernels.on_all_keys[(*grid[:2], parts)](
            _strided(self.query),
            _strided(self.key),
            *self.chosen,
            None if bits is None else (bits, bits.stride(0)),
            lse,
            masses,
            self.hide,
            self.score,
            self.problem.visibility.offset,
            self.kv_heads,
            self.keys,
            part,
            **constants,
        )
        if parts == 1:
            return lse[0], None if masses is None else masses[0]
        of_all, out = self._new(*shape), None if bits is None else self._new(*shape, groups)
        kernels.joined[(triton.cdiv(of_all.numel(), _JOINED),)](
            lse, masses, of_all, out, of_all.numel(), parts, groups, _JOINED, constants["slots"]
        )
        return of_all, out

    def gradients(self, lse: Tensor, by_row: bool, masses: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """See `triton_kernels.query_gradient` and `key_gradient`."""
        whole = self.rows == self.query.shape[2]
        of_query = torch.empty_like(self.query) if whole else torch.zeros_like(self.query)
        of_key = torch.empty_like(self.key)
        blocks, cells = self._blocks()
        tile = self.tile.for_gradients()
        common = (
            _strided(self.query),
            _strided(self.key),
            (*_strided(lse), 1 if by_row else None),
            *self.chosen,
            blocks,
            masses,
            gradient,
            torch.linalg.vector_norm(gradient, torch.inf),
        )
        rest = (self.hide, self.score, self.problem.visibility.offset, self.kv_heads, cells)
        fine = self.rows <= _FEW and self.query.dtype != torch.float32
        constants = self._constants(tile) | {"plain": _is_plain(self.hide), "fine": fine}
        kernels.query_gradient[self._grid(tile)](*common, _strided(of_query), *rest, **constants)
        grid = (self.problem.groups.blocks.positions.shape[1] // tile.width, self.batch * self.kv_heads)
        kernels.key_gradient[grid](*common, _strided(of_key), *rest, self.keys, **constants)
        return of_query, of_key


def _strided(states: Tensor) -> tuple[Any, ...]:
    return (states, *states.stride()[:3])


def _bytes(values: Tensor) -> Tensor:
    """Booleans as bytes."""
    return values.view(torch.uint8) if values.dtype == torch.bool else values


def _is_plain(hide: tuple[Any, ...]) -> bool:
    return all(one is None for one in hide)


@cache
def _memory(device: torch.device) -> int:
    """Shared memory of a program, in bytes."""
    if device.type != "cuda":  # Triton's interpreter
        return 1 << 17
    index = torch.cuda.current_device() if device.index is None else device.index
    properties = triton.runtime.driver.active.utils.get_device_properties(index)
    return int(properties["max_shared_mem"])
