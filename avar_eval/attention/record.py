"""Where a model looked in one conversation: `AttentionRecord`, its summary, and its compact form for the disk.

A run keeps `attention.jsonl` beside `records.jsonl`: one line of JSON for each measured response, a few kB, with

    key                      of the response in records.jsonl; a later line of the same key supersedes an earlier one
    roles                    [[role, length], ...]: the sequence's token roles, run by run
    layers, queries          the measured layers; the positions whose attention was measured, as [[first, length], ...]
    vas_by_head_user         [layers, heads]  Eq. 2 for each layer and head over the user tokens (and ..._response)
    share_by_layer_user      [groups, layers] mean share of attention on each key group (and ..._response)
    share_by_query           [groups, queries] the same along the sequence, mean over layers and heads
    vas_by_query             [queries] Eq. 2 along the sequence, mean over layers and heads
    groups                   names of the key groups: `system` contains `sink`, the other five add up to 1

Arrays are little-endian float16 (three significant digits; nan is undefined, inf is beyond 65,504). Reading one with
numpy alone:

    line = json.loads(open("attention.jsonl").readline())
    array = line["vas_by_query"]
    vas = np.frombuffer(base64.b64decode(array["float16"]), "<f2").reshape(array["shape"])
"""

import base64
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avar_eval.attention.observe import BEYOND_SINK, GROUPS, RECORDED, Observation, ObserveError
from avar_eval.attention.roles import Role, TokenRoles
from avar_eval.attention.score import pooled, ratio_of_sums, visual_attention_score
from avar_eval.records.book import of_rank
from avar_eval.records.record import AttentionSummary, QueryAttention
from avar_eval.statistics import Estimate, mean
from avar_eval.user_files import open_file, parse_json

ATTENTION_NAME = "attention.jsonl"
Queries = Literal["user", "response"]
_BLOCK = 1 << 16
_SETS: tuple[Queries, ...] = ("user", "response")


