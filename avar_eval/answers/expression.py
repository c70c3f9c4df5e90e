"""When two pieces of free-form mathematics are the same: numbers, fractions, roots, tuples, intervals, sets, equations.

Almost all is decided here by spelling and by value; only what needs algebra is asked of a worker process (workers.py).
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from avar_eval.answers.arithmetic import arithmetic_value, near
from avar_eval.answers.markup import plain
from avar_eval.answers.notation import MAX_EXPRESSION, canonical, is_expression, marked_up, operand, spelling
from avar_eval.answers.quantity import Quantity, read_quantity, stated_quantity
from avar_eval.answers.relations import (
    ROW_END,
    Items,
    Statement,
    as_interval,
    ascending,
    is_curve,
    is_label,
    read_items,
    read_matrix,
    same_label,
    statement,
    union_parts,
)
from avar_eval.answers.symbolic import equal_options, same_expression, same_relation, warm_up
from avar_eval.answers.workers import WORKERS

_MAX_ITEMS: Final = 30
_MAX_DEPTH: Final = 4
"""Lists inside lists that are compared item by item."""
_RATIO: Final = re.compile(r"([0-9.]+)\s?:\s?([0-9.]+)")
_RATIO_IN_WORDS: Final = re.compile(r"^([0-9.]+) to ([0-9.]+)$")
_TIME: Final = re.compile(r"[0-9]{1,2}\s?:\s?[0-5][0-9]")
_LETTER: Final = re.compile(r"\(?[A-Za-z]\)?")
# Not e and i, which are numbers, nor the names of functions.
_VARIABLE: Final = re.compile(r"(?<![A-Za-z])[A-DF-HJ-Za-df-hj-z](?![a-z]{2})")
# Of 2k and 3M only a currency says that they are thousands and millions; in mathematics they are products.
_PRODUCT_WITH_LETTER: Final = re.compile(r"[0-9]\s?[kKMB]")
_POINT: Final = re.compile(r"[A-Z](?:'|_\{?[0-9]\}?)?\s?(\([^()]*,[^()]*\))")
_COMMAND: Final = re.compile(r"\\[A-Za-z]+")

WORKERS.prepare(warm_up)


def expression_equal(answer: str, gold: str, *, precision: int | None = None) -> bool:
    """Whether an answer is the gold expression, equation, inequality, or list of them.

    precision: decimals to which two numbers are rounded before comparison, where the benchmark does so (MathVision: 2);
    without it see `arithmetic.near`; whole numbers and fractions are compared exactly.

    Raises ValueError for an empty gold, WorkLimitError if the comparison takes more time or memory than it may.
    """
    gold_number, number = _gold_number(gold), read_quantity(answer)
    exact = "." not in answer and "." not in gold
    if number is not None and gold_number is not None:
        return same_number(number, gold_number, precision, exact=exact)
    found, wanted = marked_up(answer), marked_up(gold)
    if spelling(operand(found)) == spelling(operand(wanted)) or plain(answer) == plain(gold):
        return _is_same_letter(found, wanted)
    if gold_number is not None:
        number = read_quantity(found) or (stated_quantity(answer) if statement(found).is_value else None)
        if number is not None:
            return same_number(number, gold_number, precision, exact=exact)
    if len(found) > MAX_EXPRESSION or len(wanted) > MAX_EXPRESSION:
        return False
    with WORKERS.one_limit():
        return _same(found, wanted, precision, _MAX_DEPTH)


@lru_cache(maxsize=4096)
def _gold_number(gold: str) -> Quantity | None:
    """The number that a gold is, bare or behind a label ("Volume = 904.78 cm^3"); None for anything else."""
    wanted = marked_up(gold)
    if not wanted:
        raise ValueError(f"gold {gold!r} is not an expression")
    if _PRODUCT_WITH_LETTER.fullmatch(wanted):
        return None
    sides = statement(wanted)
    if sides.is_equation and is_label(sides.members[0]):
        return read_quantity(sides.members[-1])
    return read_quantity(gold) or read_quantity(wanted)


def expression_option(answer: str, choices: Sequence[str]) -> int | None:
    """The index of the one option that the answer equals as an expression; None for none or several.

    Not for numbers, which `named_option` has compared, with their units.

    Raises WorkLimitError if the comparison takes more time or memory than it may.
    """
    found, options = canonical(answer), [canonical(choice) for choice in choices]
    if not is_expression(found) or read_quantity(answer) is not None:
        return None
    equal = [index for index, option in enumerate(options) if spelling(option) == spelling(found)]
    if not equal and any("\\" in option or "^" in option or "/" in option or "=" in option for option in options):
        asked = [index for index, option in enumerate(options) if is_expression(option)]
        equal = [asked[index] for index in _equal_among(found, [options[index] for index in asked])]
    return equal[0] if len(equal) == 1 else None


def _equal_among(found: str, options: list[str]) -> list[int]:
    """The indices of the options that a text equals: by value where all have one, else item by item or by algebra."""
    values = [arithmetic_value(text) for text in (found, *options)]
    number, *others = values
    if number is not None and None not in others:
        return [index for index, other in enumerate(others) if other is not None and near(other, number, None)]
    if all(statement(text).is_value and read_items(text) is None for text in (found, *options)):
        return _ask_options(found, tuple(options))
    with WORKERS.one_limit():
        return [index for index, option in enumerate(options) if _same(found, option, None, _MAX_DEPTH)]


def same_number(number: Quantity, gold: Quantity, precision: int | None, *, exact: bool = False) -> bool:
    """Whether two numbers agree, as `arithmetic.near` says, and do not carry different units."""
    if number.unit and gold.unit and number.unit != gold.unit:
        return False
    whole = number.value.denominator == gold.value.denominator == 1
    return near(number.value, gold.value, precision, exact=exact or whole)


def _same(found: str, wanted: str, precision: int | None, depth: int) -> bool:
    """Whether two canonical texts state the same: item by item, side by side, or as values."""
    if spelling(found) == spelling(wanted):
        return True
    if not depth or not found or not wanted:
        return False
    found, wanted = _without_point_names(found, wanted)
    rows, gold_rows = read_matrix(found), read_matrix(wanted)
    if rows is not None and gold_rows is not None:
        return list(map(len, rows)) == list(map(len, gold_rows)) and all(
            _same(cell, gold, precision, depth - 1)
            for row, gold_row in zip(rows, gold_rows, strict=True)
            for cell, gold in zip(row, gold_row, strict=True)
        )
    found_set, wanted_set = _as_intervals(found), _as_intervals(wanted)
    if found_set is not None and wanted_set is not None:
        return _match(found_set, wanted_set, lambda one, other: _same(one, other, precision, depth - 1))
    found_items, wanted_items = read_items(found), read_items(wanted)
    one, other = statement(found), statement(wanted)
    if (one.is_value or found_items is not None) and (other.is_value or wanted_items is not None):
        if found_items is not None and wanted_items is not None:
            return _same_items(found_items, wanted_items, precision, depth - 1)
        if found_items is None and wanted_items is None:
            return _same_value(found, wanted, precision)
        return _same_single(found_items, wanted_items, found, wanted, precision, depth - 1)
    if found_items is not None or wanted_items is not None:
        return _same_mixed(one, other, found, wanted, precision, depth - 1)
    return _same_statement(one, other, precision, depth - 1)


def _without_point_names(found: str, wanted: str) -> tuple[str, str]:
    """Of V(3, -1) and (3, -1) the coordinates; the names of two points are compared."""
    points = _POINT.fullmatch(found), _POINT.fullmatch(wanted)
    if (points[0] is None) == (points[1] is None):
        return found, wanted
    return (points[0][1] if points[0] else found), (points[1][1] if points[1] else wanted)


def _same_single(
    found_items: Items | None, wanted_items: Items | None, found: str, wanted: str, precision: int | None, depth: int
) -> bool:
    """Whether a list and a value are the same: a set of one, or a set that algebra knows."""
    for items, single in ((found_items, wanted), (wanted_items, found)):
        if items is not None and items.opening == "{" and len(items.items) == 1:
            return _same(items.items[0], single, precision, depth)
    return _same_value(found, wanted, precision)


def _same_mixed(one: Statement, other: Statement, found: str, wanted: str, precision: int | None, depth: int) -> bool:
    """Whether a relation and a list are the same: `x \\in \\{1, 2\\}` and 1, 2; an inequality and its interval."""
    for side, text, is_gold in ((one, wanted, False), (other, found, True)):
        if side.is_value:
            continue
        interval = as_interval(side)
        value = interval[1] if interval is not None else None
        if value is None and side.is_equation and is_label(side.members[0]) and len(side.members) == 2:
            value = side.members[1]
        if value is not None:
            return _same(*((text, value) if is_gold else (value, text)), precision, depth)
    return False


def _as_intervals(text: str) -> list[str] | None:
    """The parts of a union of intervals, of "x < 1 or x > 3", or of `x \\neq 2`; None for anything else."""
    single = statement(text)
    if single.signs == ("∈",) and is_label(single.members[0]):
        return _as_intervals(single.members[1])
    if single.signs == ("≠",) and is_label(single.members[0]):
        return [rf"(-\infty,{single.members[1]})", rf"({single.members[1]},\infty)"]
    parts = union_parts(text)
    if parts is not None:
        return parts
    intervals = [as_interval(statement(part)) for part in re.split(r"\sor\s|\\(?:lor|vee)(?![A-Za-z])", text)]
    found = [interval for interval in intervals if interval is not None]
    if len(intervals) > 1 and len(found) == len(intervals) and len({variable for variable, _ in found}) == 1:
        return [interval for _, interval in found]
    return None


def _same_items(found: Items, wanted: Items, precision: int | None, depth: int) -> bool:
    """Whether two lists, tuples, intervals or sets are the same. Labels go where the other has none."""
    if len(found.items) != len(wanted.items) or len(found.items) > _MAX_ITEMS:
        return False
    if found.is_ordered and wanted.is_ordered and (found.opening, found.closing) != (wanted.opening, wanted.closing):
        return False  # (1, 2) may be an open interval and [1, 2] a closed one
    mine, theirs = _labelled(found.items), _labelled(wanted.items)
    labels = {label for label, _ in (*mine, *theirs) if label}
    if any(label for label, _ in mine) == any(label for label, _ in theirs):
        items, golds = found.items, wanted.items
        if labels:
            items, golds = (
                [f"{label}={value}" if label else value for label, value in side] for side in (mine, theirs)
            )
    else:
        items, golds = [value for _, value in mine], [value for _, value in theirs]
    several_names = len(labels) > 1 and (items, golds) == ([v for _, v in mine], [v for _, v in theirs])
    if found.is_ordered != wanted.is_ordered and not several_names and len(items) < 3:
        return False  # 1, 2 and the interval (1, 2)
    if "{" in (found.opening, wanted.opening) and (found.is_ordered or wanted.is_ordered):
        return False

    def same(one: str, other: str) -> bool:
        return _same(one, other, precision, depth)

    if found.is_ordered or wanted.is_ordered or several_names:
        return all(map(same, items, golds))
    return _match(items, golds, same)


def _labelled(items: list[str]) -> list[tuple[str, str]]:
    """Label and value of each item; an item without a label has the one before it: x = 1, 2."""
    found, last = [], ""
    for item in items:
        sides = statement(item)
        if sides.is_equation and len(sides.members) == 2 and is_label(sides.members[0]):
            last, item = sides.members
        elif not sides.is_value:
            last = ""
        found.append((last, item))
    return found


def _match(items: list[str], golds: list[str], same: Callable[[str, str], bool]) -> bool:
    """Whether each item equals another gold, in any order."""
    left = list(golds)
    for item in items:
        index = next((index for index, gold in enumerate(left) if same(item, gold)), None)
        if index is None:
            return False
        left.pop(index)
    return not left


def _same_statement(found: Statement, wanted: Statement, precision: int | None, depth: int) -> bool:
    """Whether two single statements are the same, of which at least one is a relation."""
    if wanted.is_value:
        return any(_same(value, wanted.members[0], precision, depth) for value in _readings(found, wanted.members[0]))
    if found.is_value:
        if not (wanted.is_equation and is_label(wanted.members[0])):
            interval = as_interval(wanted)
            return interval is not None and _same(found.members[0], interval[1], precision, depth)
        return any(_same(found.members[0], value, precision, depth) for value in wanted.members[1:])
    label, gold_label = found.members[0], wanted.members[0]
    both = found.is_equation and wanted.is_equation
    if both and is_label(label) and is_label(gold_label) and same_label(label, gold_label):
        values = _readings(found, "")
        return any(_same(one, other, precision, depth) for one in values for other in wanted.members[1:])
    interval, gold_interval = as_interval(found), as_interval(wanted)
    if interval is not None and gold_interval is not None and same_label(interval[0], gold_interval[0]):
        return _same(interval[1], gold_interval[1], precision, depth)
    relations, golds = list(ascending(found)), list(ascending(wanted))
    if both:
        relations, golds = [(found.members[0], "=", found.members[-1])], [(wanted.members[0], "=", wanted.members[-1])]
    if len(relations) != len(golds):
        return False
    if len(relations) == 2 and relations[0][0] != golds[0][0]:
        relations, golds = sorted(relations), sorted(golds)
    return all(_same_relation(one, other, precision, depth) for one, other in zip(relations, golds, strict=True))


def _readings(found: Statement, wanted: str) -> list[str]:
    """The values that an equation gives what it names: of x = 5/3 ≈ 1.67 both; of x = 1/3 ≈ 11 only the exact one.

    A formula before the sign goes as a label does where a constant is `wanted`: a + b = 5.
    """
    if not found.is_equation:
        return []
    members, signs = list(found.members), list(found.signs)
    constant = bool(wanted) and not _VARIABLE.search(_COMMAND.sub(" ", wanted))
    if is_label(members[0]):
        members, signs = members[1:], signs[1:]
    elif _VARIABLE.search(_COMMAND.sub(" ", members[0])):
        if not constant or is_curve(members[0]):
            return []
        members, signs = members[1:], signs[1:]
    exact = [member for member, sign in zip(members, ["=", *signs], strict=True) if sign != "≈"]
    if "≈" not in signs:
        return exact[-1:]
    value, rough = arithmetic_value(operand(exact[-1])), arithmetic_value(operand(members[-1]))
    if value is not None and rough is not None and abs(float(value) - float(rough)) > abs(float(value)) / 50:
        return exact[-1:]
    return [exact[-1], members[-1]]


def _same_relation(
    found: tuple[str, str, str], wanted: tuple[str, str, str], precision: int | None, depth: int
) -> bool:
    """Whether two relations (left, sign, right) are the same, as written or up to a factor."""
    left, sign, right = map(operand, found)
    gold_left, gold_sign, gold_right = map(operand, wanted)
    if sign != gold_sign:
        return False
    if spelling(left) == spelling(gold_left) and _same(right, gold_right, precision, depth):
        return True
    if spelling(right) == spelling(gold_right) and _same(left, gold_left, precision, depth):
        return True
    sides = (left, right, gold_left, gold_right)
    return all(map(is_expression, sides)) and _ask_relation(*sides, sign)


def _same_value(found: str, wanted: str, precision: int | None) -> bool:
    """Whether two texts without a relation are the same value, with units or without."""
    number, gold_number = read_quantity(found), read_quantity(wanted)
    if number is not None and gold_number is not None and not _PRODUCT_WITH_LETTER.fullmatch(wanted):
        return same_number(number, gold_number, precision, exact="." not in found and "." not in wanted)
    exact = "." not in found and "." not in wanted
    if _RATIO.fullmatch(wanted):
        found = _RATIO_IN_WORDS.sub(r"\1:\2", found)
    if ":" in found and ":" in wanted and max(found.count(":"), wanted.count(":")) > 1:
        return _same_proportion(found.split(":"), wanted.split(":"))
    if _TIME.fullmatch(found) and _TIME.fullmatch(wanted):
        return False  # 4:20 is not 2:10, a time of day
    found, wanted = (
        _RATIO.sub(r"\1/\2", operand(text)) if _RATIO.fullmatch(text) else operand(text) for text in (found, wanted)
    )
    if spelling(found) == spelling(wanted):
        return True
    if not (is_expression(found) and is_expression(wanted)) or not _is_same_letter(found, wanted):
        return False
    value, wanted_value = arithmetic_value(found), arithmetic_value(wanted)
    if value is not None and wanted_value is not None:
        return near(value, wanted_value, precision, exact=exact)
    if wanted_value and _VARIABLE.search(_COMMAND.sub(" ", found)):
        return False  # a number is not what depends on a variable
    return _ask_same(found.replace(ROW_END, r" \\ "), wanted.replace(ROW_END, r" \\ "), precision)


def _same_proportion(found: list[str], wanted: list[str]) -> bool:
    """Whether the terms of two proportions are the same up to a factor: 2:4:6 is 1:2:3."""
    values, golds = [[arithmetic_value(term) for term in terms] for terms in (found, wanted)]
    if len(values) != len(golds) or not all(values) or not all(golds):
        return False
    ratios = [one / other for one, other in zip(values, golds, strict=True) if one and other]
    return all(near(ratio, ratios[0], None) for ratio in ratios)


def _is_same_letter(found: str, wanted: str) -> bool:
    """Whether two texts are the same letter, or none of them is one: only the same letter equals an option's."""
    if _LETTER.fullmatch(found) or _LETTER.fullmatch(wanted):
        return found.strip("()") == wanted.strip("()")
    return True


@lru_cache(maxsize=65536)
def _ask_same(found: str, wanted: str, precision: int | None) -> bool:
    return bool(WORKERS.ask(same_expression, found, wanted, precision))


@lru_cache(maxsize=65536)
def _ask_relation(left: str, right: str, gold_left: str, gold_right: str, sign: str) -> bool:
    return bool(WORKERS.ask(same_relation, [left, right], [gold_left, gold_right], sign))


@lru_cache(maxsize=65536)
def _ask_options(found: str, options: tuple[str, ...]) -> list[int]:
    return list(WORKERS.ask(equal_options, found, list(options)))
