"""`attention.jsonl`: where a model looked in each measured response of a run, a few kB a line.

It lies beside `records.jsonl`: one line of JSON for each measured response, with

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
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from avar_eval.attention.record import QUERY_SETS, AttentionRecord
from avar_eval.attention.roles import Role
from avar_eval.records.book import of_rank
from avar_eval.user_files import open_file, parse_json

ATTENTION_NAME = "attention.jsonl"
_BLOCK = 1 << 16


def attention_line(key: str, record: AttentionRecord) -> str:
    """A response's attention in its compact form: a line of `attention.jsonl`."""
    by_query = torch.full(record.queries.shape, float("nan"), dtype=torch.float64)
    line: dict[str, Any] = {
        "key": key,
        "roles": [[Role(code).name.lower(), len(list(run))] for code, run in groupby(record.roles.tolist())],
        "layers": list(record.layers),
        "queries": _runs(record.queries.tolist()),
        "groups": list(record.mass),
    }
    stacked = torch.stack([mass.double() for mass in record.mass.values()])
    for name in QUERY_SETS:
        chosen, scores = record.chosen(name), record.scores(name)
        if not bool(chosen.any()):
            continue
        line[f"share_by_layer_{name}"] = _array(stacked[..., chosen].mean((2, 3)))
        if scores is not None:
            line[f"vas_by_head_{name}"] = _array(scores.mean(2))
            by_query[chosen] = scores.mean((0, 1))
    line["share_by_query"] = _array(stacked.mean((1, 2)))
    line["vas_by_query"] = _array(by_query)
    return json.dumps(line, separators=(",", ":")) + "\n"


def append_lines(folder: Path, keys: Sequence[str], records: Sequence[AttentionRecord], rank: int = 0) -> None:
    """Append records to a run's attention.jsonl with one write, which reaches the disk before this returns.

    rank: of this process; any but the first has a file of its own. A torn last line, as a killed run leaves, is cut off
    first. Raises OSError if it cannot be written.
    """
    lines = "".join(attention_line(key, record) for key, record in zip(keys, records, strict=True))
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
