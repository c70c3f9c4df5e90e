"""When two pieces of free-form mathematics are the same: numbers, fractions, roots, tuples, intervals, sets, LaTeX.

Almost all is decided here by spelling and by value; only what needs algebra is asked of a worker process (workers.py).
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from avar_eval.answers.arithmetic import arithmetic_value
from avar_eval.answers.markup import boxed, plain, restored
from avar_eval.answers.quantity import Quantity, read_quantity, stated_quantity
from avar_eval.answers.symbolic import equal_options, same_expression, warm_up
from avar_eval.answers.workers import WORKERS

MAX_EXPRESSION: Final = 300
"""Characters. A longer text is compared by spelling alone."""

_DECIMALS: Final = 6

_SIGNS: Final = str.maketrans(
    {
        "π": r"\pi ", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "÷": "/", "∞": r"\infty ",
        "≤": r"\le ", "≥": r"\ge ", "∪": r"\cup ", "∩": r"\cap ", "，": ",", "、": ",", "【": "[", "】": "]",
        "²": "^{2}", "³": "^{3}", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "\u2061": "",
    }
)  # fmt: skip
_FRACTION_COMMAND: Final = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_SHORT_FRACTION: Final = re.compile(r"\\frac\s?(?:([0-9])\s?([0-9])|\{([^{}]*)\}\s?([0-9]))")
_ROOT: Final = re.compile(
    r"(?:√|(?<![\\A-Za-z])sqrt)\s?(?:\{([^{}]*)\}|\(([^()]*)\)|([0-9.]+|[a-z]\b))|\\sqrt\s?([0-9])(?![0-9])"
)
_PI: Final = re.compile(r"(?<![A-Za-z\\])pi\b")
_RATIO: Final = re.compile(r"([0-9.]+)\s?:\s?([0-9.]+)")
_TIMES: Final = re.compile(r"(?<=[}0-9]) (?=[0-9\\(])(?!\\(?:le|ge|cup|cap|times|cdot|in|pm|circ|text)\b)")
_TRAILING_UNIT: Final = re.compile(
    r"(?<=[0-9})a-z])\s?(?:\{\s?[A-Za-z]{2,}[A-Za-z ]*\}|(?<![a-zA-Z])(?:sq(?:uare)? |cubic )?"
    r"(?:[ckm]?m|cm|inch(?:es)?|feet|ft|units?|degrees?|meters?|metres?|米|厘米|千米|元|度|平方米|°)(?:\^\{?[23]\}?)?)$"
)
_COMMAND: Final = re.compile(r"\\[A-Za-z]+")
_WORD: Final = re.compile(r"[^\W\d_]{3,}|[\u0080-\uffff]")
_FUNCTIONS: Final = frozenset({"sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "arcsin", "arccos", "arctan"})
_LETTER: Final = re.compile(r"\(?[A-Za-z]\)?")
# Not e and i, which are numbers, nor the names of functions.
_VARIABLE: Final = re.compile(r"(?<![A-Za-z])[A-DF-HJ-Za-df-hj-z](?![a-z]{2})")
_TWO_NUMBERS: Final = re.compile(r"[0-9.]\s+[0-9.]")
_PAIRS: Final = {")": "([", "]": "([", "}": "{"}

WORKERS.prepare(warm_up)


def expression_equal(answer: str, gold: str, *, precision: int | None = None) -> bool:
    """Whether an answer is the gold expression.

    precision: decimals to which two numbers are rounded before comparison, where the benchmark does so (MathVision: 2);
    without it to six, and whole numbers exactly.

    Raises ValueError for an empty gold, WorkLimitError if the comparison takes more time or memory than it may.
    """
    wanted = canonical(gold)
    if not wanted:
        raise ValueError(f"gold {gold!r} is not an expression")
    found = canonical(answer)
    gold_number = read_quantity(gold) or read_quantity(wanted)
    number = read_quantity(answer) or read_quantity(found)
    if number is None and gold_number is not None:
        number = stated_quantity(answer)
    if number is not None and gold_number is not None:
        return same_number(number, gold_number, precision)
    if _spelling(found) == _spelling(wanted):
        return True
    if not (is_expression(found) and is_expression(wanted)) or not _may_be_equal(found, wanted):
        return False
    value, wanted_value = arithmetic_value(found), arithmetic_value(wanted)
    if value is not None and wanted_value is not None:
        decimals = _DECIMALS if precision is None else precision
        return round(float(value), decimals) == round(float(wanted_value), decimals)
    if wanted_value is not None and _VARIABLE.search(_COMMAND.sub(" ", found)):
        return False  # a number is not what depends on a variable
    return _ask_same(found, wanted, precision)


def expression_option(answer: str, choices: Sequence[str]) -> int | None:
    """The index of the one option that the answer equals as an expression; None for none or several.

    Not for numbers, which `named_option` has compared, with their units.

    Raises WorkLimitError if the comparison takes more time or memory than it may.
    """
    found, options = canonical(answer), [canonical(choice) for choice in choices]
    if not is_expression(found) or read_quantity(answer) is not None:
        return None
    equal = [index for index, option in enumerate(options) if _spelling(option) == _spelling(found)]
    symbolic = any("\\" in option or "^" in option or "/" in option for option in options)
    if not equal and symbolic:
        asked = [index for index, option in enumerate(options) if is_expression(option)]
        values = [arithmetic_value(text) for text in (found, *(options[index] for index in asked))]
        if None not in values:
            number, *others = [round(float(value), _DECIMALS) for value in values if value is not None]
            near = [asked[index] for index, other in enumerate(others) if other == number]
            return near[0] if len(near) == 1 else None
        equal = [asked[index] for index in _ask_options(found, tuple(options[index] for index in asked))]
    return equal[0] if len(equal) == 1 else None


def same_number(number: Quantity, gold: Quantity, precision: int | None) -> bool:
    """Whether two numbers agree, rounded to `precision` decimals, and do not carry different units."""
    if number.unit and gold.unit and number.unit != gold.unit:
        return False
    if number.value == gold.value:
        return True
    if precision is None and number.value.denominator == gold.value.denominator == 1:
        return False
    decimals = _DECIMALS if precision is None else precision
    try:
        return round(float(number.value), decimals) == round(float(gold.value), decimals)
    except OverflowError:
        return False


def canonical(text: str) -> str:
    """An expression in one way of writing it: LaTeX without math delimiters, boxes, units and what leads to "="."""
    if len(text) > 2 * MAX_EXPRESSION:
        return text
    text = restored(text)
    inner = boxed(text)
    text = plain((text if inner is None else inner[0]).translate(_SIGNS))
    text = _FRACTION_COMMAND.sub(r"\\frac", text)
    text = _SHORT_FRACTION.sub(lambda match: rf"\frac{{{match[1] or match[3]}}}{{{match[2] or match[4]}}}", text)
    text = _ROOT.sub(lambda match: rf"\sqrt{{{match[1] or match[2] or match[3] or match[4] or ''}}}", text)
    text = _PI.sub(r"\\pi ", text).replace("**", "^")
    text = _last_of_chain(text)
    text = _TRAILING_UNIT.sub("", text).strip()
    ratio = _RATIO.fullmatch(text)
    text = f"{ratio[1]}/{ratio[2]}" if ratio else text
    return _TIMES.sub(r" \\cdot ", text)


def is_expression(text: str) -> bool:
    """Whether a canonical text can be mathematics: short, without words, its brackets balanced."""
    if not text or len(text) > MAX_EXPRESSION or not is_balanced(text) or _TWO_NUMBERS.search(text):
        return False
    return all(word in _FUNCTIONS for word in _WORD.findall(_COMMAND.sub(" ", text)))


def _may_be_equal(found: str, wanted: str) -> bool:
    """Whether neither is a lone letter, an option's: only the same letter equals one."""
    return not any(_LETTER.fullmatch(text) for text in (found, wanted))


def _spelling(text: str) -> str:
    return "".join(text.split()).replace(r"\cdot", "").casefold()


def _last_of_chain(text: str) -> str:
    """What follows the last "=" or "≈" of one chain; `x = 1, y = 2` is not one."""
    if "," in text or ";" in text or "<" in text or ">" in text:
        return text
    parts = re.split(r"=|≈|\\approx(?![a-z])", text)
    return parts[-1].strip() or text


def is_balanced(text: str) -> bool:
    """Whether brackets close; ( and [ may close each other, as in an interval."""
    open_brackets: list[str] = []
    for character in text:
        if character in "([{":
            open_brackets.append(character)
        elif character in _PAIRS and (not open_brackets or open_brackets.pop() not in _PAIRS[character]):
            return False
    return not open_brackets


@lru_cache(maxsize=65536)
def _ask_same(found: str, wanted: str, precision: int | None) -> bool:
    return bool(WORKERS.ask(same_expression, found, wanted, precision))


@lru_cache(maxsize=65536)
def _ask_options(found: str, options: tuple[str, ...]) -> list[int]:
    return list(WORKERS.ask(equal_options, found, options))
