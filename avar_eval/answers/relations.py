"""What a piece of mathematics states, by its text: a value, an equation, an inequality, or several of them.

An equation is both its sides. Only a label, what is asked for by name ("x =", "f(x) =", "AB =", "Area ="), can go, and
only where the other text has the same label or none.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

_SIGNS: Final = {
    "≈": r"\\(?:approx|simeq|doteq)(?![A-Za-z])|≈",
    "≠": r"\\not\s?=|\\neq?(?![A-Za-z])|[!/]=|≠",
    "≤": r"\\leq{0,2}(?:slant)?(?![A-Za-z])|<=|=<|≤",
    "≥": r"\\geq{0,2}(?:slant)?(?![A-Za-z])|>=|≥",
    "<": r"\\lt(?![A-Za-z])|<",
    ">": r"\\gt(?![A-Za-z])|>",
    "∈": r"\\in(?![A-Za-z])|∈",
    "=": r"==?",
}
_TOKEN: Final = re.compile("|".join([*(f"({pattern})" for pattern in _SIGNS.values()), r"\\[{}]|[(\[{]|[)\]}]"]))
_TURNED: Final = {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}
_SEPARATOR: Final = re.compile(r"\s?[,;、]\s?(?:and |or )?|\s(?:and|or)\s|\s?\\(?:lor|vee)(?![A-Za-z])\s?")
# A comma that groups digits is none of a list: 1,234.
_GROUPED: Final = re.compile(r",(?=[0-9]{3}(?![0-9]))")
ROW_END: Final = "\ue000"
"""Ends a row of a matrix here: a mark of the private use area, where LaTeX's \\\\ would be taken for a space."""

_MATRIX: Final = re.compile(
    r"[(\[]?\s?\\begin\{(?P<name>[pbB]?matrix|smallmatrix|array)\}(?:\{[clr|\s]*\})?(?P<rows>.*)\\end\{(?P=name)\}\s?[)\]]?",
    re.DOTALL,
)
_ROWS_IN_BRACKETS: Final = re.compile(r"\[\s?((?:\[[^\[\]()]*\](?:\s?,\s?)?)+)\]")
_SEGMENT: Final = r"(?:[A-Z][A-Za-z]{0,3}(?:_\{?[A-Za-z0-9]+\}?)?)"
_NAME: Final = (
    r"(?:\\(?:angle|triangle|overline|vec|overrightarrow|measuredangle|Delta|mathbf|hat|bar|widehat)(?![A-Za-z])\s?|m\s?(?=\\angle)|∠|△"
    r"|[A-Z]{2,5}(?![a-z])|[A-Za-z](?![A-Za-z])|\\(?:alpha|beta|gamma|delta|theta|lambda|mu|phi|varphi|omega|rho|sigma)(?![A-Za-z])"
    r"|_\{?\s?[A-Za-z0-9]+\s?\}?|'|′|\\prime|\^\{?\\prime\}?|[{}]|\s)"
)
_LABELS: Final = (
    re.compile(rf"{_NAME}{{1,12}}"),
    re.compile(
        r"(?:[A-Za-z]|\\(?:vec|overrightarrow|hat)\s?\{?\s?[A-Za-z]\}?)(?:\^\{?-1\}?)?['′]{0,2}\s?\(\s?[A-Za-z0-9](?:\s?,\s?[A-Za-z0-9])*\s?\)"
    ),
    re.compile(r"\(\s?[A-Za-z]\w?(?:\s?,\s?[A-Za-z]\w?)+\s?\)"),
    re.compile(
        r"(?:[A-Za-z][A-Za-z.]*\s)*(?:[A-Za-z]*[aeiouyAEIOUY][A-Za-z]+|[A-Za-z]\.(?:[A-Za-z]\.?)+)(?:\s[A-Za-z]+)*"
    ),
    re.compile(rf"{_SEGMENT}(?:\s?:\s?{_SEGMENT})+|\\frac\{{\s?{_SEGMENT}\s?\}}\{{\s?{_SEGMENT}\s?\}}"),
    re.compile(r"\|\s?(?:[A-Z]{2}|\\(?:overline|vec|overrightarrow)\{[A-Za-z]{1,2}\})\s?\|"),
    re.compile(r"(?:\\frac\{\s?d\s?[a-z]\s?\}\{\s?d\s?[a-z]\s?\}|d[a-z]\s?/\s?d[a-z])"),
)
# NO is a segment.
_DENIAL: Final = re.compile(
    r"\b(?:[Nn]ot?|[Nn]one|[Nn]ever|[Cc]annot|[Ii]f|[Uu]nless|[Ww]hen|[Ww]here|[Ll]et|[Ss]uppose|[Aa]ssume|[Gg]iven)\b"
)
_WORDS: Final = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}|(?:[A-Za-z]\.){2,}")
_FILLERS: Final = frozenset({"the", "of", "a", "an", "is", "total", "value", "in"})
_VARIABLE: Final = re.compile(r"[A-Za-z](?:_\{?[A-Za-z0-9]\}?)?(?:\(\s?[a-z]\s?\))?|\\(?:theta|alpha|beta|lambda|mu)")


