"""The value of plain LaTeX arithmetic: numbers, π, fractions, roots, sums, products and small powers.

What most mathematical answers are made of, so that few need a worker process. Anything else has no value here.
"""

import math
import re
from fractions import Fraction
from typing import Final

_MAX_LENGTH: Final = 120
_MAX_POWER: Final = 64
_TOKEN: Final = re.compile(
    r"\s*(?:([0-9]{1,15}(?:\.[0-9]{1,15})?)|(\\(?:frac|sqrt|pi|cdot|times|div)(?![A-Za-z])|[-+*/:^(){}]))"
)
_SIGNS: Final = {"\\cdot": "*", "\\times": "*", "\\div": "/", ":": "/"}
_STARTS: Final = frozenset({"(", "{", "\\frac", "\\sqrt", "\\pi"})

_SIXTH_DECIMAL: Final = Fraction(1, 2 * 10**6)
_MILLIONTH: Final = Fraction(1, 10**6)

Value = Fraction | float


class _NoValueError(Exception):
    """The text is not plain arithmetic."""


def arithmetic_value(text: str) -> Value | None:
    """The value of a text that is plain arithmetic to its end: exact while it is rational. None for any other text.

    >>> arithmetic_value(r"\\frac{3}{4} + 2")
    Fraction(11, 4)
    """
    if len(text) > _MAX_LENGTH or text.count(":") > 1:  # 7:2:1 is a proportion, no quotient
        return None
    try:
        reader = _Reader(_tokens(text))
        value = reader.sum()
        return value if reader.peek() == "" and math.isfinite(value) else None
    except (_NoValueError, ZeroDivisionError, OverflowError, RecursionError):
        return None


def near(found: Value, wanted: Value, precision: int | None, *, exact: bool = False) -> bool:
    """Whether two values are the same number.

    precision: decimals to which both are rounded, where the benchmark does so. Without it they agree to six decimals
    and to a millionth of the wanted one: 0.333333 is 1/3, and 4e-8 is not 0. With `exact`, of whole numbers and
    fractions that are written out, nothing but equality will do.
    """
    if found == wanted:
        return True
    try:
        if precision is not None:
            return round(float(found), precision) == round(float(wanted), precision)
        if isinstance(found, Fraction) and isinstance(wanted, Fraction):
            return not exact and abs(found - wanted) <= min(_SIXTH_DECIMAL, _MILLIONTH * abs(wanted))
        distance, size = abs(float(found) - float(wanted)), abs(float(wanted))
    except OverflowError:
        return False
    # What floats round off is no difference.
    return distance <= (1 + 1e-6) * min(float(_SIXTH_DECIMAL), float(_MILLIONTH) * size) + 1e-12 * (size or 1)


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise _NoValueError
        tokens.append(match[1] or _SIGNS.get(match[2], match[2]))
        position = match.end()
    return tokens


class _Reader:
    """Recursive descent over the tokens."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._position = 0

    def peek(self) -> str:
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def sum(self) -> Value:
        value = self._product()
        while (sign := self.peek()) in ("+", "-"):
            self._take(sign)
            term = self._product()
            value = value + term if sign == "+" else value - term
        return value

    def _product(self) -> Value:
        if self.peek() == "-":
            self._take("-")
            return -self._product()
        value = self._power()
        # Two numbers side by side are no product, nor is a mixed number.
        while (sign := self.peek()) in ("*", "/") or sign in _STARTS:
            if sign in ("*", "/"):
                self._take(sign)
            elif sign == "\\frac" and self._tokens[self._position - 1][-1].isdigit():
                raise _NoValueError
            factor = self._power()
            value = value / factor if sign == "/" else value * factor
        return value

    def _power(self) -> Value:
        value = self._atom()
        if self.peek() != "^":
            return value
        self._take("^")
        # ^12 is a power of 1 for some readers.
        if self.peek() != "{" and len(self.peek()) != 1:
            raise _NoValueError
        exponent = self._atom()
        if not isinstance(exponent, Fraction) or exponent.denominator != 1 or abs(exponent) > _MAX_POWER:
            raise _NoValueError
        return value ** int(exponent)

    def _atom(self) -> Value:
        token = self._take()
        if token[0].isdigit():
            return Fraction(token)
        if token in ("(", "{"):
            value = self.sum()
            self._take(")" if token == "(" else "}")
            return value
        if token == "\\pi":
            return math.pi
        if token == "\\sqrt":
            return _root(self._group())
        if token == "\\frac":
            above = self._group()
            return above / self._group()
        raise _NoValueError

    def _group(self) -> Value:
        self._take("{")
        value = self.sum()
        self._take("}")
        return value

    def _take(self, expected: str | None = None) -> str:
        token = self.peek()
        if not token or expected not in (None, token):
            raise _NoValueError
        self._position += 1
        return token


def _root(value: Value) -> Value:
    if value < 0:
        raise _NoValueError
    if isinstance(value, Fraction):
        above, below = math.isqrt(value.numerator), math.isqrt(value.denominator)
        if above * above == value.numerator and below * below == value.denominator:
            return Fraction(above, below)
    return math.sqrt(value)
