"""MMMU: how a row becomes a prompt with its pictures in place, and how a response is judged."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from PIL import Image

from avar_eval.answers import FinishReason, Judgement, Kind, judge_answer
from avar_eval.answers.options import LETTERS
from avar_eval.answers.quantity import read_quantity
from avar_eval.tasks.mmmu.images import Row, image_columns, interleaved, picture
from avar_eval.tasks.mmmu.official import choice_right, open_right
from avar_eval.tasks.prompts import ask, lettered, style_of, templated
from avar_eval.tasks.shares import Parts, Units, by_category

DISCIPLINES: Final = {
    subject: discipline
    for discipline, subjects in {
        "Art & Design": ("Art", "Art_Theory", "Design", "Music"),
        "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
        "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
        "Health & Medicine": (
            "Basic_Medical_Science",
            "Clinical_Medicine",
            "Diagnostics_and_Laboratory_Medicine",
            "Pharmacy",
            "Public_Health",
        ),
        "Humanities & Social Science": ("History", "Literature", "Psychology", "Sociology"),
        "Tech & Engineering": (
            "Agriculture",
            "Architecture_and_Engineering",
            "Computer_Science",
            "Electronics",
            "Energy_and_Power",
            "Materials",
            "Mechanical_Engineering",
        ),
    }.items()
    for subject in subjects
}
"""Of each subject, as DOMAIN_CAT2SUB_CAT of the published code has it."""

_DECIMALS: Final = 2
"""The published rule compares numbers rounded to two decimals."""


@templated(lambda row: {"options": lettered(options_of(row))})
def doc_to_text(row: Row, settings: Mapping[str, Any] | None = None) -> str:
    """The user turn, `<image n>` where the dataset has it: question, "(A) …" lines, empty line, instruction."""
    style = style_of(settings)
    if _is_choice(row):
        form = "Answer with the option's letter from the given choices"
        question = [row["question"], *option_lines(row, "({}) {}"), ""]
        direct = f"{form} directly."
    else:
        form = "Answer the question using a single word or phrase"
        question = [row["question"]]
        direct = f"{form}."
    return ask([*question, *([] if style == "direct" else [f"{form}."])], style, direct)


def doc_to_visual(row: Row) -> list[Image.Image]:
    """The pictures of the tokens in question and options, in their order, RGB."""
    return [picture(row, column) for column in image_columns(doc_to_text(row))]


def doc_to_messages(row: Row, lmms_eval_specific_kwargs: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """The user turn with each picture in its token's place."""
    return [{"role": "user", "content": interleaved(row, doc_to_text(row, lmms_eval_specific_kwargs))}]


def doc_to_target(row: Row) -> str:
    """The gold letter, or the open question's answer; a list of them stands as the dataset writes it."""
    return str(row["answer"])


def needed_pictures(row: Row) -> list[str]:
    """The image columns that the row's text names."""
    return sorted(set(image_columns(doc_to_text(row))))


def stratum(row: Row) -> str:
    """The subject, "validation_Art_Theory_7" is of Art_Theory: all 30 are always asked, so none of them is left to
    chance.

    How questions differ from subject to subject is then no error of the score; what differs within a subject is.
    """
    return str(row["id"]).partition("_")[2].rpartition("_")[0]


def question(row: Row) -> str:
    """The row's id: 577 of MMMU's 900 questions are in MMMU-Pro too, whose settings ask the same 1,730."""
    return str(row["id"])


def parts(rows: Sequence[Row]) -> Parts:
    """The six disciplines and the 30 subjects, as print_results.py of the published code tabulates them."""
    return by_category([[DISCIPLINES.get(stratum(row), "other")] for row in rows]) | subject_parts(rows)


def subject_parts(rows: Sequence[Row]) -> dict[str, Units]:
    """The subjects."""
    return by_category([[stratum(row)] for row in rows], "subject/")


def guess_chance(row: Row) -> float | None:
    """How probably the published rule is right where it guesses: among a row's options it draws one at random."""
    return 1 / len(options_of(row)) if row.get("question_type", "multiple-choice") == "multiple-choice" else None


def judge(row: Row, response: str, finish_reason: FinishReason | None = None) -> Judgement:
    """Judge a response by option, number or text; of several golds any one is right."""
    if _is_choice(row):
        return judge_choice(
            row, response, finish_reason, official=choice_right(response, options_of(row), row["answer"])
        )
    golds = _golds(row)
    judgements = [_judge_open(gold, response, finish_reason) for gold in golds]
    strict = next((judgement for judgement in judgements if judgement.correct), judgements[0])
    return replace(strict, official=open_right(response, golds))


def judge_choice(row: Row, response: str, finish_reason: FinishReason | None, *, official: bool | None) -> Judgement:
    """The strict judgement of a row with options and a gold letter, with the `official` verdict beside it."""
    options = options_of(row)
    gold = options[LETTERS.index(row["answer"])]
    strict = judge_answer(response, answer=gold, kind="choice", choices=options, finish_reason=finish_reason)
    return replace(strict, official=official)


def options_of(row: Row) -> list[str]:
    """The options' texts; the dataset holds the repr of a Python list."""
    return _literal_list(row["options"], row)


def option_lines(row: Row, form: str) -> list[str]:
    """The options as lines; `form` takes letter and text."""
    return [form.format(letter, option) for letter, option in zip(LETTERS, options_of(row), strict=False)]


def _is_choice(row: Row) -> bool:
    return bool(row["question_type"] == "multiple-choice")


def _golds(row: Row) -> Sequence[str]:
    answer: str = row["answer"]
    return _literal_list(answer, row) if answer.startswith("[") else [answer]


def _literal_list(text: str, row: Row) -> list[str]:
    try:
        items = ast.literal_eval(text)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"row {row['id']}: {text!r} is no list") from error
    return [str(item) for item in items]


def _judge_open(gold: str, response: str, finish_reason: FinishReason | None) -> Judgement:
    """An open question's response against one gold: a number, the letter of something in the picture, or a text."""
    if read_quantity(gold) is not None:
        # Rounded, 1/64 would be 0.02.
        precision = None if "/" in gold else _DECIMALS
        return judge_answer(response, answer=gold, kind="float", precision=precision, finish_reason=finish_reason)
    kind: Kind = "choice" if len(gold) == 1 and gold in LETTERS else "text"
    return judge_answer(response, answer=gold, kind=kind, finish_reason=finish_reason)
