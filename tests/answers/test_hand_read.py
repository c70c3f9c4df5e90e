"""Responses that were read by hand: how many of their answers are found, and whether anything else is credited.

hand_read.json holds responses of the shapes that models give to real benchmarks, in words and numbers of our own. They
are shapes that a strict reading finds hard: no tag, no box, no "the answer is". `label` is what a careful person takes
as the answer, null where that is nothing, more than one thing, or a statement that leaves yes or no to be inferred.
Each response is judged against its label and against every other answer that it might be taken for.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from avar_eval.answers import Judgement, judge_answer
from avar_eval.answers.options import LETTERS

ROWS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "hand_read.json").read_text(encoding="utf-8"))
RECALL, PRECISION = 0.99, 0.999
NUMBER = re.compile(r"-?[0-9][0-9,]*(?:\.[0-9]+)?")


def judged(row: dict[str, Any], gold: str, response: str | None = None) -> Judgement:
    kind = "text" if row["kind"] == "yes_no" else row["kind"]
    return judge_answer(response or row["response"], answer=gold, kind=kind, choices=row.get("choices", ()))


def is_label(row: dict[str, Any], gold: str) -> bool:
    """Whether a candidate is what the reader took as the answer: the same text, option or value."""
    label = row["label"]
    if label is None:
        return False
    choices = row.get("choices", [])
    letter = label.strip("()")
    if choices and label not in choices and letter in LETTERS:
        return bool(choices[LETTERS.index(letter)] == gold)
    return judged(row, gold, f"<answer>{label}</answer>").correct


def candidates(row: dict[str, Any]) -> list[str]:
    """Every answer that a response might be taken for: all options, or the numbers in it and some more."""
    if row["kind"] == "yes_no":
        return ["Yes", "No"]
    if row["kind"] == "choice":
        return row.get("choices") or list("ABCDEFGHIJ")
    numbers = {number.replace(",", "") for number in NUMBER.findall(row["response"])}
    return sorted(numbers | set(map(str, range(21))) | ({row["label"]} - {None}))


def test_the_table_is_large_and_holds_responses_with_and_without_an_answer() -> None:
    assert len(ROWS) >= 300
    assert len({row["response"] for row in ROWS}) == len(ROWS)
    assert min(sum(row["label"] is None for row in ROWS), sum(row["label"] is not None for row in ROWS)) > 100


def test_recall_and_precision() -> None:
    found = labelled = right = credited = 0
    missed: list[str] = []
    for row in ROWS:
        credits = [gold for gold in candidates(row) if judged(row, gold).correct]
        hits = [gold for gold in credits if is_label(row, gold)]
        labelled += row["label"] is not None
        found += bool(hits)
        right += len(hits)
        credited += len(credits)
        if len(hits) < len(credits) or (row["label"] is not None and not hits):
            missed.append(f"{row['label']!r}, credited {credits}: {row['response']}")
    assert found / labelled >= RECALL, missed
    assert right / credited >= PRECISION, missed


STATEMENTS = [row for row in ROWS if row["label"] is None and set(candidates(row)) <= {"Yes", "No", "yes", "no"}]


@pytest.mark.parametrize("row", STATEMENTS, ids=lambda row: row["response"][:40])
def test_yes_or_no_that_has_to_be_inferred_is_said_to_need_a_judge(row: dict[str, Any]) -> None:
    judgement = judged(row, candidates(row)[0])
    asks = "?" in row["response"]
    assert (judgement.state, judgement.reason) == ("unparsed", None if asks else "statement")
