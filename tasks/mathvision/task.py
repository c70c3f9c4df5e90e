"""MathVision: how a row becomes a prompt, and how a response is judged."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from PIL import Image

from avar_eval.answers import FinishReason, Judgement, judge_answer
from avar_eval.answers.workers import WorkLimitError
from avar_eval.tasks.mathvision.official import official_correct
from avar_eval.tasks.prompts import ask, style_of, templated
from avar_eval.tasks.shares import Parts, by_category
from avar_eval.tasks.visuals import rgb_picture

Row = Mapping[str, Any]

_DIRECT: Final = (
    "Please first solve the problem step by step, then put your final answer or a single letter "
    '(if it is a multiple choice question) in one "\\boxed{}". \n'
)
"""The prompt of models/Gemini.py of mathllm/MATH-V; it stands before the question."""

_PRECISION: Final = 2
"""Decimals to which the published rule rounds two values before it compares them."""


@templated(lambda row: {"options": _options(row), "options_in_picture": "".join(row["options"]) == "ABCDE"})
def doc_to_text(row: Row, settings: Mapping[str, Any] | None = None) -> str:
    """The user turn: question and lettered options, with the style's instruction.

    In direct style it is the published prompt to the letter. `<image1>`, `<image2>`, … stay as they are: they name
    parts of the row's one picture. Where an option is nothing but its letter, it stands in the picture.
    """
    style = style_of(settings)
    if style == "direct":
        return f"{_DIRECT}{row['question']}\n" + "".join(f"({letter}) {text}\n" for letter, text in _options(row))
    lines = [str(row["question"])]
    if row["options"]:
        alone = {letter: text.strip("()") == letter for letter, text in _options(row)}
        lines += ["Choices:", *(f"({letter})" if alone[letter] else f"({letter}) {t}" for letter, t in _options(row))]
        lines.append("Hint: The answer is the letter of the correct choice.")
    return ask(lines, style)


def doc_to_visual(row: Row) -> list[Image.Image]:
    """The row's one picture, RGB: all the images that the question names, merged."""
    return [rgb_picture(row["image"], f"MathVision row {row['id']} has no picture")]


def doc_to_target(row: Row) -> str:
    """The gold answer as the dataset writes it: a letter where there are options."""
    return str(row["answer"])


def judge(row: Row, response: str, finish_reason: FinishReason | None = None) -> Judgement:
    """Judge a response: `strict` as a choice or a free-form expression, `official` by the published rule.

    `official` is None where the published script would compute without end.
    """
    options, gold = list(row["options"]), doc_to_target(row)
    strict = judge_answer(
        response,
        answer=options[ord(gold) - ord("A")] if options else gold,
        kind="choice" if options else "expression",
        choices=options,
        precision=None if options else _PRECISION,
        finish_reason=finish_reason,
    )
    try:
        official = official_correct(response, gold, options)
    except WorkLimitError:
        return strict
    return replace(strict, official=official)


def parts(rows: Sequence[Row]) -> Parts:
    """Levels (1 to 5), subjects, and each subject at each level, as the published math_level_subject_acc()."""
    levels, subjects = [f"level {row['level']}" for row in rows], [str(row["subject"]) for row in rows]
    both = [f"{level}, {subject}" for level, subject in zip(levels, subjects, strict=True)]
    tables = [by_category([[name] for name in of]) for of in (levels, subjects, both)]
    return {name: units for table in tables for name, units in table.items()}


def _options(row: Row) -> list[tuple[str, str]]:
    return list(zip("ABCDEFGHIJ", row["options"], strict=False))
