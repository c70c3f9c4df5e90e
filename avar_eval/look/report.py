"""One look as a table for people, or as one JSON object."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

from avar_eval.attention.bands import vas_band
from avar_eval.attention.record import Queries
from avar_eval.console import wide_console
from avar_eval.look.conversation import QUERY_SETS, Look
from avar_eval.number_format import UNKNOWN, count, percent, score
from avar_eval.tables import Column, FittedTable

_SHARES = (
    ("image", "image"),
    ("system", "system turn"),
    ("user", "question (user turn)"),
    ("response", "answer so far"),
    ("template", "markup between turns"),
    ("sink", "of these, the very first token"),
)
_ENDS = {"stop": "answer", "length": "answer, cut at the token limit", "given": "answer as given"}


def print_look(look: Look, pictures: Sequence[Path], console: Console | None = None) -> None:
    """The answer, VAS with band and the shares of attention, as seen from the question's and the answer's tokens."""
    console = console or wide_console()
    heading = f"{look.model}, {_ENDS[look.finish_reason]} ({len(look.tokens)} tokens):"
    console.print(Text(heading, style="bold"))
    console.print(Text(look.response or "(nothing)"), soft_wrap=False)
    tokens = {name: count(int(look.record.chosen(name).sum())) for name in QUERY_SETS}
    sides = (f"{whose} ({tokens[name]} tokens)" for name, whose in zip(QUERY_SETS, ("question", "answer"), strict=True))
    table = FittedTable([Column("seen from", text=True, key=True), *map(Column, sides)])
    record = look.record
    table.add_row("VAS (image ÷ system)", *(_score(record.visual_attention_score(name)) for name in QUERY_SETS))
    without = (record.visual_attention_score(name, include_sink=False) for name in QUERY_SETS)
    table.add_row("without the first token", *(_score(value, band=False) for value in without))
    ratios = (record.ratio_of_sums(name) for name in QUERY_SETS)
    table.add_row("ratio of sums", *(_score(value, band=False) for value in ratios))
    table.add_section("share of attention on, %")
    for group, label in _SHARES:
        table.add_row(label, *(_percent(look, group, name) for name in QUERY_SETS))
    console.print(table)
    if look.no_overlay is not None:
        console.print(Text(look.no_overlay))
    console.print(
        "pictures:", *(str(path) for path in pictures), sep="\n  ", highlight=False, soft_wrap=True, markup=False
    )


def look_to_json(look: Look, pictures: Sequence[Path]) -> str:
    """Everything that the table and the pictures show. Undefined and infinite numbers are null; shares are 0 to 1."""
    content: dict[str, Any] = {
        "model": look.model,
        "revision": look.revision,
        "system": look.system,
        "prompt": look.prompt,
        "images": [
            {"file": name, "width": picture.width, "height": picture.height}
            for name, picture in zip(look.image_names, look.pictures, strict=True)
        ],
        "response": look.response,
        "finish_reason": look.finish_reason,
        "queries": {name: _queries(look, name) for name in QUERY_SETS},
        "along_response": _along_response(look),
        "image_tokens": _image_tokens(look),
        "no_overlay": look.no_overlay,
        "pictures": [str(path) for path in pictures],
    }
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False)


def _queries(look: Look, name: Queries) -> dict[str, Any] | None:
    chosen, record = look.record.chosen(name), look.record
    if not bool(chosen.any()):
        return None
    vas, scores = record.visual_attention_score(name), record.scores(name)
    return {
        "tokens": int(chosen.sum()),
        "vas": vas,
        "band": None if vas is None else vas_band(vas),
        "vas_without_sink": record.visual_attention_score(name, include_sink=False),
        "ratio_of_sums": record.ratio_of_sums(name),
        "vas_by_layer": None if scores is None or record.pool_layers else scores.mean((1, 2)).tolist(),
        "share": {group: look.share(group, name) for group in record.mass},
        "share_by_layer": {
            group: mass[..., chosen].double().mean((1, 2)).tolist() for group, mass in record.mass.items()
        },
    }


def _along_response(look: Look) -> list[dict[str, Any]]:
    chosen = look.record.chosen("response")
    shares = {group: mass[..., chosen].double().mean((0, 1)).tolist() for group, mass in look.record.mass.items()}
    return [
        {"token": token, "share": {group: values[index] for group, values in shares.items()}}
        for index, token in enumerate(look.tokens)
    ]


def _image_tokens(look: Look) -> list[dict[str, Any]] | None:
    """Each image's tokens: places as [left, top, right, bottom] in fractions of the image, and the share on each."""
    if look.image_tokens is None:
        return None
    return [{"places": tokens.places, "share": dict(tokens.shares)} for tokens in look.image_tokens]


def _plain(value: Any) -> Any:
    """Nested values as JSON knows them, numbers with six significant digits."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def _score(value: float | None, band: bool = True) -> str:
    if value is None:
        return UNKNOWN
    return f"{score(value)}\n{vas_band(value)}" if band else score(value)


def _percent(look: Look, group: str, name: Queries) -> str:
    return percent(look.share(group, name))
