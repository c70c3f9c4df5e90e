"""DynaMath's published rule, as its authors direct to it: vlmeval/dataset/dynamath.py of open-compass/VLMEvalKit.

The direct prompt asks for a JSON object with a "short answer". The script reads that; where there is none, the response
itself; and where that is no answer of the row's type, it asks a language model for a short answer. Here the answer that
our extraction found stands in for the language model's. One deviation: an empty short answer, which is a part of every
gold text and so credited by the script, is not.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

TOLERANCE: Final = 0.001
"""Absolute: of a gold number 1,000 times as large, too."""

_LETTERS: Final = "ABCDE"
"""The letters that the script looks for in a longer answer, although some rows offer F."""


def official_verdict(row: Mapping[str, Any], response: str, extraction: str | None) -> bool:
    """Whether the rule credits a response; extraction: the answer as ours found it, None if it found none."""
    answer_type, gold = row["answer_type"], row["ground_truth"]
    prediction = _preprocessed(response)
    candidates = [_short_answer(prediction), prediction, extraction]
    if answer_type == "float":
        numbers = (_number(text) for text in candidates if text is not None)
        number = next((found for found in numbers if found is not None), None)
        return number is not None and abs(number - float(gold)) <= TOLERANCE
    if answer_type == "multiple choice":
        letters = (_letter(text) for text in candidates if text is not None)
        letter = next((found for found in letters if found is not None), None)
        return letter == gold if letter is not None else gold in prediction[:3].upper()
    text = next(text for text in candidates if text is not None)
    return bool(text.strip()) and text.lower() in gold.lower()


def _preprocessed(response: str) -> str:
    """From the first brace to the last one, if there are any, without backslashes (LaTeX in JSON is seldom escaped)."""
    start, end = response.find("{"), response.rfind("}")
    return (response[start : end + 1] if 0 <= start < end else response).replace("\\", "")


def _short_answer(prediction: str) -> str | None:
    try:
        found = json.loads(prediction, strict=False)
    except (ValueError, RecursionError):
        return None
    answer = found.get("short answer") if isinstance(found, dict) else None
    return answer if isinstance(answer, str) else None


def _number(answer: str) -> float | None:
    """The number that an answer begins with, up to the first space; what stands before π counts π times."""
    factor, pi, _ = answer.split(" ", 1)[0].partition("π")
    try:
        return float(factor) * (math.pi if pi else 1)
    except ValueError:
        return None


def _letter(answer: str) -> str | None:
    """A single character, or the only letter from A to E that an answer holds anywhere ("Yes" holds E)."""
    if len(answer) == 1:
        return answer.upper()
    found = [letter for letter in _LETTERS if letter in answer.upper()]
    return found[0] if len(found) == 1 else None
