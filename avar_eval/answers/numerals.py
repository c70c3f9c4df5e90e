"""Numbers that are said in words, whole or in part: "twenty-one", "3 and a half", "half of 40", "8 lakh", "26万".

A word beside a number can make another one of it. What is read here is read as a person reads it; `changes_number` says
of everything else that could not be (a logarithm, a root that does not come out) that the bare digits are no answer.
"""

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

_SMALL: Final = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60,
    "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_SCALES: Final = {
    "hundred": 10**2, "thousand": 10**3, "lakh": 10**5, "lac": 10**5, "million": 10**6, "crore": 10**7,
    "billion": 10**9, "trillion": 10**12, "dozen": 12, "mn": 10**6, "bn": 10**9, "tn": 10**12,
}  # fmt: skip
_LETTER_SCALES: Final = {"K": 10**3, "k": 10**3, "M": 10**6, "B": 10**9}
_CHINESE_SCALES: Final = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
# 千米 is a kilometre, not a thousand metres of something.
_CHINESE_KILO: Final = frozenset("米克瓦焦帕伏卡赫升牛")
_PARTS: Final = {
    "half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9, "tenth": 10, "hundredth": 100, "thousandth": 1000,
}  # fmt: skip
_FIRST: Final = frozenset({*_SMALL, *_PARTS, "a", "an", "the"})
"""What a number in words begins with."""

_DIGITS_AND_PART: Final = re.compile(rf"[0-9]{{1,9}}[ -](?:{'|'.join(_PARTS)})s?\b", re.IGNORECASE)
"""3 quarters, 75 hundredths."""

_MULTIPLES: Final = {"twice": 2, "double": 2, "thrice": 3, "triple": 3, "quadruple": 4}
_LONGEST: Final = 12
"""Words of a number: "nine hundred and ninety-nine thousand nine hundred and ninety-nine" has as many."""

_PART_OF: Final = re.compile(
    r"(?:(?P<part>(?:(?:[a-z]+|[0-9]{1,9})[ -])?[a-z]+|[0-9]{1,9}/[0-9]{1,9}) of (?:the )?|half (?=an? ))",
    re.IGNORECASE,
)
_PREFIX: Final = re.compile(
    rf"(?:(?P<minus>negative |minus |负|零下)|(?P<times>{'|'.join(_MULTIPLES)}) |(?:the )?"
    r"(?:(?P<root>square|cube) root of"
    r"|(?P<power>square|cube) of|(?P<one>reciprocal|opposite|negative) of) (?:the number )?)\s?",
    re.IGNORECASE,
)
_SUFFIX: Final = re.compile(
    r"(?: (?P<power>squared|cubed)|(?P<cold>(?:\s?°\s?[CF]?| degrees?(?: celsius| fahrenheit)?)? "
    r"(?:below|under) zero))",
    re.IGNORECASE,
)
_BEFORE: Final = re.compile(
    r"(?:\b(?:(?:half|halves|roots?|squares?|cubes?|reciprocal|inverse|opposite|negative|factorial|log(?:arithm)?s?"
    r"|(?:co)?sine|tangent|multiples?|percent|%|(?:third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth)s?) of"
    r"|negative|minus|twice|double|thrice|triple|quadruple|half|times|log|ln|lg|sqrt|sin|cos|tan|cot|sec|csc|exp|past"
    r"|(?:quarter|five|ten|twenty|minutes?) to|root|factorial)(?: the| a)?(?: number)?\s?[(-]?|[负下])\s?$",
    re.IGNORECASE,
)
_AFTER: Final = re.compile(
    r"\s?(?:squared|cubed|factorial|fold|halves"
    r"|(?:third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth)s"
    r"|(?:°\s?[CF]?|degrees?(?: celsius| fahrenheit)?)?\s?"
    r"(?:below|under) (?:zero|freezing)"
    r"|hundreds?|thousands?|lakhs?|lacs?|millions?|crores?|billions?|trillions?|dozens?|mn|bn|tn|score|pi|sqrt|root|times"
    r"|plus|minus|divided|more|less|fewer|and (?:an?|one|two|three|four) [a-z]+|percentile|to the|in the power"
    r"|[KkMB])\b"
    r"|\s?[十百千万萬亿億多余几半成折!‰]",
    re.IGNORECASE,
)
_COUNT: Final = re.compile(r"\b(?:an?|one|two|three|four|five|the)[ -]$", re.IGNORECASE)
_NEIGHBOURHOOD: Final = 60
"""Characters before a number in which what changes it stands."""


