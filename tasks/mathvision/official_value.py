"""What MathVision's published script makes of an expression: `round(eval(str(latex2sympy(text))), 2)`, without `eval`.

Runs in a worker process only: latex2sympy2 and sympy may compute for ever.
"""

import ast
import math
import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from avar_eval.answers.sandbox import READ_ONLY

# latex2sympy2 1.9, which the published verdicts come from, makes spaces of these; 1.5, the last version that runs beside
# math-verify, has the same grammar but refuses them.
_SPACES: Final = (r"\displaystyle", r"\quad", r"\qquad", r"\,", "~", "$")
_LARGEST_POWER_BITS: Final = 100_000
# The published module does `from math import *`.
_NAMES: Final = {name: value for name, value in vars(math).items() if not name.startswith("_")}
_OPERATORS: Final[dict[type[ast.AST], Callable[..., Any]]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Mod: operator.mod, ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip


class NoValueError(Exception):
    """The published script would have met an error."""


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
    printed = str(latex2sympy(text))
    tree = compile(printed, READ_ONLY, "eval", ast.PyCF_ONLY_AST)
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
