"""MMMU-Pro's published rule: mmmu-pro/evaluate.py of MMMU-Benchmark/MMMU.

What follows the last "Answer:" counts if exactly one of the offered letters occurs in it; otherwise MMMU's parser
reads the whole response, with two looser forms: a letter before a space, and a letter before a full stop.
"""

from collections.abc import Sequence
from typing import Final

from avar_eval.answers.options import LETTERS
from avar_eval.tasks.mmmu.official import option_letter

_FORMS: Final = (("({})", "({})"), ("{} ", " {} "), ("{}.", " {} "))
_MARKER: Final = "Answer:"


def choice_right(response: str, options: Sequence[str], letter: str) -> bool | None:
    """Whether the parser reads the gold letter; None where it would guess."""
    found = _after_marker(response, options) or option_letter(response, options, _FORMS)
    return None if found is None else found == letter


def _after_marker(response: str, options: Sequence[str]) -> str | None:
    _, marker, end = response.rpartition(_MARKER)
    named = [letter for letter in LETTERS[: len(options)] if letter in end]
    return named[0] if marker and len(named) == 1 else None
