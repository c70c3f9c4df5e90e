"""Two of the three rewards of Eq. 8, as functions of the response alone: accuracy and format."""

import re
from collections.abc import Mapping
from typing import Any, Final, cast, get_args

from avar_eval.answers import FinishReason, Judgement, Kind, judge_answer
from avar_eval.errors import AvarError

_FORMAT: Final = re.compile(r"\s*<think>(.*?)</think>\s*<answer>(.*?)</answer>\s*", re.DOTALL)
_TAGS: Final = ("<think>", "</think>", "<answer>", "</answer>")


class RewardDataError(AvarError):
    """A row that no response can be judged against.

    What to do: Give the row an answer and its kind, or leave the row out.
    """


def judge(row: Mapping[str, Any], response: str, finish_reason: FinishReason) -> Judgement:
    """Judge a response as an evaluation does (`avar_eval.answers.judge_answer`).

    row: `answer`, and optionally `answer_type` (default "text"), `choices` and `precision`.
    Raises RewardDataError if these do not belong together.
    """
    kind = row.get("answer_type") or "text"
    if kind not in get_args(Kind):
        raise RewardDataError(f"answer_type must be one of {', '.join(get_args(Kind))}, and a row has {kind!r}")
    try:
        return judge_answer(
            response,
            answer=row["answer"],
            kind=cast(Kind, kind),
            choices=row.get("choices") or (),
            precision=row.get("precision"),
            finish_reason=finish_reason,
        )
    except ValueError as error:
        raise RewardDataError(f"the answer {row['answer']!r} of a row is not of its type {kind!r}: {error}") from error


def format_reward(response: str) -> float:
    """r_format: 1 for `<think>…</think><answer>…</answer>`, each tag once and nothing but space around, else 0.

    >>> format_reward("<think>3 + 4</think><answer>7</answer>")
    1.0
    """
    found = _FORMAT.fullmatch(response)
    complete = found is not None and found[2].strip() and all(response.count(tag) == 1 for tag in _TAGS)
    return 1.0 if complete else 0.0
