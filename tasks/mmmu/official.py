"""MMMU's published rule: eval/eval_utils.py (later mmmu/utils/eval_utils.py) of MMMU-Benchmark/MMMU.

It searches the whole response, thinking included. Where it finds no option it draws a letter at random; here it then
has no verdict.
"""

import re
from collections.abc import Sequence
from typing import Final

from avar_eval.answers.options import LETTERS

_STRIPPED: Final = (",", ".", "!", "?", ";", ":", "'")
_FORMS: Final = (("({})", "({})"), (" {} ", " {} "))
_KEYS: Final = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_MARKS: Final = frozenset(":,.!?;'")
# The published patterns, made linear in the text: a run of digits is tried at its first digit only.
_NUMBERS: Final = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?(?<!\d)\d++(?:\.\d++)?+[eE][+-]?\d++"),
    re.compile(r"-?(?:(?<!\d)\d++(?:\.\d++|\b)|\.\d++)(?![eE][+-]?\d)(?![,\d])"),
)


def option_letter(response: str, options: Sequence[str], forms: Sequence[tuple[str, str]] = _FORMS) -> str | None:
    """The letter that the multiple-choice parser reads; None where it would guess.

    forms: how an option may be named, tried in turn, and how the last mention is then looked for. Of several options
    the one mentioned last counts. After the forms, in a response of more than five words, an option's text does.
    """
    for mark in _STRIPPED:
        response = response.strip(mark)
    response = f" {response} "
    letters = LETTERS[: len(options)]
    for form, place in forms:
        named = [letter for letter in letters if form.format(letter) in response]
        if named:
            return max(named, key=lambda letter: response.rfind(place.format(letter)))
    if len(response.split()) <= 5:
        return None
    lowered = response.lower()
    places = {letter: lowered.rfind(option.lower()) for letter, option in zip(letters, options, strict=True)}
    last = max(letters, key=places.__getitem__)
    return last if places[last] >= 0 else None


def choice_right(response: str, options: Sequence[str], letter: str) -> bool | None:
    """Whether the parser reads the gold letter; None where it would guess."""
    found = option_letter(response, options)
    return None if found is None else found == letter


def open_right(response: str, golds: Sequence[str]) -> bool:
    """Whether any candidate of the response is one of the gold numbers, or holds one of the gold texts."""
    wanted = [form for gold in golds for form in _normalised(gold)]
    texts = [form for form in wanted if isinstance(form, str)]
    return any(
        any(text in candidate for text in texts) if isinstance(candidate, str) else candidate in wanted
        for candidate in _candidates(response)
    )


def _candidates(response: str) -> set[str | float]:
    """What the open-question parser takes for an answer: the ends of key sentences and the numbers in them."""
    keys = _key_sentences(response)
    numbers = [number for key in keys for pattern in _NUMBERS for number in pattern.findall(key)]
    return {form for text in (*keys, *numbers) for form in _normalised(text)}


def _key_sentences(response: str) -> list[str]:
    """Of each line the shortest text after an indicator ("is ", "so ", …); the whole response if there is none."""
    response = response.strip().strip(".").lower()
    # The published split at ". " before a capital never happens: the text is lower case by then.
    lines = response.split("\n")
    keys = []
    for number, line in enumerate(lines, start=1):
        indicators = (*_KEYS, "=") if number == len(lines) else _KEYS
        shortest = ""
        for indicator in indicators:
            _, found, end = line.rpartition(indicator)
            if found and (not shortest or len(end.strip()) < len(shortest)):
                shortest = end.strip()
        if shortest and shortest not in _MARKS:
            keys.append(shortest)
    return keys or [response]


def _normalised(text: str) -> list[str | float]:
    """A number rounded to two decimals, or the text in lower case; a single letter only beside a space."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]
