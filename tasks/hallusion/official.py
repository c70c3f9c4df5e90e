"""HallusionBench's published rules.

Which answer a response gives: `YOrN_Extraction` of open-compass/VLMEvalKit (vlmeval/dataset/utils/yorn.py), whose
scores are the published ones (the benchmark's own script asks GPT-4). How answers become scores: `assign_correctness`,
`get_eval_all`, `get_eval_fig` and `get_eval_pair_all` in utils.py of tianyi-lab/HallusionBench.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from avar_eval.tasks.shares import MeanOf, Parts, Units

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


def scores(rows: Sequence[Mapping[str, Any]]) -> Parts:
    """aAcc: rows; fAcc: figures with all rows right; qAcc: questions right on all their figures; and their mean.

    As evaluation.py tabulates them: the three in the categories VD ("visual dependent") and VS, and questions right on
    their first figure (easy) and on all others (hard). Figure 0 of a VS set is no figure (those rows have no picture)
    and left out of fAcc.
    """
    everywhere = range(len(rows))
    found: dict[str, Units | MeanOf] = _accuracies(rows, everywhere, "")
    found["mean"] = MeanOf(tuple(found))
    found |= _by_hardness(rows, everywhere, "")
    for category in ("VD", "VS"):
        places = [place for place in everywhere if rows[place]["category"] == category]
        found |= _accuracies(rows, places, f" {category}") | _by_hardness(rows, places, f" {category}")
    return found


def _accuracies(rows: Sequence[Mapping[str, Any]], places: Sequence[int], of: str) -> dict[str, Units | MeanOf]:
    shown = [place for place in places if not is_without_picture(rows[place])]
    return {
        f"aAcc{of}": Units.of(places),
        f"fAcc{of}": Units.of(shown, (_key(rows[place], "figure_id") for place in shown)),
        f"qAcc{of}": _questions(rows, places),
    }


def _by_hardness(rows: Sequence[Mapping[str, Any]], places: Sequence[int], of: str) -> dict[str, Units | MeanOf]:
    easy = [place for place in places if str(rows[place]["figure_id"]) == "0"]
    hard = [place for place in places if str(rows[place]["figure_id"]) != "0"]
    return {f"easy{of}": _questions(rows, easy), f"hard{of}": _questions(rows, hard)}


def _questions(rows: Sequence[Mapping[str, Any]], places: Sequence[int]) -> Units:
    return Units.of(places, (_key(rows[place], "question_id") for place in places))


def _key(row: Mapping[str, Any], number: str) -> tuple[str, ...]:
    return row["category"], row["subcategory"], str(row["set_id"]), str(row[number])


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
