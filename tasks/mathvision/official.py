"""MathVision's published rule: evaluation/evaluate.py and utils.py of mathllm/MATH-V, row by row, without its `eval`.

The published script reads an answer off the raw response, parses it with latex2sympy2, and gives what sympy prints to
Python's `eval`. Here the same parser runs in a worker process, what it prints is walked as a syntax tree of numbers and
functions of `math`, and most texts are decided before that: a text that begins with a letter has no value, since the
letter becomes an undefined name.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Final

from avar_eval.answers.arithmetic import arithmetic_value
from avar_eval.answers.notation import MAX_EXPRESSION, is_balanced
from avar_eval.answers.workers import WORKERS
from avar_eval.tasks.mathvision.official_value import official_tuple, official_value, warm_up

Number = int | float

_PHRASES: Final = ("the final answer is", "the answer is", "the correct answer is", "the answer should be")
_BOX: Final = "oxed{"
# In this order: what find_math_answer() drops or replaces after the last "=" and "\\approx" …
_FIRST_REPLACEMENTS: Final = (
    (" ", ""), ("\\,", ""), ("∞", "\\infty"), ("+\\infty", "\\infty"), ("\\\\", "\\"), ("\n", ""), ("\\text", ""),
    ("\\mbox", ""), ("bmatrix", "pmatrix"), ("\\left", ""), ("\\right", ""), ("^{\\circ}", ""), ("^\\circ", ""),
    ("{m}^3", ""), ("m^3", ""), ("{units}", ""), ("units", ""), ("{km}", ""), ("km", ""),
)  # fmt: skip
# … and _strip_string() after it.
_SECOND_REPLACEMENTS: Final = (
    ("\\!", ""), ("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac"), ("\\left", ""), ("\\right", ""),
    ("^{\\circ}", ""), ("^\\circ", ""), ("\\$", ""), ("$", ""), ("\\%", ""), ("{.", "{0."),
)  # fmt: skip
_INTEGER_RATIO: Final = re.compile(r"(-?(?:0|[1-9][0-9]*))/(-?(?:0|[1-9][0-9]*))", re.ASCII)
_PLAIN_NUMBER: Final = re.compile(r"-?(?:[0-9]{1,12}(?:\.[0-9]{1,12})?|\.[0-9]{1,12})", re.ASCII)
# Words that end an expression as a full stop does: "2 triangles" has the value 2, since "tr" is one of them.
_END_WORDS: Final = (
    "cols|diag|eig|eye|hstack|norm|nullspace|ones|rank|rows|rref|svd|trace|transpose|tr|vstack|zeros"
    "|gcd|lcm|floor|ceil|arc?(?:sin|cos|tan)h|[pbv]?matrix"
)
# Texts that the parser refuses at once, or in which it finds a letter before anything can end the expression.
_WITHOUT_VALUE: Final = re.compile(
    r"[({]*(?:[a-df-z]|e[a-z])[^=]*|\(?e\)?|\\(?:text|boxed).*|[<>*#%?@`\"\u3000-\u9fff\uff01-\uffef].*"
    rf"|-?[0-9]+(?:\.[0-9]+)? *(?:(?!{_END_WORDS})[a-df-z][^=]*|\\mathrm[^=]*|\\text[^=]*|\^\{{?\\circ[^=]*)"
    r"|-?[0-9]+(?:\.[0-9]+)?[%?°√π].*",
    re.DOTALL,
)

# Letters in an expression that ends where the text ends: an undefined name, wherever they stand.
_SYMBOLIC: Final = re.compile(
    r"(?:\\(?:frac|sqrt|pi|cdot|times|sin|cos|tan|alpha|beta|theta|lambda|mathrm)(?![a-z])"
    r"|[0-9]+\.[0-9]+|[-0-9a-z+*/(){}^~ ])+"
)
_COMMAND: Final = re.compile(r"\\[a-z]+")

WORKERS.prepare(warm_up)


def official_correct(response: str, gold: str, options: Sequence[str]) -> bool:
    """The published verdict on a raw response. `gold` is the row's answer, a letter where there are options.

    Raises WorkLimitError where the published script would compute for seconds or more.
    """
    answer = official_answer(response)
    value = options[ord(gold) - ord("A")] if options else ""
    return is_equal(gold, answer) or is_equal(value, answer)


def official_answer(response: str) -> str:
    """The answer that evaluate() reads off a response; always some text, at worst all of it."""
    text = response.strip()
    for letter in "ABCDE":
        openings = (f"{letter}\n", f"({letter})\n", f"({letter}) {letter}\n")
        if text.endswith((f" {letter}.", f" ({letter}).")) or text.startswith(openings):
            text = letter
    last_words = text.split("is ")[-1].rstrip(".")
    if _is_float(last_words):
        text = last_words
    if _BOX not in text:
        for phrase in _PHRASES:
            text = _after(_after(text, phrase), phrase.replace("the", "The"))
    elif text.count(_BOX) > 1:
        text = "\\boxed{" + text.split(_BOX)[-1]
    answer = _mathematics(text)
    for brackets in ("()", "{}"):
        for letter in "abcde":
            answer = answer.replace(f"{brackets[0]}{letter}{brackets[1]}", letter)
    return answer.rstrip(".").lstrip(":").strip()


def is_equal(gold: str, answer: str) -> bool:
    """is_equal(): same text, same tuple after rounding its items, or values equal after rounding to two decimals."""
    gold, answer = gold.lower(), answer.lower()
    if not gold.replace(" ", "") or not answer.replace(" ", ""):
        return False
    if gold.strip() == answer.strip():
        return True
    if _is_tuple(gold):
        gold = _tuple(gold)
        answer = _tuple(answer) if _is_tuple(answer) else answer
        if gold == answer:
            return True
    wanted = _value(gold)
    if wanted is None:
        return False
    return wanted == _value(_tuple(answer) if _is_tuple(answer) else answer)


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _after(text: str, phrase: str) -> str:
    """The first sentence after the last occurrence of a phrase; without one the stripped text."""
    found = phrase in text
    text = text.split(phrase)[-1].strip()
    return text.split("\n")[0].split(". ")[0] if found else text


def _mathematics(text: str) -> str:
    """find_math_answer(): what stands in the box, without units, degrees and LaTeX that does not change a value."""
    text = text.lower().replace("{}", "")
    start, end = text.find(_BOX), text.rfind("}")
    if start >= 0 and start + len(_BOX) <= end:
        text = text[start + len(_BOX) : end]
    closing, opening = text.find("}"), text.find("{")
    if closing != -1 and (opening == -1 or closing < opening):
        text = text[:closing]
    text = text.split("=")[-1].split("\\approx")[-1]
    for old, new in _FIRST_REPLACEMENTS:
        text = text.replace(old, new)
    return _stripped(text)


def _stripped(text: str) -> str:
    """_strip_string() for a text without spaces, line ends and "="."""
    for old, new in _SECOND_REPLACEMENTS:
        text = text.replace(old, new)
    if text.startswith("."):
        text = "0" + text
    parts = text.split("\\approx")  # there again where a unit stood in the midst of it
    text = parts[-1] if len(parts) == 2 else text
    if "sqrt" in text:
        text = _with_fraction_braces(_with_root_braces(text))
    if text == "0.5":
        return "\\frac{1}{2}"
    ratio = _INTEGER_RATIO.fullmatch(text)
    if ratio and "-0" not in (ratio[1], ratio[2]):
        return f"\\frac{{{ratio[1]}}}{{{ratio[2]}}}"
    return text


def _with_root_braces(text: str) -> str:
    first, *rest = text.split("\\sqrt")
    return first + "".join(
        "\\sqrt" + (part if not part or part[0] == "{" else f"{{{part[0]}}}{part[1:]}") for part in rest
    )


def _with_fraction_braces(text: str) -> str:
    first, *rest = text.split("\\frac")
    written = first
    for part in rest:
        if part.startswith("{"):
            written += "\\frac" + part
        elif len(part) < 2:
            return text
        elif part[1] == "{":
            written += f"\\frac{{{part[0]}}}{part[1:]}"
        else:
            written += f"\\frac{{{part[0]}}}{{{part[1]}}}{part[2:]}"
    return written


def _is_tuple(text: str) -> bool:
    return (text[0], text[-1]) in (("(", ")"), ("[", "]")) and "," in text[1:-1]


def _value(text: str) -> Number | None:
    """The text's value rounded to two decimals, None where the published script meets an error."""
    text = text.replace("$", " ").strip()  # as its parser does
    if _PLAIN_NUMBER.fullmatch(text):
        number = Fraction(text)
        return round(int(number) if number.denominator == 1 else float(number), 2)
    if _WITHOUT_VALUE.fullmatch(text) or _is_symbolic(text):
        return None
    value = None if text.startswith("-") or "--" in text else arithmetic_value(text)
    return _bounded_value(text) if value is None else round(float(value), 2)


def _is_symbolic(text: str) -> bool:
    if len(text) > MAX_EXPRESSION or not _SYMBOLIC.fullmatch(text) or not is_balanced(text):
        return False
    letters = _COMMAND.sub(" ", text)
    return bool(re.search("[a-df-z]", letters)) and not re.search(_END_WORDS, letters)


@lru_cache(maxsize=65536)
def _bounded_value(text: str) -> Number | None:
    value: Number | None = WORKERS.ask(official_value, text)
    return value


@lru_cache(maxsize=65536)
def _tuple(text: str) -> str:
    return str(WORKERS.ask(official_tuple, text))
