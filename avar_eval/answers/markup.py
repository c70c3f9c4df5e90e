"""What Markdown and LaTeX put around an answer, taken off.

Every pattern here and in the other modules of this package is linear in the text: a response comes from a model, may be
100 kB of braces, and is judged inside a training loop.
"""

import re
from functools import lru_cache
from typing import Final

MAX_LENGTH: Final = 2000
"""Characters. A longer text is not read as an option, a number or a list; it is compared as text alone."""

_FULL_WIDTH: Final = {chr(code + 0xFEE0): chr(code) for code in range(ord("0"), ord("z") + 1) if chr(code).isalnum()}
# Soft hyphens, zero-width characters and direction marks: a reader does not see them.
_UNSEEN: Final = (
    "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)
_CHARACTERS: Final = str.maketrans(
    {
        **dict.fromkeys("−﹣－–‐‑‒", "-"),
        **dict.fromkeys("⁄∕／", "/"),
        **dict(zip("％＋＊＄＜＞［］【】", "%+*$<>[][]", strict=True)),
        **dict.fromkeys(_UNSEEN, ""),
        "（": "(",
        "）": ")",
        "：": ":",
        "．": ".",
        "＝": "=",
        **dict.fromkeys("º˚∘", "°"),
        **_FULL_WIDTH,
    }
)
# "\frac" in a JSON or Python string with one backslash too few begins with a form feed, "\times" with a tab.
_LOST_BACKSLASH: Final = re.compile(
    r"\x0crac(?![a-z])|\x08(?:oxed|eta|ar)(?![a-z])|\t(?:imes|ext|heta|frac)(?![a-z])|\r(?:ight|ho)(?![a-z])"
)
_STRIPPED_FRACTION: Final = re.compile(r"(?<![A-Za-z\x0c])rac\{")
_LOST_LETTERS: Final = {"\x0c": "f", "\x08": "b", "\t": "t", "\r": "r"}
# Thin spaces group the digits of 1\\,234; any other space between two numbers keeps them apart.
_GROUPING: Final = re.compile(
    r"(?<=[0-9])(?:\\[,!]|[\u00a0\u2009\u202f])(?=[0-9]{3}(?![0-9]))|(?<=[0-9],)\\!\s?(?=[0-9]{3})"
)
_FULL_WIDTH_GROUPING: Final = re.compile("(?<=[0-9])，(?=[0-9]{3}(?![0-9]))")
_EMPHASIS: Final = " *_`"
_QUOTES: Final = {'"': '"', "'": "'", "“": "”", "‘": "’", "「": "」", "『": "』"}
_LATEX_NAMED: Final = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|normal|up|md|sl|sc)?|math(?:rm|bf|it|sf|tt|normal)|mbox|hbox|emph|underline|bm"
    r"|boldsymbol"
    r"|operatorname)\s?\{((?:[^{}]|\{[^{}]*\})*)\}"
)
_NESTED: Final = 4
"""Names inside each other that are taken off: \\textbf{\\text{C}} is two."""
_LATEX_FONT: Final = re.compile(
    r"\\(?:bf|it|rm|sf|tt|bfseries|itshape|Large|large|LARGE|huge|Huge|normalsize)(?![A-Za-z])\s?"
)
_LATEX_DEGREE: Final = re.compile(r"\^?\s?(?:\{\s?)?\\(?:circ|degree)\b(?:\s?\})?")
_DEGREE_LETTER: Final = re.compile(r"(?<=[0-9])\s?\^\s?(?:\{\s?)?o(?![A-Za-z])(?:\s?\})?")
_LATEX_SPACE: Final = re.compile(r"(?<!\\)\\[,;:! ]|\\(?:left|right|quad|qquad|displaystyle)\b|~|\{[,:]\}|\\$")
# {,} groups digits; {:} stands in a time or a ratio.
_BRACED: Final = {"{,}": "", "{:}": ":"}
_LATEX_MATH: Final = re.compile(r"\\[()\[\]]|\\?\$")
# Not between two operands: `2**3` is arithmetic.
_BOLD: Final = re.compile(r"(?<![\w)])\*\*|\*\*(?![\w(])")


def plain(text: str) -> str:
    """The text on one line without Markdown emphasis, LaTeX spacing, math delimiters, wrapping quotes and a final stop.

    >>> plain("**(B)** $30^\\\\circ$.")
    '(B) 30°'
    """
    return _plain_of_short(text) if len(text) <= _SHORT else _plain(text)


