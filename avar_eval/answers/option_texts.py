"""Which of the offered options a text is, by the option's own text or by its value."""

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Final

from avar_eval.answers.markup import plain
from avar_eval.answers.quantity import Quantity, read_quantity, stated_quantity

_LONGEST_SYMBOL: Final = 3
"""Letters of a unit's symbol; the case of a longer unit, a word, makes no difference."""
_ARTICLE: Final = re.compile(r"^(?:an?|the) (?=\S{2})")
_RATIO: Final = re.compile(r"([0-9]{1,9})\s?:\s?([0-9]{1,9})")


@lru_cache(maxsize=1024)
def plain_options(choices: tuple[str, ...]) -> tuple[str, ...]:
    """The options' texts without their markup."""
    return tuple(map(plain, choices))


def only_option(indices: Iterable[int], options: Sequence[str]) -> int | None:
    """The first of the indices if all of them stand for the same option text; published rows repeat options."""
    found = list(indices)
    return found[0] if found and len({options[i] for i in found}) == 1 else None


def by_text(answer: str, options: Sequence[str]) -> int | None:
    """The option whose text, or whose value as a number, the whole answer is. Case decides between "Bb" and "bb"."""
    folded = answer.casefold()
    same = [i for i, option in enumerate(options) if option.casefold() == folded and _same_unit(answer, option)]
    if not same:
        bare = _ARTICLE.sub("", folded)
        same = [i for i, option in enumerate(options) if _ARTICLE.sub("", option.casefold()) == bare]
    if not same:
        index = by_value(read_quantity(answer), options)
        return by_ratio(answer, options) if index is None else index
    return (
        only_option((i for i in same if options[i] == answer), options)
        if answer in options
        else only_option(same, options)
    )


def _same_unit(answer: str, option: str) -> bool:
    """Whether two texts that differ in case alone are of the same unit: 25 pA is not 25 Pa."""
    if answer == option:
        return True
    found, wanted = read_quantity(answer), _quantity_of(option)
    if found is None or wanted is None or len(found.unit) > _LONGEST_SYMBOL:
        return True
    return found.unit == wanted.unit


def by_value(quantity: Quantity | None, options: Sequence[str]) -> int | None:
    """The one option that is this number, if it is of the same unit or of none."""
    if quantity is None:
        return None
    readings = [_quantity_of(option) for option in options]
    return only_option(
        (i for i, reading in enumerate(readings) if reading is not None and quantity.same(reading)), options
    )


# A question's options are read for each of its answer's lines.
_quantity_of = lru_cache(maxsize=4096)(read_quantity)


def by_ratio(answer: str, options: Sequence[str]) -> int | None:
    """The one ratio among the options that a fraction is: 3/8 or \\frac{3}{8} for 3:8."""
    quantity = stated_quantity(answer) if "/" in answer or "frac" in answer else None
    if quantity is None or quantity.unit:
        return None
    ratios = [_RATIO.fullmatch(option) for option in options]
    return only_option(
        (
            i
            for i, ratio in enumerate(ratios)
            if ratio and int(ratio[2]) and quantity.value == Fraction(int(ratio[1]), int(ratio[2]))
        ),
        options,
    )


def stands_in(option: str, sentence: str) -> bool:
    """Whether an option's text stands in a sentence as whole words."""
    start = sentence.find(option)
    while start >= 0:
        end = start + len(option)
        if not _is_word(sentence[start - 1 : start]) and not _is_word(sentence[end : end + 1]):
            return True
        start = sentence.find(option, start + 1)
    return False


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"
