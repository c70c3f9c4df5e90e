"""The options of a multiple-choice question, read from its text: many data sets have no other place for them."""

import re
from typing import Final

_LETTERS: Final = "ABCDEFGHIJ"
_LABELS: Final = (
    re.compile(
        r"(?<![A-Za-z0-9_])[(（\[【]\s?([A-J])\s?[)）\]】][.:．：、]?"
    ),  # (A) text · （A）text · [A] text, not P(A)
    re.compile(
        r"(?<![A-Za-z0-9_\\'’(（\[【])([A-J])\s?(?:[.．:：、)）]|,(?=\s))(?![A-Za-z]\.)"
    ),  # A. text · A、text · A) text
)
_LINE_BEFORE: Final = re.compile(r"(?:^|\n)[\s*\-•]*$")
_ENDS: Final = " \t\r\n,，;；、|*"


def options_in(question: str) -> list[str]:
    """The texts of a question's options, in the order of their letters; [] where its text shows none.

    Labels follow each other from A and are of one form (`A.`, `A)`, `(A)`, `A:`, or the Chinese `A、`, `A．`, `（A）`),
    at the beginnings of lines or one after the other in a line. The last list counts. Options without a text stand in
    the picture: then they are their letters.

    >>> options_in("How long is AB?\\nA. 12 cm\\nB. 14 cm")
    ['12 cm', '14 cm']
    >>> options_in("Which is it? (A) cat (B) dog")
    ['cat', 'dog']
    >>> options_in("What does point A. show?")
    []
    """
    for only_lines in (True, False):
        for label in _LABELS:
            marks = [
                mark
                for mark in label.finditer(question)
                if not only_lines or _LINE_BEFORE.search(question, 0, mark.start())
            ]
            if options := _last_list(question, marks, only_lines):
                return options
    return []


def _last_list(question: str, marks: list[re.Match[str]], only_lines: bool) -> list[str]:
    """The texts between marks A, B, C, … that follow each other, of the last such list."""
    for first in range(len(marks) - 1, -1, -1):
        if marks[first][1] != "A":
            continue
        run = [marks[first]]
        for mark in marks[first + 1 :]:
            if mark[1] != _LETTERS[len(run) : len(run) + 1]:
                break
            run.append(mark)
        if len(run) < 2:
            continue
        ends = [mark.start() for mark in run[1:]]
        # what follows the last option's line is no part of it, such as an instruction
        line_end = question.find("\n", run[-1].end())
        ends.append(len(question) if line_end < 0 else line_end)
        texts = [
            re.sub(r"\s+", " ", re.sub(r"\n\s*[-•]\s*$", "", question[mark.end() : end])).strip(_ENDS)
            for mark, end in zip(run, ends, strict=True)
        ]
        if all(texts):
            return texts
        if only_lines and not any(texts):
            return [mark[1] for mark in run]
    return []
