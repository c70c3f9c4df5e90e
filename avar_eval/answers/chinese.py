"""Numbers in Chinese characters: 三十六, 两千零五, 三点五, 四分之三, 百分之二十五, 负八."""

import re
from fractions import Fraction
from typing import Final

_DIGITS: Final = {
    **{character: value for value, character in enumerate("零一二三四五六七八九")},
    "〇": 0,
    "两": 2,
    "兩": 2,
}
_PLACES: Final = {"十": 10, "百": 100, "千": 1000}
_SCALES: Final = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_WHOLE: Final = rf"[{''.join((*_DIGITS, *_PLACES, *_SCALES))}]{{1,20}}"
_NUMBER: Final = re.compile(
    rf"(?P<minus>[负負]|零下)?(?:(?P<below>{_WHOLE}|[0-9]{{1,9}})分之(?P<above>{_WHOLE}|[0-9]{{1,9}})|(?P<whole>{_WHOLE})"
    rf"(?:点(?P<decimals>[{''.join(_DIGITS)}]{{1,12}}))?|(?P<half>一半|半))"
)


def chinese_number(text: str) -> tuple[Fraction, str] | None:
    """The number in characters that a text begins with, and the rest: of 三十六个 36 and 个. None without one.

    百分之二十五 is 25 with the unit %, as 25% is.
    """
    found = _NUMBER.match(text)
    if found is None:
        return None
    rest = text[found.end() :].strip()
    if found["half"]:
        value: Fraction | None = Fraction(1, 2)
    elif found["below"]:
        below, above = _integer(found["below"]), _integer(found["above"])
        if found["below"] in ("百", "一百"):
            below, rest = 1, f"%{rest}"
        value = Fraction(above, below) if below and above is not None else None
    else:
        whole = _integer(found["whole"])
        decimals = "".join(str(_DIGITS[digit]) for digit in found["decimals"] or "")
        value = None if whole is None else Fraction(whole) + Fraction(int(decimals or 0), 10 ** len(decimals))
    if value is None:
        return None
    return (-value if found["minus"] else value), rest


def _integer(text: str) -> int | None:
    """The whole number that all the characters are; None where their order is none of a number."""
    if text.isdecimal() and text.isascii():
        return int(text)
    if all(character in _DIGITS for character in text):
        return int("".join(str(_DIGITS[character]) for character in text))  # 二〇二五
    total = group = digit = 0
    last = 10**9
    for character in text:
        if character in _DIGITS:
            if digit:
                return None
            digit = _DIGITS[character]
        elif character in _PLACES:
            if _PLACES[character] >= last:
                return None
            last = _PLACES[character]
            group, digit = group + (digit or 1) * last, 0
        else:
            group += digit
            total = total + group * _SCALES[character] if group else total * _SCALES[character]
            group, digit, last = 0, 0, 10**9
            if not total:
                return None
    return total + group + digit
