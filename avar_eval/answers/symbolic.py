"""Parsing and comparing expressions with math-verify and sympy. Runs in a worker process only (workers.py).

Texts come from `expression.canonical`; what cannot be parsed equals nothing. math-verify parses LaTeX by a grammar and
builds sympy objects; its other parser, which hands plain text to Python, is not used.
"""

from functools import lru_cache
from typing import Any, Final

_DECIMALS: Final = 6
"""Decimals to which numbers are compared where the benchmark says nothing: 0.333333 is 1/3."""

_TYPICAL: Final = (
    (r"\frac{1}{2}+2\sqrt{3}", r"(x+1)^{2}"),
    ("(1,-2)", "[1,2)"),
    (r"x^{2}+2x y-\frac{\pi}{4}", r"\frac{3^{10}-1}{3^{11}}"),
    (r"y=\frac{1}{2}x-3", r"2 \cdot \sqrt{\alpha}"),
    (r"\sin(30°)+\log_{2} 8", r"(-\infty,1) \cup [2,\infty)"),
    (r"\{1,2\}", r"a<b"),
)
"""Shapes of answers; the first of each shape takes the parser a hundred times as long as the next."""


def warm_up() -> None:
    """Import the libraries and let the parser build the tables that its first questions would pay for."""
    for answer, gold in _TYPICAL:
        same_expression(answer, gold, None)


def same_expression(answer: str, gold: str, precision: int | None) -> bool:
    """Whether two expressions are equal: as math-verify says, or as numbers rounded to `precision` decimals."""
    found, wanted = _items(answer), _items(gold)
    if found is not None and wanted is not None:
        # The brackets count: (1, 2) may be an open interval and [1, 2] a closed one.
        return (
            answer[0] == gold[0]
            and len(found) == len(wanted)
            and all(same_expression(one, other, precision) for one, other in zip(found, wanted, strict=True))
        )
    return _equal(_parsed(answer), _parsed(gold), precision)


def equal_options(answer: str, options: list[str]) -> list[int]:
    """The indices of the options that the answer equals as an expression."""
    return [index for index, option in enumerate(options) if same_expression(answer, option, None)]


def _items(text: str) -> list[str] | None:
    """The items of a tuple or list `(a, b)`, `[a, b]`; None for anything else, as an interval `[a, b)`."""
    if not (text.startswith("(") and text.endswith(")")) and not (text.startswith("[") and text.endswith("]")):
        return None
    items, depth, start = [], 0, 1
    for index, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and index < len(text) - 1:
            return None
        if depth == 1 and character == ",":
            items.append(text[start:index])
            start = index + 1
    return [*items, text[start:-1]] if items else None


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    """math-verify's reading of a text, None without one."""
    from math_verify import LatexExtractionConfig, parse

    config = LatexExtractionConfig(boxed_match_priority=-1)
    found = parse(f"${text}$", extraction_config=[config], fallback_mode="no_fallback", parsing_timeout=None)
    return found[0] if len(found) == 1 else None


def _equal(found: Any, wanted: Any, precision: int | None) -> bool:
    if found is None or wanted is None:
        return False
    from math_verify import verify

    decimals = _DECIMALS if precision is None else precision
    found_number, wanted_number = _number(found), _number(wanted)
    if found_number is not None and wanted_number is not None:
        return round(found_number, decimals) == round(wanted_number, decimals)
    return bool(verify(wanted, found, float_rounding=decimals, timeout_seconds=None))


def _number(expression: Any) -> float | None:
    """The value of a real number, None of anything else."""
    if not getattr(expression, "is_number", False):
        return None
    try:
        value = float(expression.evalf(20))
    except MemoryError:
        raise
    except Exception:  # sympy raises errors of every kind on numbers that are none (complex, infinite, undefined)
        return None
    return value if value - value == 0 else None
