"""What MathVision's published script makes of an expression: `round(eval(str(latex2sympy(text))), 2)`, without `eval`.

Runs in a worker process only: latex2sympy2 and sympy may compute for ever.
"""

import ast
import math
import operator
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from avar_eval.answers.sandbox import READ_ONLY

# The published verdicts come from latex2sympy2 1.9. It cannot be installed beside math-verify, but 1.5 can, and reads
# the same once these are spaces,
_SPACES: Final = (r"\displaystyle", r"\quad", r"\qquad", r"\,", "~", "$")
# the letters r and c are not rows and columns, and these words end an expression, as "&" does ("2 triangles" is 2).
_WORDS: Final = "cols|diag|eig|eye|hstack|norm|nullspace|ones|rank|rows|rref|svd|trace|transpose|tr|vstack|zeros"
_TOKEN: Final = re.compile(rf"(\\[a-z]+|floor|ceil|arc?(?:sin|cos|tan)h|lcm|gcd|[pbv]?matrix)|({_WORDS})|[rc]")
_ASSIGNED: Final = re.compile(r"\s*(?:[a-z]|\\[a-z]+)\s*")
_LARGEST_POWER_BITS: Final = 100_000
# The published module does `from math import *`.
_NAMES: Final = {name: value for name, value in vars(math).items() if not name.startswith("_")}
_OPERATORS: Final[dict[type[ast.AST], Callable[..., Any]]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Mod: operator.mod, ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip

_TYPICAL: Final = (
    r"\frac{7^3}{2^{12} 13^2}", r"\frac{1}{2}\tan40", "4, 6 and 12", r"y = \frac{144 - 7x}{12}", r"\frac{r_2+3r}{r_2}",
    r"\frac{1}{\sin \alpha}", r"\delta, \square", r"2\sqrt[4]{12}-\pi", "(-2;0)", r"45 \%", r"x<3!", r"m=\log 2",
)  # fmt: skip


class NoValueError(Exception):
    """The published script would have met an error."""


def warm_up() -> None:
    """Import the libraries and let the parser build the tables that the first text of each shape would pay for."""
    for text in _TYPICAL:
        official_value(text)


@lru_cache(maxsize=4096)
def official_value(text: str) -> int | float | None:
    """The value of a LaTeX text rounded to two decimals; None where the published script catches an error."""
    try:
        return _rounded(text)
    except MemoryError:
        raise
    except Exception:  # as the published script does; sympy and the parser raise errors of every kind
        return None


def official_tuple(text: str) -> str:
    """eval_tuple(): a tuple or list with its items rounded; the text itself if one of them has no value."""
    items = text[1:-1].split(",")
    try:
        rounded = [item if "infty" in item or item in ("a", "-a") else str(_rounded(item)) for item in items]
    except MemoryError:
        raise
    except Exception:  # as above
        return text
    return text[0] + ",".join(rounded) + text[-1]


def _rounded(text: str) -> int | float:
    from latex2sympy2 import latex2sympy

    for command in _SPACES:
        text = text.replace(command, " ")
    left, equation, _ = text.partition("=")
    if equation and not _ASSIGNED.fullmatch(left):
        raise NoValueError("equation")
    text = _TOKEN.sub(lambda token: token[1] or ("&" if token[2] else "q"), text)
    printed = str(latex2sympy(text))
    tree: ast.Expression = compile(printed, READ_ONLY, "eval", ast.PyCF_ONLY_AST)  # type: ignore[assignment]
    value: int | float = round(_evaluate(tree.body), 2)
    return value


def _evaluate(node: ast.AST) -> Any:
    """The value of a syntax tree of numbers, operators, comparisons and functions of `math`."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.Name(id=name) if name in _NAMES:
            return _NAMES[name]
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _OPERATORS:
            return _OPERATORS[type(sign)](_evaluate(operand))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_evaluate(left), _evaluate(right))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            return _OPERATORS[type(sign)](_evaluate(left), _evaluate(right))
        case ast.Compare(left=left, ops=[sign], comparators=[right]) if type(sign) in _OPERATORS:
            return _OPERATORS[type(sign)](_evaluate(left), _evaluate(right))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _NAMES:
            return _NAMES[name](*map(_evaluate, arguments))
    raise NoValueError(type(node).__name__)


def _power(base: Any, exponent: Any) -> Any:
    """The power, unless it is a whole number that no answer is and that would take minutes to compute."""
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > _LARGEST_POWER_BITS:
        raise NoValueError("power")
    return base**exponent
