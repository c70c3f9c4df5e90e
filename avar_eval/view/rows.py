"""A record as the page has it: a line in its list, and what it shows when the line is chosen."""

import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Final

from avar_eval.answers.visible import thought_end
from avar_eval.view.records import Record

Line = dict[str, Any]

_OF_CAUSAL: Final = {"dependence": "visual_dependence", "dependence_top": "visual_dependence_top"}
"""Names in a record -> in results.json, where they differ."""
_NO_MEASURE: Final = ("tokens", "windows", "vas_by_layer", "share_by_layer")

_SHORT: Final = 160
"""Characters of a text in the list."""
_MARKUP: Final = re.compile(r"<\|[^|<>]{1,40}\|>|<(?:bos|eos|image|/?s|start_of_turn|end_of_turn|image_soft_token)>")
_ROLES: Final = ("image", "system", "user", "response", "template")

MEASURES: Final = {
    "vas": "VAS, from the question",
    "vas_response": "VAS, from the response",
    "vas_without_sink": "VAS without the first token",
    "vas_text": "VAS, from the question's text",
    "top_share": "share of VAS that its greatest terms hold",
    "ratio_of_sums": "image ÷ system (ratio of sums)",
    "visual_dependence": "visual dependence (KL, nats)",
    "visual_dependence_top": "visual dependence, top tenth (nats)",
    "information": "information of the picture (nats)",
    "information_after_thought": "information after the thought (nats)",
    "knockout_answer": "knockout, answer (nats)",
    "knockout_response": "knockout, response (nats)",
    "blind": "right without the picture",
    "swap": "right with another picture",
}
"""What a row's measures are called; one that is not here has its own name."""


def own_texts(prompts: Sequence[str]) -> list[str]:
    """What distinguishes each of a task's prompts, on one line: without what all of them begin and end with.

    That is the system turn, the markup and the instruction, in whatever chat template.
    """
    alike = len(set(prompts)) < 2
    before = prompts[0][: _shared(prompts)] if not alike else ""
    after = prompts[0][::-1][: _shared([prompt[len(before) :][::-1] for prompt in prompts])][::-1] if not alike else ""
    start = max(before.rfind("\n"), before.rfind(">")) + 1
    end = len(after[after.index("\n") :]) if "\n" in after else 0
    texts = [prompt[start : len(prompt) - end] for prompt in prompts]
    return [" ".join(_MARKUP.sub(" ", text).split()) for text in texts]


def _shared(texts: Sequence[str]) -> int:
    """How many characters all texts begin with alike: those of the first and the last in order."""
    first, last = min(texts), max(texts)
    return next((place for place, letter in enumerate(first) if last[place] != letter), len(first))


def list_line(
    record: Record, question: str, reference: str | None, guess_chance: float | None, part: int, place: int
) -> Line:
    """A record in the list. guess_chance: what a guess of the published rule on its row is worth, if it guesses.

    part, place: where `details` of it stand.
    """
    judgement, judge = record.get("judgement") or {}, record.get("judge") or {}
    tokens = len(record.get("response_token_ids") or ()) or (record.get("usage") or {}).get("completion_tokens")
    return {
        "id": record["row_id"],
        "sample": record["sample"],
        "part": part,
        "place": place,
        "question": _short(question),
        "reference": _short(reference),
        "answer": _short(judgement.get("extracted")),
        "state": judgement.get("state"),
        "reason": judgement.get("reason"),
        "strict": judgement.get("correct"),
        "official": judgement.get("official"),
        "guess": guess_chance if judgement and judgement.get("official") is None else None,
        "judge": judge.get("correct"),
        "judge_state": judge.get("state"),
        "cut": record["finish_reason"] == "length",
        "tokens": tokens,
        "measures": measures(record),
    }


def details(record: Record, reference: str | None, pictures: Sequence[str | None], overlay: Any) -> dict[str, Any]:
    """All of a record that a reader may want. pictures: the names of their files, None where one is not at hand."""
    response = record["response"]
    end = thought_end(response)
    judgement, judge = record.get("judgement") or {}, record.get("judge") or {}
    attention, causal = record.get("attention") or {}, record.get("causal") or {}
    return {
        "key": record["key"],
        "prompt": record["prompt"],
        "thought": response[:end],
        "rest": response[end:],
        "reference": reference,
        "answer": judgement.get("extracted"),
        "grader": judgement.get("grader"),
        "judge_model": judge.get("model"),
        "judge_answer": judge.get("extracted"),
        "finish_reason": record["finish_reason"],
        "prompt_tokens": len(record.get("prompt_token_ids") or ()) or (record.get("usage") or {}).get("prompt_tokens"),
        "pictures": list(pictures),
        "shares": {name: _shares(attention[name]) for name in ("user", "response") if attention.get(name)},
        "altered": {name: causal[name] for name in ("blind", "swap") if isinstance(causal.get(name), Mapping)},
        "overlay": overlay,
        "changed": record.get("changed"),
    }


def _short(text: str | None) -> str | None:
    if text is None:
        return None
    line = " ".join(text.split())
    return line if len(line) <= _SHORT else line[: _SHORT - 1] + "…"


def measures(record: Record) -> dict[str, float]:
    """The record's own numbers, by the names of results.json; yes is 1, no 0."""
    attention, causal = record.get("attention") or {}, record.get("causal") or {}
    response = attention.get("response") or {}
    found = [*(attention.get("user") or {}).items(), ("vas_response", response.get("vas"))]
    found += [(_OF_CAUSAL.get(name, name), value) for name, value in causal.items()]
    found += [
        (window_name(part, one["layers"]), one.get(part))
        for one in causal.get("knockout_windows") or ()
        for part in ("answer", "response")
    ]
    found = [(name, value.get("correct") if isinstance(value, Mapping) else value) for name, value in found]
    return {
        name: float(value)
        for name, value in found
        if name not in _NO_MEASURE and isinstance(value, bool | int | float) and isfinite(value)
    }


def window_name(part: str, layers: Sequence[int]) -> str:
    """What a knockout in a window of layers, first and last, is called. part: `answer` or `response`."""
    return f"knockout_{part}, layers {layers[0]} to {layers[1]}"


def _shares(queries: Mapping[str, Any]) -> dict[str, float]:
    """Mean shares over layers, 0 to 1."""
    by_layer = queries["share_by_layer"]
    return {role: sum(by_layer[role]) / len(by_layer[role]) for role in _ROLES if by_layer.get(role)}