@dataclass(frozen=True)
class AttentionRecord:
    """One sequence's attention masses.

    mass: key group -> share (0..1) of each query's attention; the groups are those of `GROUPS`. beyond_sink: that on
    the system turn without position 0. roles: the `Role` of every position. queries: the positions of the measured
    queries. layers: the measured layers. pool_layers: whether scores are of masses pooled over layers
    (Llama-3.2-Vision, Gemma 3; see `avar_eval.attention.score`).
    """

    mass: Mapping[str, Float[Tensor, "layers heads queries"]]
    beyond_sink: Float[Tensor, "layers heads queries"]
    roles: Int[Tensor, " sequence"]
    queries: Int[Tensor, " queries"]
    layers: tuple[int, ...]
    pool_layers: bool = False

    def chosen(self, queries: Queries) -> Bool[Tensor, " queries"]:
        """Which of the measured queries are user tokens, or response tokens."""
        return self.roles[self.queries] == Role[queries.upper()]

    def scores(
        self, queries: Queries = "user", include_sink: bool = True
    ) -> Float[Tensor, "layers heads chosen"] | None:
        """Eq. 1 for every layer, head and chosen query, in float64; one layer if masses are pooled over layers.

        include_sink: whether position 0 counts as a system key. None where the score is not defined: no image, no
        system key, or no such query.
        """
        masses = self._image_and_system(queries, include_sink)
        return None if masses is None else visual_attention_score(*masses)

    def visual_attention_score(self, queries: Queries = "user", include_sink: bool = True) -> float | None:
        """Eq. 2 over the chosen queries (the paper's are the user tokens); None where it is not defined."""
        scores = self.scores(queries, include_sink)
        return None if scores is None else float(scores.mean())

    def ratio_of_sums(self, queries: Queries = "user", include_sink: bool = True) -> float | None:
        """The chosen queries' image mass over their system mass, each summed over layers, heads and queries."""
        masses = self._image_and_system(queries, include_sink)
        return None if masses is None else float(ratio_of_sums(*masses))

    def summary(self) -> AttentionSummary:
        """The numbers that `records.jsonl` holds."""
        return AttentionSummary(user=self._summary_of("user"), response=self._summary_of("response"))

    @cached_property
    def _pairs(self) -> dict[tuple[Queries, bool], tuple[Tensor, Tensor] | None]:
        """What `_image_and_system` has found: every score asks for it."""
        return {}

    def _image_and_system(self, queries: Queries, include_sink: bool) -> tuple[Tensor, Tensor] | None:
        if (queries, include_sink) not in self._pairs:
            self._pairs[queries, include_sink] = self._pair(queries, include_sink)
        return self._pairs[queries, include_sink]

    def _pair(self, queries: Queries, include_sink: bool) -> tuple[Tensor, Tensor] | None:
        is_system = self.roles == Role.SYSTEM
        first = bool(is_system[0])  # position 0 is the user's where a template has no system turn
        keys = int(is_system.sum()) - (first and not include_sink)
        chosen = self.chosen(queries)
        if not (keys and bool((self.roles == Role.IMAGE).any()) and bool(chosen.any())):
            return None
        image, system = self.mass["image"], self.mass["system"] if include_sink else self.beyond_sink
        pair = (image[..., chosen].double(), system[..., chosen].double())
        return (pooled(pair[0]), pooled(pair[1])) if self.pool_layers else pair

    def _summary_of(self, queries: Queries) -> QueryAttention | None:
        chosen = self.chosen(queries)
        if not bool(chosen.any()):
            return None
        scores = self.scores(queries)
        shares = torch.stack(list(self.mass.values()))[..., chosen].double().mean((2, 3))
        return QueryAttention(
            tokens=int(chosen.sum()),
            vas=_rounded(None if scores is None else float(scores.mean())),
            vas_without_sink=_rounded(self.visual_attention_score(queries, include_sink=False)),
            ratio_of_sums=_rounded(self.ratio_of_sums(queries)),
            vas_by_layer=None
            if scores is None or self.pool_layers
            else [float(f"{value:.6g}") for value in scores.mean((1, 2)).tolist()],
            share_by_layer={
                name: [float(f"{value:.6g}") for value in by_layer]
                for name, by_layer in zip(self.mass, shares.tolist(), strict=True)
            },
        )

    def to_line(self, key: str) -> str:
        """The compact form, as `attention.jsonl` holds it."""
        by_query = torch.full(self.queries.shape, float("nan"), dtype=torch.float64)
        line: dict[str, Any] = {
            "key": key,
            "roles": [[Role(code).name.lower(), len(list(run))] for code, run in groupby(self.roles.tolist())],
            "layers": list(self.layers),
            "queries": _runs(self.queries.tolist()),
            "groups": list(self.mass),
        }
        stacked = torch.stack([mass.double() for mass in self.mass.values()])
        for name in _SETS:
            chosen, scores = self.chosen(name), self.scores(name)
            if not bool(chosen.any()):
                continue
            line[f"share_by_layer_{name}"] = _array(stacked[..., chosen].mean((2, 3)))
            if scores is not None:
                line[f"vas_by_head_{name}"] = _array(scores.mean(2))
                by_query[chosen] = scores.mean((0, 1))
        line["share_by_query"] = _array(stacked.mean((1, 2)))
        line["vas_by_query"] = _array(by_query)
        return json.dumps(line, separators=(",", ":")) + "\n"


