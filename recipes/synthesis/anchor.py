"""Stage 3: the same solution, looking at the image. Pure functions of texts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from avar_eval.recipes.synthesis.looking import Anchor, anchors, forbidden, without_anchors, without_marks
from avar_eval.recipes.synthesis.reason import Solution, unwrapped, written
from avar_eval.recipes.synthesis.recipe import Filters

Reason = Literal[
    "truncated",
    "format",
    "answer_changed",
    "steps_changed",
    "numbers_changed",
    "formulas_changed",
    "forbidden_word",
    "unnamed_anchor",
    "few_anchors",
    "many_anchors",
    "unplaced_anchors",
    "anchor_in_formula",
]

_TAG: Final = re.compile(r"</?(?:reasoning|answer|think)>", re.IGNORECASE)
_FORMULA: Final = re.compile(
    r"\$\$.{1,2000}?\$\$|\$[^$\n]{1,2000}?\$|\\\[.{1,2000}?\\\]|\\\(.{1,2000}?\\\)|\\boxed\{[^{}]{0,2000}\}", re.DOTALL
)
_TOKEN: Final = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)?")
_QUANTITY: Final = re.compile(r"\d+(?:[.,]\d+)*|[=+*/^<>≤≥≠×÷√°%π]|(?<=[\d\s)])[-−](?=[\s\d(])")
_WHOLE_SHARE: Final = 1 / 3
"""Of the anchors, at most so many look at the image as a whole and name no object."""
_THIRDS: Final = 3


@dataclass(frozen=True)
class Anchored:
    """A solution that looks at the image. looking: its phrases that do, in order."""

    reasoning: str
    looking: tuple[Anchor, ...]


def check_anchored(
    text: str, ended: str, solution: Solution, question: str, objects: Sequence[str], filters: Filters
) -> Anchored | Reason:
    """The anchored solution of a reply, if it differs from stage 2's by its looking phrases alone, else why not.

    solution: of stage 2, its reasoning with its marks. objects: the names of stage 1's list. A reply need not repeat
    the answer, but if it does it is the same.
    """
    if ended == "length":
        return "truncated"
    whole = written(text)
    if whole is not None and whole[1] != solution.answer:
        return "answer_changed"
    anchored = unwrapped(text) if whole is None else whole[0]
    if _TAG.search(anchored) or not anchored:
        return "format"
    if forbidden(anchored, question):
        return "forbidden_word"
    plain = without_marks(solution.reasoning)
    looking = anchors(anchored, objects, plain)
    rest = without_anchors(anchored, looking)
    if (
        equal_share(_TOKEN.findall(plain.casefold()), _TOKEN.findall(rest.casefold()), filters.unchanged)
        < filters.unchanged
    ):
        return "steps_changed"
    if _formulas(plain) != _formulas(anchored):
        return "formulas_changed"
    named = {anchor.text: _QUANTITY.findall(anchor.named or "") for anchor in looking}
    told = any(set(_QUANTITY.findall(phrase)) - set(own) for phrase, own in named.items())
    if told or _QUANTITY.findall(plain) != _QUANTITY.findall(rest):
        return "numbers_changed"
    return _misplaced(anchored, looking, filters) or Anchored(anchored, tuple(looking))


def _misplaced(anchored: str, looking: Sequence[Anchor], filters: Filters) -> Reason | None:
    """What is wrong with where and how the anchors stand."""
    if sum(not anchor.whole and anchor.named is None for anchor in looking):
        return "unnamed_anchor"
    if sum(anchor.whole for anchor in looking) > _WHOLE_SHARE * len(looking):
        return "unnamed_anchor"
    density = 100 * len(looking) / max(1, len(_TOKEN.findall(anchored)))
    if len(looking) < filters.anchors or density < filters.anchors_per_100_words[0]:
        return "few_anchors"
    if density > filters.anchors_per_100_words[1]:
        return "many_anchors"
    spans = [found.span() for found in _FORMULA.finditer(anchored)]
    if any(anchor.start < end and start < anchor.end for anchor in looking for start, end in spans):
        return "anchor_in_formula"
    thirds = {min(_THIRDS - 1, _THIRDS * anchor.start // len(anchored)) for anchor in looking}
    return None if len(thirds) == _THIRDS else "unplaced_anchors"


def _formulas(text: str) -> list[str]:
    return ["".join(found[0].split()) for found in _FORMULA.finditer(text)]


def equal_share(first: Sequence[str], second: Sequence[str], least: float) -> float:
    """2 × the longest common subsequence ÷ both lengths, 0 as soon as it must be below `least`.

    Myers' greedy algorithm (1986): time grows with length × difference, and texts here hardly differ.
    """
    total = len(first) + len(second)
    if not total:
        return 1.0
    most = int((1 - least) * total + 1e-9)
    if abs(len(first) - len(second)) > most:
        return 0.0
    furthest = {1: 0}
    for difference in range(most + 1):
        for diagonal in range(-difference, difference + 1, 2):
            down = diagonal == -difference or (
                diagonal != difference and furthest[diagonal - 1] < furthest[diagonal + 1]
            )
            at = furthest[diagonal + 1] if down else furthest[diagonal - 1] + 1
            beside = at - diagonal
            while at < len(first) and beside < len(second) and first[at] == second[beside]:
                at, beside = at + 1, beside + 1
            furthest[diagonal] = at
            if at >= len(first) and beside >= len(second):
                return 1 - difference / total
    return 0.0