def restored(text: str) -> str:
    """The text with the backslashes that a JSON or Python string has eaten: "\\x0crac" was \\frac."""
    if "rac{" in text:  # what is left of it after its white space is stripped
        text = _STRIPPED_FRACTION.sub(r"\\frac{", text)
    if not any(lost in text for lost in _LOST_LETTERS):
        return text
    return _LOST_BACKSLASH.sub(lambda lost: f"\\{_LOST_LETTERS[lost[0][0]]}{lost[0][1:]}", text)


def _plain(text: str) -> str:
    if not text.isascii():
        text = _FULL_WIDTH_GROUPING.sub(",", text.translate(_CHARACTERS))
    if "**" in text:
        text = _BOLD.sub("", text)
    if not text.isascii() or "\\" in text:
        text = _GROUPING.sub("", text)
    if "\\" in text or "$" in text or "~" in text or "{" in text or "^" in text:
        text = _without_latex(text)
    text = " ".join(text.split()).strip(_EMPHASIS).rstrip(".。;,").strip(_EMPHASIS)
    # Only a pair: the prime of "A'" and the inches of 5" belong to the answer.
    if len(text) > 2 and _QUOTES.get(text[0]) == text[-1]:
        return text[1:-1].strip()
    return text


_SHORT: Final = 300
_plain_of_short = lru_cache(maxsize=16384)(_plain)


def _without_latex(text: str) -> str:
    text = _LATEX_MATH.sub("", text)
    for _ in range(_NESTED):
        named = _LATEX_NAMED.sub(r"\1", text)
        if named == text:
            break
        text = named
    text = _LATEX_DEGREE.sub("°", _LATEX_FONT.sub("", text))
    text = _DEGREE_LETTER.sub("°", text)
    return _LATEX_SPACE.sub(lambda match: _BRACED.get(match[0], " "), text).replace(r"\%", "%")


def boxed(text: str) -> tuple[str, int] | None:
    """Content and end offset of the last balanced `\\boxed{…}` that holds something; None without one.

    Of nested boxes the inner one. Boxes that only commas, "and" and the like stand between are one answer:
    `\\boxed{2}, \\boxed{3}` and `x = \\boxed{2} \\text{ and } y = \\boxed{3}` are "2, 3".
    """
    if "boxed" not in text and "fbox" not in text:
        return None
    open_braces: list[tuple[int, int] | None] = []
    boxes: list[tuple[int, int, int]] = []
    for match in _BRACES.finditer(text):
        if match[0].startswith(r"\boxed") or match[0].startswith(r"\fbox"):
            open_braces.append((match.start(), match.end()))
        elif match[0] == "{":
            open_braces.append(None)
        elif match[0] == "}" and open_braces:
            opened = open_braces.pop()
            if opened is None or (boxes and opened[1] <= boxes[-1][1]):
                continue
            if text[opened[1] : match.start()].strip():  # "put it in one \\boxed{}" is no answer
                boxes.append((*opened, match.start()))
    if not boxes:
        return None
    first = len(boxes) - 1
    while first and len(boxes) - first < _MOST_BOXES and _joined(text[boxes[first - 1][2] + 1 : boxes[first][0]]):
        first -= 1
    contents = list(dict.fromkeys(text[start:end].strip() for _, start, end in boxes[first:]))
    return ", ".join(contents), boxes[-1][2]


def _joined(between: str) -> bool:
    """Whether what stands between two boxes makes one answer of them; on lines of their own they need a comma."""
    if len(between) > _BETWEEN_BOXES or ("\n" in between and not re.search(r"[,;]|\b(?:and|or)\b", between)):
        return False
    return _CONJUNCTION.fullmatch(between) is not None


_MOST_BOXES: Final = 40
_BETWEEN_BOXES: Final = 80
# "$, $", "\\text{ and }", ", y = ", " papers and ": what joins two boxes to one answer.
_CONJUNCTION: Final = re.compile(
    r"(?:[\s$,;]|\\[()\[\],;:! ]|\\q?quad)*(?:(?:\\text\{)?\s?(?:[a-z()]+ ){0,4}(?:and|or)\s?\}?)?"
    r"(?:[\s$,;]|\\[()\[\],;:! ]|\\q?quad)*(?:[A-Za-z](?:_\{?[0-9a-z]\}?)?\s?=\s?)?"
)
# Escaped braces are text, not structure.
_BRACES: Final = re.compile(r"\\(?:boxed|fbox)\s?\{|\\[{}]|[{}]")
