"""Stage 1: what a description must be, and what is read from it. Pure functions of texts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from avar_eval.answers import Kind
from avar_eval.recipes.synthesis.recipe import Filters

Reason = Literal[
    "truncated", "refusal", "missing_part", "too_short", "too_long", "no_elements", "solved", "samples_disagree"
]

_TITLE: Final = (
    r"(?P<scan{0}>(?:global\s+)?scan\b{1})|(?P<element{0}>(?:the\s+|iterative\s+)?elements?\b{1})"
    r"|(?P<link{0}>(?:information\s+)?link\w*\b{1})|(?P<synthesis{0}>(?:final\s+)?(?:scene\s+)?synthesis\b{1})"
)
_HEADING: Final = re.compile(
    r"^[ ]{0,3}(?:(?=[#*\d]|(?:part|step)\b)(?:#{1,6}\s*)?\**\s*(?:(?:part|step)\s*)?(?:[1-4]\s*[.:)\-]?\s*)?\**\s*(?:"
    + _TITLE.replace("{0}", "").replace("{1}", r"[^\n:.]{0,60}?")
    + r")\**\s*(?::\**|$)|(?:"
    + _TITLE.replace("{0}", "_bare").replace(
        "{1}", r"(?:\s+(?:and|one|by|frame|cross-?check|decomposition|definition)\b){0,4}"
    )
    + r")\s*:?\s*$)",
    re.IGNORECASE | re.MULTILINE,
)
"""Marked by #, ** or a number, and then the part may begin behind its colon; or alone on its line."""
_NAMES: Final = ("scan", "element", "link", "synthesis")
_ITEM: Final = re.compile(
    r"^\s*(?:[-*•]|\d+[.)])\s+(?:\*\*)?(?P<name>[^:\n]{1,120}?)(?:\*\*)?\s*:(?:\*\*)?\s*(?P<shown>[^\n]*)$",
    re.MULTILINE,
)
_REFUSAL: Final = re.compile(
    r"\b(?:I(?:['’]m| am)\s+(?:sorry|unable|not able)"
    r"|I\s+(?:cannot|can['’]t|can not|won['’]t)\s+(?:help|assist|see|view|describe|provide|process)"
    r"|as an? (?:AI|language model)"
    r"|(?:no image (?:was|is|has been)|the image (?:was|is|has) not(?: been)?) (?:provided|attached|available))",
    re.IGNORECASE,
)
_REFUSES_WITHIN: Final = 400
"""Characters at the beginning of a reply in which a refusal stands; later on such words may be of the image."""
_NUMBER: Final = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w])")
_LABEL: Final = re.compile(r"\b[A-Z]{1,4}\d?'?(?=\b|\W)")
_CLAIM: Final = (
    r"(?:answer|solution|result|correct\s+(?:option|choice))\s*(?:\w+\s+){0,3}?"
    r"(?:is|are|:|=|would\s+be|must\s+be)\s*(?:\*\*)?\(?"
)
_CONCLUSION: Final = re.compile(
    r"\b(?:therefore|hence|thus|so|it follows that|we (?:get|find|obtain|conclude))\b[^.\n]{0,120}", re.IGNORECASE
)


@dataclass(frozen=True)
class Description:
    """A description that passed. objects: the names of its list of elements."""

    text: str
    objects: tuple[str, ...]


def parts(text: str) -> tuple[str, str, str, str] | None:
    """The four parts under their headings, in order; None if one is missing or empty."""
    headings = list(_HEADING.finditer(text))
    if tuple((mark.lastgroup or "").removesuffix("_bare") for mark in headings) != _NAMES:
        return None
    ends = [*(mark.start() for mark in headings[1:]), len(text)]
    first, second, third, last = (text[mark.end() : end].strip() for mark, end in zip(headings, ends, strict=True))
    return (first, second, third, last) if all((first, second, third, last)) else None


def objects(elements: str) -> tuple[str, ...]:
    """The names of the list of elements, each once, in its order."""
    return tuple(dict.fromkeys(found["name"].strip(" *`\"'") for found in _ITEM.finditer(elements)))


def check_description(
    samples: Sequence[tuple[str, str]], question: str, answer: str, kind: Kind, choices: Sequence[str], filters: Filters
) -> Description | Reason:
    """The first sample, if it is one to reason from, else why not.

    samples: text and finish reason of each. answer, kind, choices: of the row; the describer has not seen them.
    """
    text, ended = samples[0]
    if ended == "length":
        return "truncated"
    if _REFUSAL.search(text[:_REFUSES_WITHIN]):
        return "refusal"
    whole = parts(text)
    if whole is None:
        return "missing_part"
    count = len(text.split())
    if count < filters.words[0]:
        return "too_short"
    if count > filters.words[1]:
        return "too_long"
    names = objects(whole[1])
    if not names:
        return "no_elements"
    if states_answer(whole, question, answer, kind, choices):
        return "solved"
    if len(samples) > 1:
        second = parts(samples[1][0])
        if second is None or agreement(whole[1], second[1]) < filters.agreement:
            return "samples_disagree"
    return Description(text, names)


def states_answer(
    whole: tuple[str, str, str, str], question: str, answer: str, kind: Kind, choices: Sequence[str]
) -> bool:
    """Whether a description says the answer where neither the question nor the picture gives it.

    What the picture gives stands in its first two parts, which copy it: an answer that is said to be one, or that the
    last two parts conclude without its having been seen, is the describer's own. Yes and no, and an option's letter,
    are counted only where they are called the answer.
    """
    text, seen = "\n".join(whole), f"{whole[0]}\n{whole[1]}\n{question}"
    said = [answer]
    if kind == "choice" and len(answer) == 1 and choices and 0 <= (place := ord(answer) - ord("A")) < len(choices):
        said.append(choices[place])
    for value in filter(str.strip, said):
        exact = rf"(?<![\w.]){re.escape(value.strip())}(?![\w]|\.\d)"
        if re.search(rf"\b{_CLAIM}(?:option\s+)?{exact}", text, re.IGNORECASE):
            return True
        if (kind == "choice" and value == answer) or value.casefold() in ("yes", "no", "true", "false"):
            continue
        if re.search(exact, seen, re.IGNORECASE):
            continue
        concluded = " ".join(found[0] for found in _CONCLUSION.finditer(text))
        if re.search(exact, concluded, re.IGNORECASE):
            return True
        # a single digit is in many an honest sentence
        if len(value.strip()) > 1 and re.search(exact, f"{whole[2]}\n{whole[3]}", re.IGNORECASE):
            return True
    return False


def agreement(first: str, second: str) -> float:
    """The share (0..1) of numbers and capital labels that two lists of elements have in common; 1 where neither has."""
    one, other = ({*_NUMBER.findall(text), *_LABEL.findall(text)} for text in (first, second))
    return len(one & other) / len(one | other) if one | other else 1.0
