"""Whether a finished thought is fit to be learnt from: it does not go in circles, and is in the question's language."""

import re
import unicodedata
from typing import Final, Literal

from avar_eval.recipes.synthesis.recipe import Filters

Reason = Literal["repetition", "language"]

_RUN: Final = 10
_OTHER_SCRIPT: Final = 0.02
"""Share of a thought's letters that may be of a script which the question does not use."""
_LETTERS_OF_ALL: Final = ("LATIN", "GREEK")
"""Greek letters are mathematics."""


def why_no_row(thought: str, question: str, filters: Filters) -> Reason | None:
    """Why a thought is left out, None if all is well."""
    if repeated_share(thought) > filters.repeated:
        return "repetition"
    return "language" if other_script_share(thought, question) > _OTHER_SCRIPT else None


def repeated_share(thought: str) -> float:
    """The share (0..1) of runs of ten words that have stood in the thought before."""
    words = re.findall(r"\w+", thought.casefold())
    runs = [tuple(words[at : at + _RUN]) for at in range(len(words) - _RUN + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def other_script_share(thought: str, question: str) -> float:
    """The share (0..1) of a thought's letters that are of a script which neither the question nor mathematics uses."""
    if thought.isascii():
        return 0.0
    known = {*_LETTERS_OF_ALL, *(_script(letter) for letter in question if letter.isalpha())}
    foreign = total = 0
    for letter in thought:
        if letter.isalpha():
            total += 1
            # nearly all letters are ASCII, and quickly known
            foreign += not letter.isascii() and _script(letter) not in known
    return foreign / total if total else 0.0


def _script(letter: str) -> str:
    return unicodedata.name(letter, "UNKNOWN").split(maxsplit=1)[0]
