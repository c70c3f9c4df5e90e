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
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from avar_eval.attention.record import QUERY_SETS, AttentionRecord
from avar_eval.attention.roles import Role
from avar_eval.records.journal import LineForm
from avar_eval.user_files import parse_json

AttentionLine = dict[str, Any]
"""A line's names and values, arrays as numpy's in float16."""


def attention_line(key: str, record: AttentionRecord) -> AttentionLine:
    """The attention of the response with this key, in its compact form."""
    by_query = torch.full(record.queries.shape, float("nan"), dtype=torch.float64)
    line: AttentionLine = {
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
        line[f"share_by_layer_{name}"] = float16(stacked[..., chosen].mean((2, 3)))
        if scores is not None:
            line[f"vas_by_head_{name}"] = float16(scores.mean(2))
            by_query[chosen] = scores.mean((0, 1))
    line["share_by_query"] = float16(stacked.mean((1, 2)))
    line["vas_by_query"] = float16(by_query)
    return line


def _encode(line: AttentionLine) -> bytes:
    written = {name: _written(value) if isinstance(value, np.ndarray) else value for name, value in line.items()}
    return json.dumps(written, separators=(",", ":")).encode()


def _decode(text: bytes) -> AttentionLine:
    line = parse_json(text)
    if not isinstance(line, dict) or not isinstance(line.get("key"), str):
        raise ValueError("it has no key")
    return {name: _array(name, value) if isinstance(value, dict) else value for name, value in line.items()}


def array_lines(what: str) -> LineForm[AttentionLine]:
    """Lines with a key and arrays. what: of a response they hold, in messages."""
    return LineForm(
        encode=_encode,
        decode=_decode,
        key=lambda line: str(line["key"]),
        one=f"a response's {what}",
        many=f"responses' {what}",
        remedy=f"delete that line, or run the evaluation into a new --output, which measures {what} anew",
    )


ATTENTION_LINES: Final = array_lines("attention")


def float16(values: Tensor) -> np.ndarray:
    with np.errstate(over="ignore"):
        return values.numpy().astype("<f2")


def _written(array: np.ndarray) -> dict[str, Any]:
    return {"shape": list(array.shape), "float16": base64.b64encode(array.tobytes()).decode()}


def _array(name: str, written: dict[str, Any]) -> np.ndarray:
    try:
        return np.frombuffer(base64.b64decode(written["float16"]), "<f2").reshape(written["shape"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the array {name} is damaged") from error


def _runs(positions: Sequence[int]) -> list[list[int]]:
    """[[first, length], ...] of ascending positions."""
    runs: list[list[int]] = []
    for position in positions:
        if runs and position == sum(runs[-1]):
            runs[-1][1] += 1
        else:
            runs.append([position, 1])
    return runs
