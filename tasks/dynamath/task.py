"""DynaMath: how a row becomes a prompt, and how a response is judged."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

import numpy as np
from PIL import Image

from avar_eval.answers import FinishReason, Judgement, Kind, judge_answer
from avar_eval.answers.equal import read_list
from avar_eval.answers.markup import restored
from avar_eval.answers.options import LETTERS
from avar_eval.answers.quantity import read_quantity, stated_quantity
from avar_eval.answers.visible import visible_text
from avar_eval.tasks.choices import PICTURED, choices_in
from avar_eval.tasks.dynamath.official import TOLERANCE, official_verdict
from avar_eval.tasks.prompts import ask, style_of, templated
from avar_eval.tasks.shares import Parts, Units, by_category
from avar_eval.tasks.visuals import rgb_picture

Row = Mapping[str, Any]

VARIANTS: Final = 10
"""Variants of a question; the worst case takes all of them."""

# As published, spelling included: a prompt is a part of the measurement.
_GUIDE: Final = (
    "## Answer Instruction Please provide an answer to the question outlined above. Your response should adhere to the "
    "following JSON format, which includes two keys: 'solution' and 'short answer'. The 'solution' key can contain "
    "detailed steps needed to solve the question, and the 'short answer' key should provide a concise response. {hint}"
    "\n\nExample of expected JSON response format:\n\n"
)
_EXAMPLE: Final = json.dumps(
    {"solution": "[Detailed step-by-step explanation]", "short answer": "[Concise Answer]"}, indent=4
)
_JSON_HINTS: Final = {
    "multiple choice": (
        "Provide the corresponing choice option in the 'short answer' key, such as 'A', 'B', 'C', or 'D'."
    ),
    "float": "Format the answer as a three-digit floating-point number and provide it in the 'short answer' key.",
    "text": "Float numbers in the answer should be formatted as three-digit floating-point numbers.",
}
_HINTS: Final = {
    "multiple choice": "Provide the corresponding choice option, such as A, B, C, or D.",
    "float": "Format the answer as a three-digit floating-point number.",
    "text": _JSON_HINTS["text"],
}
_SHORT_ANSWER: Final = re.compile(
    r"""["']short[ _-]?answer["']\s*:\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[-+.0-9eE]+)""",
    re.DOTALL | re.IGNORECASE,
)
# In JSON "\frac" with one backslash is a form feed and "rac". None of these words follows an escape in an answer.
_LATEX_ESCAPE: Final = re.compile(
    r"(?<!\\)\\(?=(?:frac|fbox|boxed|beta|bar|begin|binom|bf|times|text|theta|tan|tau|tfrac|to|neq|ne|nu|right|rho|rm))"
    r"|(?<!\\)\\(?![\\\"/bfnrtu])"
)
_MONTHS: Final = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip


@templated(dict)
def doc_to_text(row: Row, settings: Mapping[str, Any] | None = None) -> str:
    """The user turn. In direct style it is the published prompt, which asks for a JSON object.

    In the other styles the question is followed by the published hint on the form of the answer, without the JSON.
    """
    style = style_of(settings)
    answer_type = row["answer_type"]
    if style == "direct":
        return f"## Question\n {row['question']}\n{_GUIDE.format(hint=_JSON_HINTS[answer_type])}{_EXAMPLE}"
    return ask([f"Question: {row['question'].strip()}", _HINTS[answer_type]], style)


def doc_to_visual(row: Row) -> list[Image.Image]:
    """The row's one picture, RGB."""
    return [rgb_picture(row["image"], f"DynaMath row {row['id']}, variant {row['variant']} has no picture")]


def judge(row: Row, response: str, finish_reason: FinishReason | None = None) -> Judgement:
    """Judge a response by the row's answer type: a letter, a number to within 0.001, or a text.

    `official` is the published rule; see `official.py` for what stands in for its language model.
    """
    judgement = _strict(row, response, finish_reason)
    return replace(judgement, official=official_verdict(row, response, judgement.extracted))


def cluster(row: Row) -> str:
    """The question: its ten variants are not independent."""
    return str(row["id"])


def parts(rows: Sequence[Row]) -> Parts:
    """The average and the worst case, and both by subject and knowledge level, as the paper tabulates them.

    average: responses, published as the mean of 5,010. worst: questions of which all ten variants are right; a variant
    that is missing is not right. Unknown where no question has all its variants: such a run has not measured it.
    """
    subjects = by_category([[row["subject"]] for row in rows], "subject/")
    levels = by_category([[row["knowledge_level"]] for row in rows], "level/")
    worst = {f"worst {name}": _worst_case(rows, units.place) for name, units in (subjects | levels).items()}
    every = range(len(rows))
    return {"average": Units.of(every), "worst": _worst_case(rows, every)} | subjects | levels | worst


def _worst_case(rows: Sequence[Row], places: Iterable[int]) -> Units:
    found = list(places)
    units = Units.of(found, (cluster(rows[place]) for place in found))
    variants: dict[str, set[int]] = {}
    for place in found:
        variants.setdefault(cluster(rows[place]), set()).add(rows[place]["variant"])
    return replace(units, whole=np.array([len(of) == VARIANTS for of in variants.values()], dtype=bool))


def _strict(row: Row, response: str, finish_reason: FinishReason | None) -> Judgement:
    gold = row["ground_truth"]
    short = _short_answer(response)
    if short is not None:
        response, finish_reason = f"<answer>{short}</answer>", "stop"
    if row["answer_type"] == "multiple choice":
        choices = choices_in(row["question"]) or PICTURED
        answer = choices[LETTERS.index(gold)]
        return judge_answer(response, answer=answer, kind="choice", choices=choices, finish_reason=finish_reason)
    if row["answer_type"] == "text":
        judgement = judge_answer(response, answer=gold, kind=_text_kind(gold), finish_reason=finish_reason)
        return replace(judgement, correct=judgement.correct or _same_month(judgement.extracted, gold))
    judgement = judge_answer(response, answer=gold, kind="float", finish_reason=finish_reason)
    return replace(judgement, correct=judgement.extracted is not None and _close(judgement.extracted, gold))


def _short_answer(response: str) -> str | None:
    """The last "short answer" of a JSON object outside the thought; None without one.

    By its key alone: the LaTeX in such objects makes most of them invalid JSON.
    """
    matches = _SHORT_ANSWER.findall(visible_text(response, cut=False) or "")
    if not matches:
        return None
    written = _LATEX_ESCAPE.sub(r"\\\\", matches[-1])
    if written.startswith("'"):
        return written.strip("'").strip() or None
    try:
        answer = str(json.loads(written, strict=False))
    except ValueError:
        answer = str(matches[-1]).strip('"')
    return restored(answer).strip() or None


def _text_kind(gold: str) -> Kind:
    """Coordinates, codes and lists of numbers as lists; equations as expressions; the rest as text."""
    items = read_list(gold)
    if items is not None and len(items) > 1 and all(read_quantity(item) for item in items):
        return "list"
    return "expression" if "=" in gold else "text"


def _close(answer: str, gold: str) -> bool:
    stated = stated_quantity(answer)
    return stated is not None and abs(stated.value - Fraction(gold)) <= Fraction(str(TOLERANCE))


def _same_month(answer: str | None, gold: str) -> bool:
    """Whether the answer is the whole name of the month that the gold abbreviates: diagrams write "Sep"."""
    month = (answer or "").strip().casefold()
    return month in _MONTHS and month[:3] == gold.casefold()
