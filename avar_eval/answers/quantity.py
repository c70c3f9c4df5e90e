"""Numbers with and without a unit, exactly, as people and models write them. Nothing is ever evaluated."""

import re
import unicodedata
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple

from avar_eval.answers.markup import MAX_LENGTH, plain

_UNSIGNED: Final = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_DECIMAL: Final = rf"(?:{_UNSIGNED})(?:[eE][-+]?[0-9]{{1,3}})?"
_POWER: Final = r"\s?(?:×|x|\*|\\times|\\cdot)\s?10\s?\^\s?\{?\s?(?P<power>[-+]?[0-9]{1,3})\s?\}?"
_LATEX_FRACTION: Final = (
    rf"\\[dt]?frac\s?\{{\s?(?P<above>[-+]?(?:{_DECIMAL}))\s?\}}\s?\{{\s?(?P<below>[-+]?(?:{_DECIMAL}))\s?\}}"
)
_QUANTITY: Final = re.compile(
    r"(?P<sign>[-+]?)\s?[€£¥]?\s?"
    rf"(?:(?P<whole>[0-9]{{1,9}}) (?P<part>[0-9]{{1,9}})/(?P<parts>[0-9]{{1,9}})"
    r"|(?P<wholes>[0-9]{1,9})\s?\\frac\{\s?(?P<share>[0-9]{1,9})\s?\}\{\s?(?P<shares>[0-9]{1,9})\s?\}"
    rf"|{_LATEX_FRACTION}"
    rf"|(?P<top>{_DECIMAL})\s?/\s?(?P<bottom>{_DECIMAL})"
    rf"|(?P<decimal>{_DECIMAL})(?:{_POWER})?)"
    r"(?P<unit>(?:\s?[^\s0-9].*)?)",
    re.DOTALL,
)
_SUPERSCRIPTS: Final = str.maketrans("⁻⁺⁰¹²³⁴⁵⁶⁷⁸⁹", "-+0123456789")
_RAISED: Final = re.compile(r"(?<=10)[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3}")
_SHORT_FRACTION: Final = re.compile(r"\\[dtc]?frac\s?([0-9])\s?([0-9])(?![0-9])")
_LONG_FRACTION: Final = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_VULGAR: Final = re.compile("([0-9]?)\\s?([½¼¾⅐-⅞↉])")
_GREEK_UNIT: Final = re.compile(r"\\(Omega|mu)")
_GREEK_UNITS: Final = {"Omega": "Ω", "mu": "µ"}
# 2.9999999999999996 is 3 as a program writes it: sixteen digits or so, of which a shorter number is all that counts.
_NOISY_DIGITS: Final = 15
_TRUE_DIGITS: Final = 12
_ONE_ITEM: Final = re.compile(r"\[\s?([^\[\],;]*)\s?\]|\{\s?([^{},;]*)\s?\}")
_SCALES: Final = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_WORDS: Final = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
]  # fmt: skip
_SHORT_UNIT: Final = (
    r"(?:[kcmnµμ]?m|in|ft|yd|mi|[kmµμ]?g|lbs?|oz|[mµμn]?s|hr?s?|min|d|m?[lL]|[kM]?[NJWVA]|[kMG]?Hz|k?Pa|[KCF]|mol|eV|rad"
    r"|[kmM]?Ω|[km]?cal|mph|[ap]\.?m)(?:\s?\^\s?\{?-?[1-4]\}?|[²³])?"
)
_WORD_UNIT: Final = r"(?:(?:sq|square|cu|cubic)\.? )?[A-Za-zÀ-ÿ]{3,20}"
_UNIT: Final = re.compile(
    rf"°\s?[CF]?|%|′|″|[\u4e00-\u9fff]{{1,4}}|{_SHORT_UNIT}(?:\s?[/·*.]\s?{_SHORT_UNIT}){{0,2}}"
    rf"|(?:sq|cu)\.? ?{_SHORT_UNIT}|{_WORD_UNIT}(?: {_WORD_UNIT}){{0,3}}"
)
_UNIT_WORDS: Final = {"degree": "°", "degrees": "°", "deg": "°", "percent": "%"}
# Words that make another number, or no definite one, of what stands before them.
_NOT_A_UNIT: Final = re.compile(
    r"\b(?:pi|sqrt|root|times|plus|minus|divided|over|and|but|not|nor|or|more|less|fewer|than|about|approximately|most|least"
    r"|hundred|thousand|million|billion|trillion|dozen|half|maybe|unknown)\b",
    re.IGNORECASE,
)
_HEDGES: Final = re.compile(
    r"\b(?:not|no|none|neither|nor|never|cannot|can't|unable|impossible|unknown|unclear|unless|if|or|between|more than"
    r"|less than|fewer than|greater than|larger than|at least|at most|over|under|maybe|perhaps|might|could)\b|n['’]t\b",
    re.IGNORECASE,
)
# A value and its unit are one token: `2√3`, `5π`, `x2` and `3:4` hold digits but are no plain number.
_TOKEN: Final = re.compile(rf"(?<![^\s(€£¥])[-+]?(?:{_DECIMAL})(?=[\s)%°,.;?]|$)")
# "B. 9" answers with an option that nobody offered.
_LABEL: Final = re.compile(r"[(\[]?[A-Za-z][)\].:]\s")
_CHANGES_NUMBER: Final = re.compile(
    r" (?:pi|sqrt|root|times|plus|minus|divided|more|less|fewer|hundred|thousand|million|billion|trillion|dozen)\b",
    re.IGNORECASE,
)
_ARITHMETIC: Final = frozenset("√π^*+/<>≤≥\\±~≈=")
_CHAIN: Final = re.compile(r"[=≈]|\\approx")
_INEQUALITY: Final = frozenset("<>≤≥≠!")
_SEVERAL: Final = re.compile(r"[,;](?![0-9]{3}(?![0-9]))|\b(?:and|or)\b")