class Statement(NamedTuple):
    """A value (one member, no sign) or members with the signs between them, all spelt one way."""

    members: tuple[str, ...]
    signs: tuple[str, ...]

    @property
    def is_value(self) -> bool:
        return not self.signs

    @property
    def is_equation(self) -> bool:
        return bool(self.signs) and all(sign in "=≈∈" for sign in self.signs)


class Items(NamedTuple):
    """The items of a list, tuple, set or interval; the brackets are "" where there are none."""

    opening: str
    items: list[str]
    closing: str

    @property
    def is_ordered(self) -> bool:
        """Whether the places count: in (1, 2) and [1, 2], not in {1, 2} nor in "1, 2"."""
        return self.opening in ("(", "[")


@lru_cache(maxsize=16384)
def statement(text: str) -> Statement:
    """A text split at the signs of relations that stand outside all brackets."""
    members, signs, depth, start = [], [], 0, 0
    for token in _TOKEN.finditer(text):
        mark = token[0]
        if mark in ("(", "[", "{", r"\{"):
            depth += 1
        elif mark in (")", "]", "}", r"\}"):
            depth -= 1
        elif depth == 0:
            members.append(text[start : token.start()].strip())
            signs.append(list(_SIGNS)[(token.lastindex or 1) - 1])
            start = token.end()
    members.append(text[start:].strip())
    # "= 7/4" has an empty label, which is any label's equal.
    if len(members) == 1 or not all(members[1:]) or (not members[0] and signs[0] != "="):
        return Statement((text.strip(),), ())
    if len(signs) == 1 and signs[0] in "=≈" and not is_label(members[0]) and is_label(members[1]):
        members.reverse()
    return Statement(tuple(members), tuple(signs))


def read_items(text: str) -> Items | None:
    """The items that a text lists; None for a single one. "1,234" is a number, `x = \\pm 2` two values."""
    opening, inner, closing = _unwrapped(text)
    if not opening and _GROUPED.sub("", text).replace(".", "").lstrip("-").isdecimal():
        return None
    items = list(_split(inner))
    if not opening and ";" in text and "," in text:
        groups = list(_split(text, only=";"))
        items = groups if len(groups) > 1 else items
    if opening == "{" or (len(items) > 1 and opening):
        return Items(opening, _spread(items) if opening == "{" else items, closing)
    if opening:
        return None
    items = _spread(items)
    return Items("", items, "") if len(items) > 1 else None


def read_matrix(text: str) -> list[list[str]] | None:
    """The rows of a text that is one matrix in any brackets but the bars of a determinant; None for anything else."""
    nested = _ROWS_IN_BRACKETS.fullmatch(text.strip())
    if nested is not None:
        return [[cell.strip() for cell in row.split(",")] for row in re.findall(r"[\[(]([^\[\]()]*)[\])]", nested[1])]
    found = _MATRIX.fullmatch(text.strip())
    if found is None or "\\begin" in found["rows"]:
        return None
    rows = found["rows"].removesuffix(ROW_END).split(ROW_END)
    return [[cell.strip() for cell in row.split("&")] for row in rows]


def union_parts(text: str) -> list[str] | None:
    """The parts of a union of sets; None for anything else."""
    parts = [part.strip() for part in re.split(r"\\cup(?![A-Za-z])", text)]
    return parts if len(parts) > 1 and all(parts) else None


def as_interval(found: Statement) -> tuple[str, str] | None:
    """A variable and the interval in which it lies: of `x > 2` x and `(2, \\infty)`; None without one."""
    members, signs = found
    if signs == ("∈",) and is_variable(members[0]):
        return members[0], members[1]
    if len(signs) == 1 and signs[0] in _TURNED:
        if not is_variable(members[0]) and is_variable(members[1]):
            members, signs = (members[1], members[0]), (_TURNED[signs[0]],)
        variable, bound = members
        if not is_variable(variable) or is_variable(bound):
            return None
        if signs[0] in "<≤":
            return variable, rf"(-\infty,{bound}{']' if signs[0] == '≤' else ')'}"
        return variable, rf"{'[' if signs[0] == '≥' else '('}{bound},\infty)"
    if len(signs) == 2 and is_variable(members[1]):
        if set(signs) <= {">", "≥"}:
            members, signs = members[::-1], tuple(_TURNED[sign] for sign in reversed(signs))
        if set(signs) <= {"<", "≤"}:
            opening, closing = "[" if signs[0] == "≤" else "(", "]" if signs[1] == "≤" else ")"
            return members[1], f"{opening}{members[0]},{members[2]}{closing}"
    return None


