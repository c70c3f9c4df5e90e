"""Parsing and comparing expressions with math-verify and sympy. Runs in a worker process only (workers.py).

Texts come from `expression.canonical`; what cannot be parsed equals nothing. math-verify's parser reads LaTeX by a
grammar and builds sympy objects; its other parser, which hands plain text to Python, is not used.
"""

from functools import lru_cache
from typing import Any, Final

from avar_eval.answers.arithmetic import near

_DIGITS: Final = 15
"""Digits to which math-verify compares what is no number, as a matrix or a sum of sets."""

_LONGEST: Final = 400
"""Digits to which the difference of two whole numbers is computed."""

_POINTS: Final = tuple(
    (17 * number * number + 5 * number + 3) % 97 / 13 * (-1) ** number + number / 101 for number in range(1, 15)
)
"""Values at which expressions are compared, of either sign, from near 0 to 8; no two expressions that people write are
equal at all of them and differ elsewhere."""

_FEWEST: Final = 5
"""Points at which both expressions must have a value."""

_AGREEMENT: Final = 1e-12

_TYPICAL: Final = (
    (r"\frac{1}{2}+2\sqrt{3}", r"(x+1)^{2}"),
    ("(1,-2)", "[1,2)"),
    (r"x^{2}+2x y-\frac{\pi}{4}", r"\frac{3^{10}-1}{3^{11}}"),
    (r"\frac{1}{2}x-3", r"2 \cdot \sqrt{\alpha}"),
    (r"\sin(30)+\log_{2} 8", r"(-\infty,1) \cup [2,\infty)"),
    (r"\{1,2\}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
)
"""Shapes of answers; the first of each shape takes the parser a hundred times as long as the next."""


def warm_up() -> None:
    """Import the libraries and let the parser build the tables that its first questions would pay for."""
    for answer, gold in _TYPICAL:
        same_expression(answer, gold, None)
    same_relation(["x", "2y+1"], ["2y-x", "-1"], "=")


def same_expression(answer: str, gold: str, precision: int | None) -> bool:
    """Whether two expressions are equal: as functions, as math-verify says, or as numbers to `precision` decimals."""
    return _equal(_parsed(answer), _parsed(gold), precision)


def equal_options(answer: str, options: list[str]) -> list[int]:
    """The indices of the options that the answer equals as an expression."""
    return [index for index, option in enumerate(options) if same_expression(answer, option, None)]


def same_relation(answer: list[str], gold: list[str], sign: str) -> bool:
    """Whether `answer[0] sign answer[1]` holds where `gold[0] sign gold[1]` does.

    Of = and ≠ the differences of the sides are equal up to a factor that is not 0, with denominators cleared; of < and
    ≤ up to a positive factor. A relation that holds always or never equals none.
    """
    found, wanted = _difference(answer), _difference(gold)
    if found is None or wanted is None or not wanted.free_symbols or found.free_symbols != wanted.free_symbols:
        return False
    if sign in ("=", "≠"):
        found, wanted = _numerator(found), _numerator(wanted)
    ratios = _ratios(found, wanted)
    if ratios is None:
        return False
    first = ratios[0]
    same = all(abs(ratio - first) <= _AGREEMENT * abs(first) for ratio in ratios)
    return same and abs(first) > 0 and (sign in ("=", "≠") or (first.real > 0 and abs(first.imag) < _AGREEMENT))


def _difference(sides: list[str]) -> Any:
    from sympy import Expr

    left, right = map(_parsed, sides)
    return left - right if isinstance(left, Expr) and isinstance(right, Expr) else None


def _numerator(expression: Any) -> Any:
    from sympy import fraction, together

    return fraction(together(expression))[0]


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    """The sympy object of a LaTeX text, None without one. R is not r."""
    from latex2sympy2_extended import latex2sympy, normalize_latex
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig
    from math_verify import LatexExtractionConfig
    from math_verify.grader import should_treat_as_complex
    from sympy import Basic, MatrixBase

    try:
        found = latex2sympy(
            normalize_latex(text, config=LatexExtractionConfig().normalization_config),
            is_real=not should_treat_as_complex(text),
            convert_degrees=False,
            normalization_config=None,
            conversion_config=ConversionConfig(lowercase_symbols=False),
        )
    except MemoryError:
        raise
    except Exception:  # the grammar's own errors, and sympy's of every kind
        return None
    return found if isinstance(found, Basic | MatrixBase) else None


def _equal(found: Any, wanted: Any, precision: int | None) -> bool:
    if found is None or wanted is None:
        return False
    from math_verify import verify
    from sympy import Expr

    found_number, wanted_number = _number(found), _number(wanted)
    if found_number is not None and wanted_number is not None:
        if found.is_integer and wanted.is_integer:  # 2^60 and the number after it are the same float
            return bool(abs((found - wanted).evalf(_DIGITS, maxn=_LONGEST)) < 1)
        return near(found_number, wanted_number, precision)
    if isinstance(found, Expr) and isinstance(wanted, Expr) and (found.free_symbols or wanted.free_symbols):
        ratios = _ratios(found, wanted)
        if ratios is not None:
            return all(abs(ratio - 1) <= _AGREEMENT for ratio in ratios)
    return bool(verify(wanted, found, float_rounding=_DIGITS if precision is None else precision, timeout_seconds=None))


def _ratios(found: Any, wanted: Any) -> list[complex] | None:
    """found / wanted at several points; None where too few of them have values, as of an unknown function."""
    symbols = sorted(found.free_symbols | wanted.free_symbols, key=str)
    found, wanted = _exact(found), _exact(wanted)
    ratios = []
    for place in range(len(_POINTS)):
        values = {symbol: _POINTS[(place + 5 * index) % len(_POINTS)] for index, symbol in enumerate(symbols)}
        pair = [_value(expression, values) for expression in (found, wanted)]
        if pair[0] is not None and pair[1]:
            ratios.append(pair[0] / pair[1])
        elif pair[0] is not None and pair[1] is not None and (pair[0] or 0) != 0:
            return [0j, 1 + 0j]  # one is 0 where the other is not
    return ratios if len(ratios) >= _FEWEST else None


def _value(expression: Any, values: dict[Any, float]) -> complex | None:
    """The value of an expression at a point; None where it has none."""
    from sympy import Rational

    try:
        number = expression.subs({symbol: Rational(value).limit_denominator(10**6) for symbol, value in values.items()})
        value = complex(number.evalf(20))
    except MemoryError:
        raise
    except Exception:  # no number, as f(2) of an unknown f, or a division by zero
        return None
    return value if value - value == 0 else None


def _exact(expression: Any) -> Any:
    """The expression with its decimals as the fractions that they are: 0.6 is 3/5."""
    from sympy import Float, Rational

    return expression.xreplace({number: Rational(str(number)) for number in expression.atoms(Float)})


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
