"""When two answers are the same, by the kind of answer. The gold is the dataset's, the answer a model's."""

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from avar_eval.answers.expression import expression_option
from avar_eval.answers.markup import MAX_LENGTH, plain
from avar_eval.answers.options import LETTERS, named_letter, named_option, standalone_letter
from avar_eval.answers.quantity import read_quantity, stated_quantity
from avar_eval.answers.statements import yes_or_no

_BRACKETED: Final = re.compile(r"\[[^\[\]]*\]|\([^()]*\)|\{[^{}]*\}")
_SEPARATOR: Final = re.compile(r"\s?[,;、，]\s?(?:and\s)?|\sand\s")


def option_equal(answer: str, gold: str, choices: Sequence[str]) -> bool:
    """Whether the answer names the gold option, by letter, text or value. `gold` is a letter or a choice's text.

    A choice's text goes first; an answer that names no choice may still equal one as an expression. Two letters whose
    options have the same text are the same answer. Without choices (the options stand in the picture) letters are
    compared. Raises WorkLimitError as `expression_option` does.
    """
    if not choices:
        found = named_letter(answer)
        return found is not None and found == standalone_letter(gold, LETTERS)
    named = named_option(answer, choices)
    if named is None:
        named = expression_option(answer, choices)
    right = list(choices).index(gold) if gold in choices else named_option(gold, choices)
    if right is None:
        raise ValueError(f"gold {gold!r} is none of the choices {list(choices)!r}")
    # As written, not as `plain` has it: of the expressions s and s* the star is no emphasis.
    return named is not None and choices[named].strip() == choices[right].strip()


def integer_equal(answer: str, gold: str) -> bool:
    """Whether the answer states the gold integer: 3, 3.0, "3 cm", "x = 3"; 3.4 is not 3."""
    stated = stated_quantity(answer)
    return stated is not None and stated.value == _number(gold)


def float_equal(answer: str, gold: str, *, precision: int | None = None, tolerance: float = 1e-6) -> bool:
    """Whether the answer states the gold number.

    precision: decimals to which both are rounded before comparison, as `round(float(x), precision)` does in MathVista's
    normalisation (evaluation/calculate_score.py of lupantech/MathVista). Without it they agree within `tolerance`
    of each other, relative to their size: 4e-9 is not 3e-9, and nothing but 0 is 0.
    """
    stated = stated_quantity(answer)
    if stated is None:
        return False
    found, wanted = _float(stated.value), _float(_number(gold))
    if precision is not None:
        return round(found, precision) == round(wanted, precision)
    return math.isclose(found, wanted, rel_tol=tolerance)


def list_equal(answer: str, gold: str) -> bool:
    """Whether the answer is the gold list: same length and order, items equal as numbers or as text.

    Brackets may be of any kind or missing ("2, 4 and 6"); a sentence may hold one bracketed list.
    """
    found, wanted = read_list(answer), read_list(gold)
    if wanted is None:
        raise ValueError(f"gold {gold!r} is not a list")
    return found is not None and len(found) == len(wanted) and all(map(_item_equal, found, wanted))


def text_equal(answer: str, gold: str) -> bool:
    """Whether two texts are the same apart from case, white space, markup and a final stop.

    Articles count: "a cat" is not "cat". A gold yes or no equals an answer that opens with it ("Yes, because …").
    """
    if gold.strip().casefold() in ("yes", "no"):
        opening = yes_or_no(answer)
        return opening is not None and opening.casefold() == gold.strip().casefold()
    return plain(answer).casefold() == plain(gold).casefold()


def read_list(text: str) -> list[str] | None:
    """The items of the list that a text is or holds; None without one, or with several."""
    if len(text) > MAX_LENGTH:
        return None
    text = plain(text).replace(r"\{", "{").replace(r"\}", "}")
    groups = _BRACKETED.findall(text)
    if len(groups) > 1:
        return None
    items = groups[0][1:-1] if groups else text
    parts = [part.strip(" '\"") for part in _SEPARATOR.split(items)]
    if not groups and (len(parts) == 1 or any(len(part.split()) > 3 for part in parts)):
        return None
    return [] if parts == [""] else parts


def _item_equal(answer: str, gold: str) -> bool:
    found, wanted = read_quantity(answer), read_quantity(gold)
    if found is not None and wanted is not None:
        return found.same(wanted)
    return text_equal(answer, gold)


def _number(gold: str) -> Fraction:
    quantity = read_quantity(gold)
    if quantity is None:
        raise ValueError(f"gold {gold!r} is not a number")
    return quantity.value


def _float(value: Fraction) -> float:
    """The nearest float; infinity beyond the largest."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
