"""Where a response says its final answer, in tokens, and after which words the reference answer is put in its place."""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

_TAG: Final = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_BOX: Final = "\\boxed{"
_OPENINGS: Final = ("<answer>", _BOX)


def answer_opening(prompt: str) -> str:
    """What an answer begins with that comes right after a prompt, by what the prompt asks for: `<answer>`, `\\boxed{`.

    Nothing where it asks for neither. A thought that the chat template has begun is ended first.
    """
    asked = max(_OPENINGS, key=prompt.rfind)
    opening = asked if asked in prompt else ""
    return f"\n</think>\n\n{opening}" if prompt.rstrip().endswith("<think>") else opening


def answer_span(response: str, extracted: str) -> tuple[int, int] | None:
    """Where the answer that was extracted from a response stands in it, as [start, end) in letters.

    The last one in answer tags, else in the last box, else the last whole word or words outside of thoughts. None where
    the response does not have it literally.
    """
    if not extracted:
        return None
    tags = list(_TAG.finditer(response))
    ranges = [tags[-1].span(1)] if tags else []
    if (box := response.rfind(_BOX)) >= 0:
        ranges.append((box + len(_BOX), len(response)))
    thought = response.rfind("</think>")
    ranges.append((thought + len("</think>") if thought >= 0 else 0, len(response)))
    word = re.compile(rf"(?<!\w){re.escape(extracted)}(?!\w)")
    for number, (start, end) in enumerate(ranges):
        found = [match.span() for match in word.finditer(response, start, end)]
        if found:  # of a tag or a box the first, of prose the last
            return found[-1] if number == len(ranges) - 1 else found[0]
    return None


@dataclass(frozen=True)
class AnswerTokens:
    """A response's tokens [first, end) that its answer is in; lead: what stands before the answer in the first one."""

    first: int
    end: int
    lead: str


def answer_tokens(
    tokenizer: Any, token_ids: Sequence[int], response: str, extracted: str | None
) -> AnswerTokens | None:
    """The tokens of a response's final answer. None without one, or where the tokens' text is not the response's."""
    span = None if extracted is None else answer_span(response, extracted)
    if span is None:
        return None

    def text(tokens: int) -> str:
        decoded: str = tokenizer.decode(
            token_ids[:tokens], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return decoded

    if not text(len(token_ids)).startswith(response[: span[1]]):
        return None
    numbers = range(len(token_ids) + 1)
    # the fewest tokens that hold the letter before `start` leave the answer's first token next
    end = bisect_left(numbers, span[1], key=lambda tokens: len(text(tokens)))
    first = bisect_left(numbers, span[0] + 1, key=lambda tokens: len(text(tokens))) - 1
    return AnswerTokens(first, end, response[len(text(first)) : span[0]])
