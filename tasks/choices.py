"""Options that stand inside a question's text, behind their letters."""

import re
from typing import Final

from avar_eval.answers.options import LETTERS

PICTURED: Final = ("A", "B", "C", "D", "E", "F")
"""The options of a question whose options stand in the picture: their letters are all that is known of them."""

_IN_BRACKETS: Final = re.compile(r"\(([A-Z])\)")
_AT_LINE_START: Final = re.compile(r"^([A-Z])[.:]", re.MULTILINE)


def choices_in(question: str) -> list[str]:
    """The options' texts, in the order of their letters: "(A) yes (B) no", or lines that begin with "A." or "A:".

    Empty unless the letters run from A without a gap and every option has a text: the letters alone are the options
    then (they may stand in the picture).
    """
    for label in (_IN_BRACKETS, _AT_LINE_START):
        marks = list(label.finditer(question))
        if len(marks) < 2 or "".join(mark[1] for mark in marks) != LETTERS[: len(marks)]:
            continue
        ends = [*(mark.start() for mark in marks[1:]), len(question)]
        texts = [question[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)]
        return texts if all(texts) else []
    return []
