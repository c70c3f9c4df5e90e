"""MathVista's published rule: what an extracted answer is normalised to, and when that is right.

Follows `normalize_extracted_answer` and `safe_equal` of evaluation/calculate_score.py (lupantech/MathVista), as called
with `--ignore_empty_extractions`: an empty extraction is not the nearest option. The script's extractions come from a
language model; here they are given. An integer is str(int(float(x))), so that 1.5 counts as 1.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from avar_eval.answers.markup import MAX_LENGTH

_LETTER_IN_BRACKETS: Final = re.compile(r"\(([a-zA-Z])\)")


def official_verdict(row: Mapping[str, Any], extraction: str | None) -> bool:
    """Whether the rule credits an extraction; None is one that was not found.

    An extraction beyond `MAX_LENGTH` characters, which no extractor writes, is nearest to no option.
    """
    if extraction is None or not extraction.strip():
        return False
    return _normalised(row, extraction) == str(row["answer"])


def _normalised(row: Mapping[str, Any], extraction: str) -> str | None:
    if row["question_type"] == "multi_choice":
        return _option(extraction.strip(), row["choices"])
    try:
        if row["answer_type"] == "integer":
            return str(int(float(extraction)))
        if row["answer_type"] == "float":
            return str(round(float(extraction), int(row["precision"])))
    except (ValueError, OverflowError):  # no number, or none that an integer can be
        return None
    return extraction


def _option(extraction: str, choices: Sequence[str]) -> str | None:
    """The option of the first letter in brackets or of a letter alone, else the nearest one; the first of equals."""
    if len(extraction) > MAX_LENGTH:
        return None
    in_brackets = _LETTER_IN_BRACKETS.search(extraction)
    letter = in_brackets[1].upper() if in_brackets else extraction
    index = ord(letter) - ord("A") if len(letter) == 1 else -1
    if 0 <= index < len(choices):
        return choices[index]
    return min(choices, key=lambda choice: edit_distance(choice, letter))


def edit_distance(pattern: str, text: str) -> int:
    """Levenshtein distance in O(len(text)) operations on integers of len(pattern) bits (Hyyrö 2003, after Myers 1999).

    Column by column of the usual table; bit i tells whether the entry of row i + 1 is one more or one less than the
    entry above it (rising, falling) or to its left (growing, shrinking).
    """
    if not pattern:
        return len(text)
    everything = (1 << len(pattern)) - 1
    last_row = 1 << (len(pattern) - 1)
    places: dict[str, int] = {}
    for row, letter in enumerate(pattern):
        places[letter] = places.get(letter, 0) | 1 << row
    rising, falling, distance = everything, 0, len(pattern)
    for letter in text:
        same = places.get(letter, 0)
        diagonal = (((same & rising) + rising) ^ rising) | same | falling
        growing = falling | (everything & ~(diagonal | rising))
        shrinking = diagonal & rising
        distance += bool(growing & last_row) - bool(shrinking & last_row)
        growing = (growing << 1 | 1) & everything
        shrinking = (shrinking << 1) & everything
        rising = shrinking | (everything & ~(diagonal | growing))
        falling = growing & diagonal
    return distance