def spelled_number(text: str) -> tuple[Fraction, str] | None:
    """The number in words that a text begins with, and the rest: of "twenty-one cm" 21 and "cm". None without one."""
    words = text.replace("-", " ").split(maxsplit=_LONGEST)
    if not words or not (words[0].casefold() in _FIRST or _DIGITS_AND_PART.match(text)):
        return None
    for length in range(min(len(words), _LONGEST), 0, -1):
        value = _number_from_words(tuple(word.casefold() for word in words[:length]))
        if value is not None:
            return value, " ".join(words[length:])
    return None


def is_number_word(word: str) -> bool:
    """Whether a word alone is a whole number."""
    return word.casefold() in _SMALL


def scaled(unit: str) -> tuple[int, str]:
    """What the words behind a number multiply it by, and the rest: of "hundred thousand cars" 100,000 and "cars"."""
    factor = 1
    while unit:
        word, _, rest = unit.partition(" ")
        word = word.casefold()
        scale = _SCALES.get(word) or _SCALES.get(word.removesuffix("s"))
        if scale is None and unit[0] in _CHINESE_SCALES and not (unit[0] == "千" and unit[1:2] in _CHINESE_KILO):
            scale, rest = _CHINESE_SCALES[unit[0]], unit[1:].lstrip()
        if scale is None:
            break
        factor, unit = factor * scale, rest
    return factor, unit


def letter_scale(letter: str) -> int | None:
    """What a letter directly behind the digits multiplies them by: 45K, 3M, 2B."""
    return _LETTER_SCALES.get(letter)


def without_prefix(text: str) -> tuple[str, str] | None:
    """What a text's first words do to the number behind them, and that number's text; None if they do nothing.

    The deed is "minus", "root 2", "root 3", "power 2", "power 3", "reciprocal", or a fraction to multiply by.
    """
    part = _PART_OF.match(text)
    share = _share((part["part"] or "half").casefold().replace("-", " ").split()) if part else None
    if part is not None and share is not None:
        return str(share), text[part.end() :]
    found = _PREFIX.match(text)
    if found is None:
        return None
    if found["minus"]:
        deed = "minus"
    elif found["times"]:
        deed = str(_MULTIPLES[found["times"].casefold()])
    elif found["one"]:
        deed = "reciprocal" if found["one"].casefold() == "reciprocal" else "minus"
    else:
        deed = ("root " if found["root"] else "power ") + ("2" if "square" in found[0].casefold() else "3")
    return deed, text[found.end() :]


def without_suffix(text: str) -> tuple[str, str] | None:
    """What a text's last words do to the number before them, and that number's text, as `without_prefix`."""
    found = next((match for match in _SUFFIX.finditer(text) if match.end() == len(text)), None)
    if found is None:
        return None
    deed = "minus" if found["cold"] else "power 2" if found["power"].casefold() == "squared" else "power 3"
    return deed, text[: found.start()]


def changed(value: Fraction, deed: str) -> Fraction | None:
    """A number after a deed of `without_prefix`; None where no rational number comes of it."""
    name, _, exponent = deed.partition(" ")
    if name == "minus":
        return -value
    if name == "reciprocal":
        return 1 / value if value else None
    if name == "power":
        return value ** int(exponent)
    if name == "root":
        return _exact_root(value, int(exponent))
    return value * Fraction(deed)


