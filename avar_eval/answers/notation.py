"""One way of writing a piece of mathematics: LaTeX without delimiters, boxes and units, as the comparisons read it."""

import re
from functools import lru_cache
from typing import Final

from avar_eval.answers.markup import boxed, plain, restored
from avar_eval.answers.relations import ROW_END, is_label, statement

MAX_EXPRESSION: Final = 300
"""Characters. A longer text is compared by spelling alone."""
_SIGNS: Final = str.maketrans(
    {
        "π": r"\pi ", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "÷": "/", "∞": r"\infty ",
        "≤": r"\le ", "≥": r"\ge ", "≠": r"\neq ", "≈": r"\approx ", "∈": r"\in ", "±": r"\pm ", "∪": r"\cup ",
        "∩": r"\cap ", "，": ",", "、": ",", "；": ";", "【": "[", "】": "]", "⇒": r"\Rightarrow ",
        "²": "^{2}", "³": "^{3}", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "\u2061": "",
    }
)  # fmt: skip
_FRACTION_COMMAND: Final = re.compile(r"\\(?:[dtcs]|nice)frac(?![a-zA-Z])")
_SHORT_FRACTION: Final = re.compile(r"\\frac\s?(?:([0-9])\s?([0-9])|\{([^{}]*)\}\s?([0-9])|([0-9])\s?\{([^{}]*)\})")
_ROOT: Final = re.compile(
    r"(?:√|(?<![\\A-Za-z])sqrt)\s?(?:\{([^{}]*)\}|\(([^()]*)\)|([0-9.]+|[a-z]\b))|\\sqrt\s?([0-9])(?![0-9])"
)
_PI: Final = re.compile(r"(?<![A-Za-z\\])pi\b")
_TIMES: Final = re.compile(
    r"(?<=[}0-9]) (?=[\\(])(?!\\(?:end|[lg]eq?|[lg]t|n?eq?|not|approx|cup|cap|times|cdot|in|pm|circ|text)\b)"
    r"|(?<=\}) (?=[0-9])"
)
_TRAILING_UNIT: Final = re.compile(
    r"(?<=[0-9})a-z])(?<!\\end)\s?(?:\{\s?[A-Za-z]{2,}[A-Za-z ]*\}|(?<![a-zA-Z])(?:sq(?:uare)? |cubic )?"
    r"(?:[ckm]?m|cm|inch(?:es)?|feet|ft|units?|degrees?|meters?|metres?|米|厘米|千米|元|度|平方米|°)(?:\^\{?[23]\}?)?)$"
)
_MATRIX: Final = re.compile(r"\\begin\{([a-zA-Z]*matrix|array)\}.*?\\end\{\1\}", re.DOTALL)
_SYSTEM: Final = re.compile(r"\\begin\{(cases|aligned|align\*?|gathered)\}(.*?)\\end\{\1\}", re.DOTALL)
_BRACED_ARRAY: Final = re.compile(
    r"(?:\\left\s?)?\\\{\s?\\begin\{array\}\{[lcr\s]*\}(.*?)\\end\{array\}\s?(?:\\right\s?\.)?", re.DOTALL
)
_SET_BUILDER: Final = re.compile(
    r"\\?\{\s?(?P<name>[a-zA-Z])\s?(?:\\in\s?(?:\\mathbb\s?\{?R\}?|ℝ|R)\s?)?(?:\||\\mid|:)\s?(?P<condition>.+?)\\?\}"
)
_ROW_BREAK: Final = re.compile(r"\\\\(?:\[-?[0-9.]+\s?[a-z]{2}\])?")
_ENVIRONMENT: Final = re.compile(r"\\(?:begin|end)\{(?:[a-zA-Z]*matrix|array)\}|" + ROW_END)
_TWO_LETTERS: Final = re.compile(r"[a-z]{2}")
_IMPLIES: Final = re.compile(r"\\(?:Rightarrow|implies|Longrightarrow|therefore)(?![A-Za-z])|=>")
_SEGMENT: Final = re.compile(r"\$\$?([^$]+)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
# What keeps a sentence with one piece of mathematics in it from stating that piece.
_NO_STATEMENT: Final = re.compile(
    r"\b(?:not|no|none|never|cannot|if|unless|when|where|let|suppose|assume|assuming|given|consider|since|because|or|between"
    r"|maybe|perhaps|might|could|unclear|except|wrong|incorrect|false|for|some|all|any|every|than|approximately)\b|n['’]t\b",
    re.IGNORECASE,
)
_COMMAND: Final = re.compile(r"\\[A-Za-z]+")
_WORD: Final = re.compile(r"[^\W\d_]{3,}|[\u0080-\uffff]")
# nRT and mgh are products: no word is all consonants.
_PRODUCT_OF_LETTERS: Final = re.compile(r"[B-DF-HJ-NP-TV-XZb-df-hj-np-tv-xz]{3,4}|xyz")
_FUNCTIONS: Final = frozenset({"sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "arcsin", "arccos", "arctan"})
_TWO_NUMBERS: Final = re.compile(r"[0-9.]\s+[0-9.]")
_PRODUCT: Final = re.compile(r"(?<![0-9])\\cdot|\\cdot(?![0-9])")
_PLAIN_WORD: Final = re.compile(r"(?<![A-Za-z\\])[A-Z][a-z]{2,}(?![A-Za-z])")
_PAIRS: Final = {")": "([", "]": "([", "}": "{"}


def canonical(text: str) -> str:
    """An expression in one way of writing it: LaTeX without math delimiters, boxes, its unit and what leads to it."""
    return operand(marked_up(text))


def marked_up(text: str) -> str:
    """A text as `canonical`, with its unit.

    Of a sentence that holds one piece of mathematics it is that piece ("We find that $x < 3$."), unless the sentence
    denies it or sets a condition.
    """
    return text if len(text) > 2 * MAX_EXPRESSION else _marked_up_short(text)


@lru_cache(maxsize=16384)
def _marked_up_short(text: str) -> str:
    text = restored(text)
    inner = boxed(text)
    text = _stated_segment(text if inner is None else inner[0]).translate(_SIGNS)
    if r"\begin" in text:
        text = _BRACED_ARRAY.sub(r"\\begin{cases}\1\\end{cases}", text)
        text = _SYSTEM.sub(_rows_listed, text)
        text = _MATRIX.sub(lambda matrix: _ROW_BREAK.sub(ROW_END, matrix[0]), text)
    text = plain(text)
    if "\\" in text:
        text = _SHORT_FRACTION.sub(_long_fraction, _FRACTION_COMMAND.sub(r"\\frac", text))
        text = _IMPLIES.split(text)[-1].strip().replace("+\\infty", "\\infty")
    if "√" in text or "sqrt" in text:
        text = _ROOT.sub(lambda match: rf"\sqrt{{{match[1] or match[2] or match[3] or match[4] or ''}}}", text)
    text = _PI.sub(r"\\pi ", text).replace("**", "^")
    builder = _SET_BUILDER.fullmatch(text)
    if builder and builder["name"] in builder["condition"]:
        text = builder["condition"].strip()
    if text.endswith(")") and text.startswith("(") and "," not in text and is_balanced(text[1:-1]):
        text = text[1:-1].strip()
    return text


def _rows_listed(system: re.Match[str]) -> str:
    """The equations of a system as a list; a piecewise function, whose rows hold conditions, stays as it is."""
    rows = [row.strip(" ,;\n\t") for row in system[2].split("\\\\")]
    rows = [re.sub(r"\s*&\s*(?==)|(?<==)\s*&\s*|^&\s*", "", row) for row in rows if row]
    return system[0] if any("&" in row for row in rows) else ", ".join(rows)


def is_expression(text: str) -> bool:
    """Whether a canonical text can be mathematics: short, without words, its brackets balanced."""
    if not text or len(text) > MAX_EXPRESSION or not is_balanced(text) or _TWO_NUMBERS.search(text):
        return False
    parts = statement(text)
    text = " = ".join(part for part in parts.members if parts.is_value or not is_label(part))
    text = _COMMAND.sub(" ", _ENVIRONMENT.sub(" ", text))
    if " and " in text:  # 1, 2 and 3, not "3 and b is 4"
        text = text.replace(" and ", " ")
        return _TWO_LETTERS.search(text) is None
    return all(word in _FUNCTIONS or _PRODUCT_OF_LETTERS.fullmatch(word) for word in _WORD.findall(text))


def is_balanced(text: str) -> bool:
    """Whether brackets close; ( and [ may close each other, as in an interval."""
    open_brackets: list[str] = []
    for character in text:
        if character in "([{":
            open_brackets.append(character)
        elif character in _PAIRS and (not open_brackets or open_brackets.pop() not in _PAIRS[character]):
            return False
    return not open_brackets


def _stated_segment(text: str) -> str:
    """The one piece of mathematics that a sentence states, or the text itself."""
    segments = list(_SEGMENT.finditer(text))
    if len(segments) == 1:
        around = text[: segments[0].start()] + text[segments[0].end() :]
        inside = next(group for group in segments[0].groups() if group)
        if len(around.split()) > 1 and not _NO_STATEMENT.search(around) and not any(map(str.isdigit, around)):
            return inside if _has_relation(inside) or r"\begin" in inside else text
    return text


def _has_relation(text: str) -> bool:
    return not statement(text.translate(_SIGNS)).is_value


def _long_fraction(match: re.Match[str]) -> str:
    return rf"\frac{{{match[1] or match[3] or match[5]}}}{{{match[2] or match[4] or match[6]}}}"


def operand(text: str) -> str:
    """A side of a relation or a whole value, without its unit."""
    text = _TRAILING_UNIT.sub("", text).strip()
    return _TIMES.sub(r" \\cdot ", text)


def spelling(text: str) -> str:
    """A text without what makes no difference: spaces but between digits, a product's dot, the capital of a word."""
    text = _PLAIN_WORD.sub(lambda word: word[0].casefold(), _PRODUCT.sub("", text))
    return "".join(_TWO_NUMBERS.sub(lambda pair: f"{pair[0][0]}\0{pair[0][-1]}", text).split())