class Quantity(NamedTuple):
    """A number and its unit, spelt one way; "" without one."""

    value: Fraction
    unit: str

    def same(self, other: "Quantity") -> bool:
        """Equal in value and, where both carry one, in unit: 30 is 30 cm, 30 m is not."""
        return self.value == other.value and (not self.unit or not other.unit or self.unit == other.unit)


def read_quantity(text: str) -> Quantity | None:
    """The number that the whole text is: 1,234 · 12 cm · 50 % · 3/4 · 1½ · \\frac{3}{4} · 1.3×10^{-4} · [7] · seven.

    `50%` is 50 with the unit %, not 0.5: whether a share or a percentage was asked for, only the question knows.
    None for anything else, and for texts beyond `MAX_LENGTH`.
    """
    if len(text) > MAX_LENGTH:
        return None
    text = _one_spelling(plain(text))
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return _in_words(text)
    value, unit = _value(match), match["unit"].strip()
    scale, _, rest = unit.partition(" ")
    if value is not None and scale.casefold() in _SCALES:
        value, unit = value * _SCALES[scale.casefold()], rest
    if value is None or not _is_unit(unit):
        return None
    return Quantity(-value if match["sign"] == "-" else value, _unit(unit))


def stated_quantity(text: str) -> Quantity | None:
    """The one number that an answer states: the text itself, the end of `AB = 9·6/5 = 10.8`, or a sentence's only one.

    A sentence with a second number, an arithmetic sign, a negation or a bound ("more than 5") states none.
    """
    if len(text) > MAX_LENGTH:
        return None
    return read_quantity(text) or _end_of_chain(text) or _only_number(text)


def _one_spelling(text: str) -> str:
    """Fractions and powers of ten spelt one way; the item of a list of one, which is no list."""
    item = _ONE_ITEM.fullmatch(text)
    text = (item[1] or item[2] or "").strip("'\"") if item else text
    if "frac" in text:
        text = _LONG_FRACTION.sub(r"\\frac", _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", text))
    text = _GREEK_UNIT.sub(lambda found: _GREEK_UNITS[found[1]], text)
    if text.isascii():
        return text
    text = _VULGAR.sub(lambda found: f"{found[1]} {_vulgar(found[2])}".lstrip(), text)
    return _RAISED.sub(lambda power: "^" + power[0].translate(_SUPERSCRIPTS), text)


def _value(match: re.Match[str]) -> Fraction | None:
    """The unsigned number that a `_QUANTITY` match stands for; None for a division by zero."""
    if match["whole"]:
        below = int(match["parts"])
        return int(match["whole"]) + Fraction(int(match["part"]), below) if below else None
    if match["wholes"]:
        below = int(match["shares"])
        return int(match["wholes"]) + Fraction(int(match["share"]), below) if below else None
    for above, below_name in (("above", "below"), ("top", "bottom")):
        if match[above]:
            divisor = _decimal(match[below_name])
            return _decimal(match[above]) / divisor if divisor else None
    return _decimal(match["decimal"]) * Fraction(10) ** int(match["power"] or 0)


def _vulgar(character: str) -> str:
    """ "2/5" of ⅖."""
    return unicodedata.normalize("NFKC", character).replace("⁄", "/")


def _decimal(digits: str) -> Fraction:
    """The number of some digits. What a program's binary arithmetic leaves at their end is no part of it."""
    number = digits.replace(",", "").removesuffix(".")
    value = Fraction(number)
    if "." in number and sum(map(str.isdigit, number.partition("e")[0])) >= _NOISY_DIGITS:
        short = Fraction(f"{Decimal(number):.{_TRUE_DIGITS - 1}e}")
        if len(str(short.numerator)) < _TRUE_DIGITS - 3 and len(str(short.denominator)) < _TRUE_DIGITS - 3:
            return short
    return value


def _in_words(text: str) -> Quantity | None:
    word, _, unit = text.casefold().partition(" ")
    if word not in _WORDS or not _is_unit(unit):
        return None
    return Quantity(Fraction(_WORDS.index(word)), _unit(unit))


def _unit(text: str) -> str:
    """One spelling of a unit: cm^{2} and cm² are cm^2, degrees are °."""
    for spelling, unit in (("²", "^2"), ("³", "^3"), ("{", ""), ("}", ""), (" ", "")):
        text = text.replace(spelling, unit)
    return _UNIT_WORDS.get(text, text)


def _is_unit(text: str) -> bool:
    if not text:
        return True
    return len(text) <= 60 and bool(_UNIT.fullmatch(text)) and not _NOT_A_UNIT.search(text)


def _end_of_chain(text: str) -> Quantity | None:
    """`x = 10.8` and `a = b ≈ 10.8` end in their value; `x = 1, y = 2` has two."""
    parts = _CHAIN.split(plain(text))
    if len(parts) < 2 or "\n" in text.strip() or not _INEQUALITY.isdisjoint(text):
        return None
    several = any(_SEVERAL.search(part) or _HEDGES.search(part) for part in parts)
    return None if several else read_quantity(parts[-1])


def _only_number(text: str) -> Quantity | None:
    text = plain(text)
    if _HEDGES.search(text) or not _ARITHMETIC.isdisjoint(text):
        return None
    tokens = list(_TOKEN.finditer(text))
    if len(tokens) != 1 or _has_digit(text[: tokens[0].start()] + text[tokens[0].end() :]):
        return None
    if _LABEL.match(text) or _CHANGES_NUMBER.match(text, tokens[0].end()):
        return None
    return read_quantity(tokens[0][0])


def _has_digit(text: str) -> bool:
    return any(character.isdigit() for character in text)