def neighbours(text: str, start: int, end: int) -> tuple[int, int]:
    """The stretch of a text that says the number at [start, end) with the words beside it that change it."""
    nearest = max(0, start - _NEIGHBOURHOOD)
    before = _BEFORE.search(text[nearest:start])
    if before is not None:
        # "one third of": the count belongs to it.
        counts = re.search(
            r"\b(?:an?|one|two|three|four|five|the)[ -]$", text[nearest : nearest + before.start()], re.I
        )
        start = nearest + (counts.start() if counts else before.start())
    while (after := _AFTER.match(text, end)) is not None and after.end() > end:
        end = after.end()
    return start, end


def _number_from_words(words: Sequence[str]) -> Fraction | None:
    """The number that all the words are."""
    if "point" in words:
        whole, digits = _split(words, "point")
        value = _cardinal(whole)
        figures = [_SMALL.get(word, 10) for word in digits]
        if value is None or not figures or max(figures) > 9:
            return None
        return value + Fraction(int("".join(map(str, figures))), 10 ** len(figures))
    if len(words) > 2 and words[-1] in _SCALES and (words[-2] in _PARTS or words[-2] in ("a", "an")):
        share = _number_from_words(
            words[:-1] if words[-2] in _PARTS else words[:-2]
        )  # "two and a half million", "half a dozen"
        return None if share is None or share.denominator == 1 else share * _SCALES[words[-1]]
    if words[-1] in _PARTS or words[-1].removesuffix("s") in _PARTS:
        if "and" in words:
            whole, part = _split(words, "and")
            value, share = _cardinal(whole), _share(part)
            if value is not None and share is not None and share < 1:
                return value + share
        return _share(words)
    number = _cardinal(words)
    return None if number is None else Fraction(number)


def _split(words: Sequence[str], at: str) -> tuple[Sequence[str], Sequence[str]]:
    place = len(words) - 1 - list(reversed(words)).index(at)
    return words[:place], words[place + 1 :]


def _share(words: Sequence[str]) -> Fraction | None:
    """Of "half", "a third", "two fifths", "50 percent", "3/4" the fraction."""
    if not words:
        return None
    if len(words) == 1 and "/" in words[0]:
        above, below = map(int, words[0].split("/"))
        return Fraction(above, below) if below else None
    *count, part = words
    pieces = 100 if part in ("percent", "%") else _PARTS.get(part) or _PARTS.get(part.removesuffix("s"))
    if pieces is None or (not count and part != "half"):
        return None
    if count in ([], ["a"], ["an"], ["the"], ["one"]):
        return Fraction(1, pieces)
    number = int(count[0]) if len(count) == 1 and count[0].isdecimal() else _cardinal(count)
    return None if number is None else Fraction(number, pieces)


def _cardinal(words: Sequence[str]) -> int | None:
    """The whole number that all the words are, in the order in which they are said."""
    if words and words[0] in ("a", "an") and len(words) > 1 and words[1] in _SCALES:
        words = ("one", *words[1:])
    total, group, last = 0, 0, ""
    largest: float = math.inf
    for word in words:
        scale = _SCALES.get(word) or _SCALES.get(word.removesuffix("s"))
        small = _SMALL.get(word)
        if small is not None:
            # Behind "twenty" stands a digit, behind "hundred" anything, behind another number nothing.
            if last and last != "scale" and not (last == "tens" and 0 < small < 10):
                return None
            group += small
            last = "tens" if small >= 20 else "small"
        elif scale == 100:
            if not 0 < group < 100 or last == "scale":
                return None
            group, last = group * 100, "scale"
        elif scale is not None and group and scale < largest:
            total, group, largest, last = total + group * scale, 0, scale, "scale"
        elif not (word == "and" and last == "scale"):
            return None
    return total + group if last else None


def _exact_root(value: Fraction, degree: int) -> Fraction | None:
    """The rational root of a number that has one and is not too long."""
    if value < 0 or max(value.numerator, value.denominator) > 10**15:
        return None
    root = Fraction(round(value.numerator ** (1 / degree)), round(value.denominator ** (1 / degree)))
    return root if root**degree == value else None
