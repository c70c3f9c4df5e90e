"""Numbers with and without a unit, exactly, as people and models write them. Nothing is ever evaluated."""

import re
import unicodedata
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

from avar_eval.answers.chinese import chinese_number
from avar_eval.answers.markup import MAX_LENGTH, plain
from avar_eval.answers.numerals import (
    changed,
    is_number_word,
    letter_scale,
    neighbours,
    scaled,
    spelled_number,
    without_prefix,
    without_suffix,
)
from avar_eval.answers.relations import is_curve

# 3,50,000 groups digits as India does.
_UNSIGNED: Final = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_DECIMAL: Final = rf"(?:{_UNSIGNED})(?:[eE][-+]?[0-9]{{1,3}})?"
_POWER: Final = r"\s?(?:×|x|\*|\\times|\\cdot)\s?10\s?\^\s?[{(]?\s?(?P<power>[-+]?[0-9]{1,3})\s?[})]?"
_LATEX_FRACTION: Final = (
    rf"\\[dt]?frac\s?\{{\s?(?P<above>[-+]?(?:{_DECIMAL}))\s?\}}\s?\{{\s?(?P<below>[-+]?(?:{_DECIMAL}))\s?\}}"
)
_QUANTITY: Final = re.compile(
    r"(?P<sign>[-+]?)\s?[€£¥₹]?\s?"
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
_LONG_FRACTION: Final = re.compile(r"\\(?:[dtcs]|nice)frac(?![A-Za-z])")
_VULGAR: Final = re.compile("([0-9]?)\\s?([½¼¾⅐-⅞↉])")
_GREEK_UNIT: Final = re.compile(r"\\(Omega|mu)")
_GREEK_UNITS: Final = {"Omega": "Ω", "mu": "µ"}
# 2.9999999999999996 is 3 as a program writes it: sixteen digits or so, of which a shorter number is all that counts.
_NOISY_DIGITS: Final = 15
_TRUE_DIGITS: Final = 12
_ONE_ITEM: Final = re.compile(r"\[\s?([^\[\],;]*)\s?\]|\{\s?([^{},;]*)\s?\}")
_SHORT_UNIT: Final = (
    r"(?:[kcmnµμ]?m|in|ft|yd|mi|[kmµμ]?g|lbs?|oz|[mµμn]?s|hr?s?|min|d|m?[lL]|[mkMG]?[NJWVA]|[µμnp][WVA]|[kMGT]?Hz|[kMG]?Pa|[mµμnp]?F|[mkMG]?Wh"
    r"|[KCF]|m?mol|[kMG]?eV|rad|[kmM]?Ω|[km]?cal|mph|[ap]\.?m)(?:\s?\^\s?\{?-?[1-4]\}?|[²³])?"
)
_WORD_UNIT: Final = r"(?:(?:sq|square|cu|cubic)\.? )?[A-Za-zÀ-ÿ]{3,20}"
_UNIT: Final = re.compile(
    rf"°\s?[CF]?|%|′|″|[\u4e00-\u9fff]{{1,4}}|{_SHORT_UNIT}(?:\s?[/·*.]\s?{_SHORT_UNIT}){{0,2}}"
    rf"|(?:sq|cu)\.? ?{_SHORT_UNIT}|{_WORD_UNIT}(?: {_WORD_UNIT}){{0,3}}"
)
_UNIT_WORDS: Final = {
    **dict.fromkeys(("degree", "degrees", "deg"), "°"),
    **dict.fromkeys(("percent", "percentage", "pct", "percents", "percentagepoints"), "%"),
}
# Words that make another number, or no definite one, of what stands before them.
_NOT_A_UNIT: Final = re.compile(
    r"\b(?:pi|sqrt|root|times|plus|minus|divided|over|and|but|not|nor|or|more|less|fewer|than|about|approximately|most|least"
    r"|hundreds?|thousands?|lakhs?|lacs?|millions?|crores?|billions?|trillions?|dozens?|score|half|maybe|unknown|squared|cubed"
    r"|factorial|(?:third|quarter|(?:four|fif|six|seven|eigh|nin|ten|hundred|thousand)th)s?|halves|fold|negative|below|under|above|zero|percentile|log|sin|cos|tan)\b"
    # Of the 的, half 半, so many tenths 成 or 折, more than 多 余 几 以, about 左右, and the scales.
    r"|[的半成折多余几以左右十百万萬亿億]|千(?![米克瓦焦帕伏卡赫升牛])",
    re.IGNORECASE,
)
_CURRENCY: Final = re.compile(
    r"(?:\\?[$€£¥₹]|\bRs\.?)\s?(?P<number>[0-9][0-9,]{0,20}(?:\.[0-9]{1,9})?)\s?(?P<scale>[KkMmBb]|[mb]n)(?![A-Za-z$])"
)
_CURRENCY_SCALES: Final = {"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion"}
_MIXED: Final = re.compile(r"(?P<whole>[0-9]{1,9})(?: and | )(?:(?P<above>[0-9]{1,9})/(?P<below>[0-9]{1,9})|(?=[a-z]))")
_MOST_DEEDS: Final = 3
"""Words like "half of" or "minus" before one number: "minus the square root of 16" has two."""
_HEDGES: Final = re.compile(
    r"\b(?:not|no|none|neither|nor|never|cannot|can't|unable|impossible|unknown|unclear|unless|if|or|between|more than"
    r"|less than|fewer than|greater than|larger than|at least|at most|over|under|maybe|may(?: well)? be|perhaps|might"
    r"|could|wrong|incorrect|(?<!.)(?:below|above|beyond))\b"
    r"|n['’]t\b",
    re.IGNORECASE,
)
# A value and its unit are one token: `2√3`, `5π`, `x2` and `3:4` hold digits but are no plain number.
_TOKEN: Final = re.compile(rf"(?<![^\s(€£¥₹])[-+]?(?:{_DECIMAL})(?=[\s)%°,.;?]|$)")
# "B. 9" answers with an option that nobody offered.
_LABEL: Final = re.compile(r"[(\[]?[A-Za-z][)\].:]\s")
_ARITHMETIC: Final = frozenset("√π^*+/<>≤≥≠\\±~≈=")
_CHAIN: Final = re.compile(r"[=≈]|\\approx")
_INEQUALITY: Final = re.compile(r"[<>≤≥≠!]|\\(?:n?eq?|not|[lg][et]q?)(?![A-Za-z])")
_NAME: Final = re.compile(r"[A-Za-z]{1,2}")
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

    Words and signs that make another number of it are read with it: negative 17 · 3 and a half · half of 40 · $45K ·
    8 lakh · 26万 · 7 squared · 14 degrees below zero · the square root of 16. `50%` is 50 with the unit %, not 0.5:
    whether a share or a percentage was asked for, only the question knows.
    None for anything else (log 50), and for texts beyond `MAX_LENGTH`.
    """
    if len(text) > _REMEMBERED:
        return None if len(text) > MAX_LENGTH else _read(text)
    return _read_again(text)


def _read(text: str) -> Quantity | None:
    text = _one_spelling(plain(_CURRENCY.sub(_currency_scale, text)))
    found = _in_digits(text) or _in_words(text)
    return _altered(text) if found is None else found


_REMEMBERED: Final = 200
"""Characters. Golds, options and short answers are read many times."""

_read_again = lru_cache(maxsize=16384)(_read)


def _currency_scale(money: re.Match[str]) -> str:
    """$45K as "45 thousand": K is no kelvin there, nor m a metre."""
    return f"{money['number']} {_CURRENCY_SCALES[money['scale'].casefold()]}"


def _in_digits(text: str) -> Quantity | None:
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    value, unit = _value(match), match["unit"]
    # Directly behind the digits a letter scales them; "300 K" are kelvin.
    letter = letter_scale(unit[:1]) if unit[1:2] in ("", " ") else None
    factor, unit = (letter, unit[1:]) if letter else scaled(unit.strip())
    unit = unit.strip()
    if value is None or not _is_unit(unit):
        return None
    return Quantity(factor * (-value if match["sign"] == "-" else value), _unit(unit))


def _altered(text: str) -> Quantity | None:
    """A number with words before or behind it that make another of it."""
    deeds: list[str] = []
    for _ in range(_MOST_DEEDS):
        found = without_prefix(text) or without_suffix(text)
        if found is None:
            return None
        deeds.append(found[0])
        text = found[1].strip()
        inner = _in_digits(text) or _in_words(text)
        value = None if inner is None else inner.value
        if inner is not None:
            for deed in reversed(deeds):
                value = None if value is None else changed(value, deed)
            return None if value is None else Quantity(value, inner.unit)
    return None


def stated_quantity(text: str) -> Quantity | None:
    """The one number that an answer states: the text itself, the end of `AB = 9·6/5 = 10.8`, or a sentence's only one.

    A sentence with a second number, an arithmetic sign, a negation or a bound ("more than 5") states none.
    """
    if len(text) > MAX_LENGTH:
        return None
    text = text.strip().removeprefix("大").removeprefix("约")
    return read_quantity(text) or _chain_result(text) or _only_number(text)


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
    value = _decimal(match["decimal"])
    return value * Fraction(10) ** int(match["power"]) if match["power"] else value


def _vulgar(character: str) -> str:
    """ "2/5" of ⅖."""
    return unicodedata.normalize("NFKC", character).replace("⁄", "/")


def _decimal(digits: str) -> Fraction:
    """The number of some digits. What a program's binary arithmetic leaves at their end is no part of it."""
    number = digits.replace(",", "").removesuffix(".")
    if number.isdecimal():
        return Fraction(int(number))
    value = Fraction(number)
    if "." in number and sum(map(str.isdigit, number.partition("e")[0])) >= _NOISY_DIGITS:
        short = Fraction(f"{Decimal(number):.{_TRUE_DIGITS - 1}e}")
        if len(str(short.numerator)) < _TRUE_DIGITS - 3 and len(str(short.denominator)) < _TRUE_DIGITS - 3:
            return short
    return value


def _in_words(text: str) -> Quantity | None:
    """A number in words, or one whose fraction is: 3 and a half."""
    whole = 0
    mixed = _MIXED.match(text)
    if mixed is not None and mixed["below"]:
        share, unit = Fraction(int(mixed["above"]), int(mixed["below"]) or 1), text[mixed.end() :].strip()
    else:
        found = spelled_number(text[mixed.end() :]) if mixed else None
        if found is None:
            found, mixed = spelled_number(text) or chinese_number(text), None
        if found is None:
            return None
        share, unit = found
    if mixed is not None:
        whole = int(mixed["whole"])
        if not 0 < share < 1:
            return None
    return Quantity(whole + share, _unit(unit)) if _is_unit(unit) else None


def _unit(text: str) -> str:
    """One spelling of a unit: cm^{2} and cm² are cm^2, degrees are °."""
    if not text:
        return ""
    for spelling, unit in (("μ", "µ"), ("²", "^2"), ("³", "^3"), ("{", ""), ("}", ""), (" ", "")):
        text = text.replace(spelling, unit)
    return _UNIT_WORDS.get(text, text)


def _is_unit(text: str) -> bool:
    if not text:
        return True
    if len(text) > 60 or not _UNIT.fullmatch(text) or _NOT_A_UNIT.search(text):
        return False
    return not any(map(is_number_word, text.split()))


def _chain_result(text: str) -> Quantity | None:
    """`x = 10.8` and `a = b ≈ 10.8` end in their value; `x = 1, y = 2` has two."""
    parts = _CHAIN.split(plain(text))
    if len(parts) < 2 or "\n" in text.strip() or _INEQUALITY.search(text) or is_curve(parts[0]):
        return None
    several = any(_SEVERAL.search(part) or _HEDGES.search(part) for part in parts)
    if several:
        return None
    value = read_quantity(parts[-1])
    # 5 = x
    return read_quantity(parts[0]) if value is None and len(parts) == 2 and _NAME.fullmatch(parts[1].strip()) else value


def _only_number(text: str) -> Quantity | None:
    text = plain(text)
    if _HEDGES.search(text) or not _ARITHMETIC.isdisjoint(text):
        return None
    tokens = list(_TOKEN.finditer(text))
    if len(tokens) != 1 or _has_digit(text[: tokens[0].start()] + text[tokens[0].end() :]):
        return None
    if _LABEL.match(text):
        return None
    start, end = neighbours(text, *tokens[0].span())
    return read_quantity(text[start:end])


def _has_digit(text: str) -> bool:
    return any(character.isdigit() and character not in "²³" for character in text)
