"""Numbers as people read them, each kind of value in one form: in tables, messages and figures. Light.

An interval stands behind its value after a line end, which a table turns into a space where there is room.
"""

from collections.abc import Callable, Sequence
from typing import Final

UNKNOWN: Final = "–"
"""For a value that is not defined or was not measured."""

Interval = Sequence[float | None] | None


def percent(share: float | None, ci95: Interval = None, decimals: int = 1) -> str:
    """A share 0..1 in percent, without the sign, which stands in the heading: 71.3, then [65.0–77.2]."""
    return _with_interval(share, ci95, lambda value: f"{100 * value:.{decimals}f}")


def points(difference: float | None, ci95: Interval = None) -> str:
    """A difference of shares in percentage points, signed: +2.1, then [-0.4 to +4.6]."""
    return _with_interval(difference, ci95, lambda value: f"{100 * value:+.1f}", " to ")


def score(value: float | None, ci95: Interval = None) -> str:
    """A VAS: two decimals below 100, from there on three digits: 7.52, 123, 1.23k, 45.6M, 4.20e9.

    It is a mean of ratios and has no upper bound: one head that does not see the system turn makes it billions.
    """
    return _with_interval(value, ci95, _score)


def coefficient(value: float | None, ci95: Interval = None) -> str:
    """A correlation, or another number between -1 and 1: three decimals."""
    return _with_interval(value, ci95, lambda number: f"{number:.3f}")


def p_value(p: float | None) -> str:
    """Three decimals; never 0."""
    return UNKNOWN if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_equals(p: float) -> str:
    """A p value in a sentence: p = 0.012, p < 0.001."""
    return f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"


def count(number: int) -> str:
    """Thousands with commas."""
    return f"{number:,}"


def duration(seconds: float) -> str:
    """45 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    whole = round(seconds)
    for unit, above, below in (("d", 86400, "h"), ("h", 3600, "min"), ("min", 60, "s")):
        if whole >= above:
            rest = whole % above // {"h": 3600, "min": 60, "s": 1}[below]
            return f"{whole // above} {unit} {rest} {below}"
    return f"{whole} s"


def gigabytes(number: float) -> str:
    """Bytes as GB of 10⁹: 3.2 GB, 120 GB."""
    value = number / 1e9
    return f"{value:,.0f} GB" if value >= 99.95 else f"{value:.1f} GB"


def in_line(cell: str) -> str:
    """A value and its interval for a sentence: behind each other, in one line."""
    return cell.replace("\n", " ")


def _with_interval(value: float | None, ci95: Interval, form: Callable[[float], str], to: str = "–") -> str:
    if value is None:
        return UNKNOWN
    ends = [_unsigned_zero(form(end)) for end in ci95 or () if end is not None]
    if len(ends) < 2:
        return _unsigned_zero(form(value))
    between = " to " if any(end.startswith("-") for end in ends) else to  # a minus sign after a dash is not read
    return f"{_unsigned_zero(form(value))}\n[{ends[0]}{between}{ends[1]}]"


def _unsigned_zero(text: str) -> str:
    """-0.00 is what rounding makes of a little below 0."""
    return text if any(digit in "123456789" for digit in text) else text.removeprefix("-")


_UNITS: Final = ((1e6, "M"), (1e3, "k"), (1.0, ""))


def _score(value: float) -> str:
    if abs(value) < 99.995:
        return f"{value:.2f}"
    if abs(value) >= 999.5e6:
        return f"{value:.2e}".replace("e+0", "e").replace("e+", "e")
    digits = float(f"{value:.3g}")  # first, so that 999.6 is 1.00k and not 1000
    unit, letter = next(of for of in _UNITS if abs(digits) >= of[0])
    scaled = digits / unit
    return f"{scaled:.{2 - len(str(int(abs(scaled)))) + 1}f}{letter}"
