"""HallusionBench's published rules.

Which answer a response gives: `YOrN_Extraction` of open-compass/VLMEvalKit (vlmeval/dataset/utils/yorn.py), whose
scores are the published ones (the benchmark's own script asks GPT-4). How answers become scores: `assign_correctness`,
`get_eval_all`, `get_eval_fig` and `get_eval_pair_all` in utils.py of tianyi-lab/HallusionBench.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

_MARKS: Final = ';/[]"{}()=+\\_-><@`,?!'
_NUMBER_WITH_COMMA: Final = re.compile(r"\d,\d")
_STOP: Final = re.compile(r"\.(?!\d)")
_STOPS_REMOVED: Final = 32
"""The script passes the flag re.UNICODE, 32, in the place of `count`."""


def yes_or_no(response: str) -> str | None:
    """ "Yes" or "No" if just one of the words stands in the response; None for neither or both (its "Unknown")."""
    words = set(_without_marks(response.lower()).split())
    if "yes" in words:
        return None if "no" in words else "Yes"
    return "No" if "no" in words else None


def answer_right(response: str, gold: str, *, without_picture: bool) -> bool:
    """Whether a response gives the gold "Yes" or "No"; of a row without a picture also whether it is uncertain."""
    found = yes_or_no(response)
    return without_picture if found is None else found == gold


def scores(rows: Sequence[Mapping[str, Any]], correct: Sequence[bool]) -> dict[str, float | None]:
    """aAcc: rows right; fAcc: figures with all rows right; qAcc: questions right on all their figures; their mean.

    Figure 0 of a VS set is no figure (those rows have no picture) and left out of fAcc. None for a share of nothing.
    """
    figures: dict[tuple[str, ...], bool] = {}
    questions: dict[tuple[str, ...], bool] = {}
    for row, right in zip(rows, correct, strict=True):
        group = (row["category"], row["subcategory"], str(row["set_id"]))
        if not is_without_picture(row):
            figure = (*group, str(row["figure_id"]))
            figures[figure] = figures.get(figure, True) and right
        question = (*group, str(row["question_id"]))
        questions[question] = questions.get(question, True) and right
    shares = {"aAcc": _share(correct), "fAcc": _share(figures.values()), "qAcc": _share(questions.values())}
    known = [share for share in shares.values() if share is not None]
    return shares | {"mean": sum(known) / 3 if len(known) == 3 else None}


def is_without_picture(row: Mapping[str, Any]) -> bool:
    """Whether a row is asked without a picture: figure 0 of a VS ("visual supplement") set."""
    return row["category"] == "VS" and str(row["figure_id"]) == "0"


def _without_marks(text: str) -> str:
    """The text without punctuation. A mark beside a space is dropped, another becomes a space.

    All are dropped where the text has a number with a comma: "yes,2,000" is then one word.
    """
    result = text
    has_number = _NUMBER_WITH_COMMA.search(text) is not None
    for mark in _MARKS:
        dropped = has_number or f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if dropped else " ")
    return _STOP.sub("", result, count=_STOPS_REMOVED)


def _share(values: Any) -> float | None:
    right = [bool(value) for value in values]
    return sum(right) / len(right) if right else None
