"""What a row of reinforcement learning is judged by, checked when it is read: answer, kind, options and precision."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from avar_eval.answers import Kind
from avar_eval.recipes.question_options import options_in
from avar_eval.recipes.rewards import RewardDataError, judge
from avar_eval.recipes.sources import TrainingDataError

_LETTERS: Final = "ABCDEFGHIJ"
_ROUNDED: Final[tuple[Kind, ...]] = ("float", "expression")
"""Kinds of answers that a precision is of."""

_ANOTHER: Final = "0"
"""A response that any row can be compared with: one whose answer is not of its kind cannot."""


def judged_by(row: Mapping[str, Any], turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`answer`, `answer_type`, `choices` and `precision` of a row, whose conversation up to its answer is `turns`.

    A choice without `choices` gets the options that its question's text shows, if the answer is one of their letters.
    Raises TrainingDataError for values of another type.
    """
    answer, kind = str(row["answer"]), row.get("answer_type") or "text"
    choices, precision = row.get("choices"), row.get("precision")
    if choices is not None and not (isinstance(choices, (list, tuple)) and all(type(of) is str for of in choices)):
        raise TrainingDataError(f"its choices must be a list of texts, not {choices!r}")
    if precision is not None and not (type(precision) is int and precision >= 0):
        raise TrainingDataError(f"its precision must be a number of decimals, not {precision!r}")
    if precision is not None and kind not in _ROUNDED:
        precision = None  # MathVista's integers have the precision 0
    options = list(choices or ())
    if kind == "choice" and not options:
        asked = next((turn["content"] for turn in reversed(turns) if turn["role"] == "user"), ())
        found = options_in("\n".join(part["text"] for part in asked if part["type"] == "text"))
        letter = answer.strip().strip("().")
        if len(letter) == 1 and letter in _LETTERS[: len(found)]:
            options = found
            # Where options are named by letters ("A. C"), a letter as the answer would be taken for that option's text.
            answer = found[_LETTERS.index(letter)] if letter in found else answer
    return {"answer": answer, "answer_type": kind, "choices": options, "precision": precision}


def why_unjudgeable(row: Mapping[str, Any]) -> str | None:
    """Why a response that gives the row's own answer would not be judged right, or none could be; None if all is well.

    Of a choice the answer is said as its letter, and as its letter with the option's text.
    """
    answer, choices = row["answer"], row["choices"]
    ways = [answer]
    place = choices.index(answer) if answer in choices else _LETTERS.find(answer[:1])
    if len(answer) == 1 or answer in choices:
        ways = [_LETTERS[place], f"{_LETTERS[place]}. {choices[place]}"] if 0 <= place < len(choices) else ways
    try:
        judge(row, f"<answer>{_ANOTHER}</answer>", "stop")
        for way in ways:
            judgement = judge(row, f"<answer>{way}</answer>", "stop")
            if not judgement.correct:
                state = "wrong" if judgement.state == "scored" else judgement.state
                return f"{way!r} for the answer {answer!r} of type {row['answer_type']} is {state}"
    except RewardDataError as error:
        return str(error)
    return None