def records_of(observation: Observation, roles: TokenRoles) -> list[AttentionRecord]:
    """One record for each sequence of an observed batch. roles: of all its positions, generated ones included.

    Raises ObserveError if other key groups than `RECORDED` were observed, or nothing was.
    """
    if observation.groups != RECORDED:
        raise ObserveError(f"records need groups={RECORDED}, and {observation.groups} were observed")
    masses = observation.masses().detach().cpu()
    positions = torch.tensor(observation.positions)
    codes = roles.codes.cpu()
    wanted = torch.tensor([Role.USER, Role.RESPONSE])
    records = []
    for index, row in enumerate(codes):
        present = row != Role.PADDING
        kept = torch.isin(row[positions], wanted)
        of_sequence = masses[:, index][:, :, kept]
        records.append(
            AttentionRecord(
                mass={name: of_sequence[..., group] for group, name in enumerate(GROUPS)},
                beyond_sink=of_sequence[..., RECORDED.index(BEYOND_SINK)],
                roles=row[present],
                queries=(present.cumsum(0) - 1)[positions[kept]],
                layers=observation.layers,
                pool_layers=observation.pool_layers,
            )
        )
    return records


def mean_visual_attention_score(
    records: Iterable[AttentionRecord], queries: Queries = "user", include_sink: bool = True
) -> Estimate:
    """Eq. 2 averaged over samples, with a bootstrap interval; samples where it is not defined do not count."""
    scores = (record.visual_attention_score(queries, include_sink) for record in records)
    return mean([score for score in scores if score is not None])


def append_lines(folder: Path, keys: Sequence[str], records: Sequence[AttentionRecord], rank: int = 0) -> None:
    """Append records to a run's attention.jsonl with one write, which reaches the disk before this returns.

    rank: of this process; any but the first has a file of its own. A torn last line, as a killed run leaves, is cut off
    first. Raises OSError if it cannot be written.
    """
    lines = "".join(record.to_line(key) for key, record in zip(keys, records, strict=True))
    _append(folder / of_rank(ATTENTION_NAME, rank), lines.encode())


def take_in_ranks(folder: Path) -> None:
    """Move what other ranks have measured into attention.jsonl; nobody may be writing.

    A kill in between leaves lines twice at worst, of which the later one counts. Raises OSError.
    """
    for path in sorted(folder.glob("attention.rank*.jsonl")):
        data = path.read_bytes()
        _append(folder / ATTENTION_NAME, data[: data.rfind(b"\n") + 1])
        path.unlink()


def _append(path: Path, lines: bytes) -> None:
    with path.open("a+b") as file:
        _cut_torn_line(file)
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())


def _cut_torn_line(file: BinaryIO) -> None:
    if file.seek(0, os.SEEK_END) == 0:
        return
    end = file.seek(-1, os.SEEK_END)
    if file.read(1) == b"\n":
        return
    while end:  # a block at a time: the file may be larger than memory
        start = max(0, end - _BLOCK)
        file.seek(start)
        if (found := file.read(end - start).rfind(b"\n")) >= 0:
            file.truncate(start + found + 1)
            return
        end = start
    file.truncate(0)


def read_lines(path: Path) -> dict[str, dict[str, Any]]:
    """Key -> line of an attention.jsonl, arrays as numpy's; a torn last line, as a killed run leaves, is ignored."""
    return {line["key"]: line for line in stream_lines(path)}


def stream_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of an attention.jsonl as `read_lines` gives them, one at a time; a later one supersedes an earlier."""
    with open_file(path) as file:
        for text in file:
            if text.endswith(b"\n"):
                yield {name: _read(value) for name, value in parse_json(text).items()}


def _array(values: Tensor) -> dict[str, Any]:
    with np.errstate(over="ignore"):
        data = values.numpy().astype("<f2")
    return {"shape": list(data.shape), "float16": base64.b64encode(data.tobytes()).decode()}


def _read(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return np.frombuffer(base64.b64decode(value["float16"]), "<f2").reshape(value["shape"])


def _runs(positions: Sequence[int]) -> list[list[int]]:
    """[[first, length], ...] of ascending positions."""
    runs: list[list[int]] = []
    for position in positions:
        if runs and position == sum(runs[-1]):
            runs[-1][1] += 1
        else:
            runs.append([position, 1])
    return runs


def _rounded(value: float | None) -> float | None:
    """Six significant digits: masses are float32 results, and records should stay small."""
    return None if value is None else float(f"{value:.6g}")