def ascending(found: Statement) -> Iterator[tuple[str, str, str]]:
    """The relations of a statement one by one, as (left, sign, right) with signs that point upwards: = ≠ < ≤."""
    for left, sign, right in zip(found.members, found.signs, found.members[1:], strict=False):
        if sign in (">", "≥"):
            yield right, _TURNED[sign], left
        else:
            yield left, "=" if sign in "≈∈" else sign, right


def is_label(text: str) -> bool:
    """Whether a side of an equation only names what the other side is: x, f(x), AB, (x, y), Surface area, nothing."""
    if len(text) > 60 or _DENIAL.search(text):
        return False
    return not text or any(pattern.fullmatch(text) for pattern in _LABELS)


def is_curve(text: str) -> bool:
    """Whether a side of an equation makes it that of a curve, as x^2 + y^2 does: its other side is no answer then."""
    return "^" in text and "x" in text and "y" in text


def is_variable(text: str) -> bool:
    """Whether a text is one variable, or a function of one."""
    return _VARIABLE.fullmatch(text) is not None


def same_label(one: str, other: str) -> bool:
    """Whether two labels name the same thing: letters to the letter, words but for fillers, A as the Area."""
    if not one or not other:
        return True
    words, other_words = _label_words(one), _label_words(other)
    if words and other_words:
        return words <= other_words or other_words <= words
    if not words and not other_words:
        return _letters(one) == _letters(other)
    letters, text = (_letters(other), one) if words else (_letters(one), other)
    return letters.casefold() in _initials(text)


def _unwrapped(text: str) -> tuple[str, str, str]:
    """Opening bracket, content and closing bracket of a text that is inside one pair; else "", the text and ""."""
    text = text.strip()
    for opening, length in (("\\{", 2), ("(", 1), ("[", 1), ("{", 1)):
        if text.startswith(opening) and text[-1] in ")]}" and len(text) > length:
            end = len(text) - (2 if text.endswith("\\}") else 1)
            depth = 0
            for index, character in enumerate(text):
                depth += (character in "([{") - (character in ")]}")
                if depth == 0 and index >= length - 1 and index < len(text) - 1:
                    return "", text, ""
            return opening[-1], text[length:end], text[-1]
    return "", text, ""


def _split(text: str, only: str = "") -> Iterator[str]:
    """The parts of a text between separators, or `only` one of them, outside all brackets."""
    depth, start, index = 0, 0, 0
    while index < len(text):
        character = text[index]
        depth += (character in "([{") - (character in ")]}")
        separator = _SEPARATOR.match(text, index) if depth == 0 and character in " ,;、\\" else None
        if separator is not None and only in separator[0]:
            yield text[start:index].strip()
            start = index = separator.end()
        else:
            index += 1
    yield text[start:].strip()


def _spread(items: list[str]) -> list[str]:
    """The items with `\\pm` written out: both values."""
    found: list[str] = []
    for item in items:
        if item.count(r"\pm") == 1 and r"\mp" not in item:
            before, _, after = item.partition(r"\pm")
            plus = "" if not before.strip() or before.rstrip()[-1] in "=({" else "+"
            found += [f"{before}{plus}{after.lstrip()}", f"{before}-{after.lstrip()}"]
        else:
            found.append(item)
    return found


def _label_words(text: str) -> set[str]:
    return {
        word.casefold().replace(".", "") for word in _WORDS.findall(text) if not word.isupper() or "." in word
    } - _FILLERS


def _letters(text: str) -> str:
    text = re.sub(
        r"\\(?:overline|vec|overrightarrow|mathbf|hat|bar|widehat|triangle|angle|measuredangle)(?![A-Za-z])", "", text
    )
    return re.sub(r"[{}∠△]|(?<!\w)m(?=[A-Z])", "", "".join(text.split()))


def _initials(text: str) -> set[str]:
    """What abbreviates a label in words: of "surface area" s, a and sa."""
    words = [word for word in re.findall(r"[a-z]+", text.casefold()) if word not in _FILLERS]
    return {word[0] for word in words} | {"".join(word[0] for word in words)}
