"""Stage 2: what a solution must be, and which of several is kept. Pure functions of texts."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal

from avar_eval.recipes.rewards import judge
from avar_eval.recipes.synthesis.looking import ACCORDING, marks
from avar_eval.recipes.synthesis.recipe import Filters

Reason = Literal["truncated", "format", "unparsed", "wrong", "few_reflections", "few_marks"]
_LATEST: Final[Sequence[Reason]] = ("few_marks", "few_reflections", "wrong", "unparsed", "format", "truncated")
"""The nearer to a solution that is kept, the earlier."""

_ANSWER: Final = re.compile(r"<answer>((?:(?!</?answer>).)*)</answer>\s*\Z", re.DOTALL | re.IGNORECASE)
_WRAPPED: Final = re.compile(r"\A\s*<(reasoning|think)>(.*)</\1>\s*\Z", re.DOTALL | re.IGNORECASE)
_TAG: Final = re.compile(r"</?(?:reasoning|answer|think)>", re.IGNORECASE)
_REFLECTION: Final = re.compile(
    r"\b(?:wait|hold on|hang on|hmm+|actually|on second thoughts?"
    r"|(?:let me|let['’]s|let us|I(?:['’]ll| will| should| need to| want to)|we should)\s+(?:\w+\s+){0,2}?"
    r"(?:double-?\s?check|verify|re-?check|check|re-?examine|reconsider|confirm|make sure|re-?read|go back|look back)"
    r"|double-?\s?checking|to (?:double-?check|verify|confirm)"
    r"|is that (?:right|correct)|does (?:that|this) make sense)\b",
    re.IGNORECASE,
)
_SENTENCE: Final = re.compile(r"(?<=[.!?:;])\s+|\n+")


@dataclass(frozen=True)
class Solution:
    """The solution that is kept. sample: its number. difficulty: the share of the row's samples that are right."""

    reasoning: str
    answer: str
    sample: int
    difficulty: float


def unwrapped(text: str) -> str:
    """A text without the tags of reasoning around all of it, if it has them."""
    found = _WRAPPED.match(text)
    return (found[2] if found else text).strip()


def written(text: str, thoughts: str = "") -> tuple[str, str] | None:
    """Reasoning and answer of a reply that ends in its one answer, else None.

    thoughts: reasoning_content, which is the reasoning of a reply that holds nothing but the answer. What a model says
    before <reasoning> is left out.
    """
    found = _ANSWER.search(text)
    if found is None:
        return None
    before = text[: found.start()]
    opened = before.lower().find("<reasoning>")
    reasoning = unwrapped(before[max(0, opened) :]) or thoughts.strip()
    answer = found[1].strip()
    return None if not (reasoning and answer) or _TAG.search(reasoning) or _TAG.search(answer) else (reasoning, answer)


def reflections(reasoning: str) -> Iterator[re.Match[str]]:
    """The words by which sentences stop and check, one a sentence."""
    end = -1
    for word in _REFLECTION.finditer(reasoning):
        if end < 0 or _SENTENCE.search(reasoning, end, word.start()):
            yield word
        end = word.end()


def format_response(reasoning: str, answer: str) -> str:
    """A response as it is trained on, and as it is judged."""
    return f"<think>{reasoning}</think><answer>{answer}</answer>"


def check_sample(
    text: str, ended: str, row: Mapping[str, Any], filters: Filters, thoughts: str = ""
) -> tuple[str, str] | Reason:
    """Reasoning and answer of one sample that is right and reflects, else why not.

    ended: its finish reason. row: `answer`, `answer_type`, `choices`, `precision`, as the grader takes them. thoughts:
    its reasoning_content.
    """
    if ended == "length":
        return "truncated"
    found = written(text, thoughts)
    if found is None:
        return "format"
    judgement = judge(row, format_response(*found), "stop")
    if not judgement.correct:
        return "wrong" if judgement.state == "scored" else "unparsed"
    if sum(1 for _ in islice(reflections(found[0]), filters.reflections)) < filters.reflections:
        return "few_reflections"
    return found if marks(found[0]) or ACCORDING.search(found[0]) else "few_marks"


def choose(checked: Sequence[tuple[str, str] | Reason], seed: int, row_id: str) -> Solution | Reason:
    """One of the samples that passed, drawn by the hash of seed and row; else the reason that was nearest to passing.

    checked: what `check_sample` says of each. Right are those that passed and those that only reflect or mark too
    little.
    """
    right = sum(not isinstance(one, str) or one in ("few_reflections", "few_marks") for one in checked)
    passed = [(sample, one) for sample, one in enumerate(checked) if not isinstance(one, str)]
    if not passed:
        return next(reason for reason in _LATEST if reason in checked)
    drawn = int.from_bytes(hashlib.sha256(f"{seed}/{row_id}".encode()).digest()[:8]) % len(passed)
    sample, (reasoning, answer) = passed[drawn]
    return Solution(reasoning, answer, sample, right / len(checked))
