"""What a finished response without tag, box or phrase says, if there is no doubt about it."""

import re
from collections.abc import Callable, Sequence
from typing import Final

from avar_eval.answers.equal import read_list
from avar_eval.answers.markup import MAX_LENGTH, plain
from avar_eval.answers.notation import canonical, is_expression
from avar_eval.answers.options import (
    affirmed_option,
    begins_with_label,
    bold_options,
    bold_spans,
    labelled_option,
    named_option,
    names_several,
    option_mentions,
    option_stated,
    standalone_letter,
)
from avar_eval.answers.quantity import read_quantity, stated_quantity
from avar_eval.answers.statements import (
    conclusion_in,
    first_sentence,
    is_premise,
    is_refusal,
    sentences,
    stated_value,
    takes_back,
    yes_or_no,
)

_CLOSING: Final = re.compile(
    r"(?:^|(?<=[.!?。])\s)\W{0,4}(?:(?:therefore|thus|hence|so|in conclusion)\b|因此|所以|综上)[,，:]?",
    re.IGNORECASE | re.MULTILINE,
)
_STATES: Final = re.compile(r"\b(?:is|are|was|equals|shows|reads)\b(?: at\b(?! least| most)| equal to\b)?|[是为有]")
_AFTERWORD_LENGTH: Final = 200
_PROSE_LENGTH: Final = 5_000
_BULLET: Final = re.compile(r"\s{0,9}(?:[-*•+]|\d{1,3}[.)])\s")
_WORD: Final = re.compile(r"[^\W\d_]{3,}")
_SURELY: Final = (
    r"(?:(?:a|an|definitely|absolutely|certainly|clearly|simply|indeed|well|of course|actually|obviously|apparently"
    r"|unfortunately),? )?"
)
_SAYS_YES_NO: Final = re.compile(
    rf"(?:(?:\b(?:so|thus|hence|therefore|say|says|is|be|answer)\b|['’]s\b)[:,]? {_SURELY}"
    rf"[\"'*]{{0,3}}(?P<said>yes|no)[\"'*]{{0,3}}"
    rf"(?=[.,;:!]|$)|(?:^|[,;:—–-] ){_SURELY}(?P<last>yes|no)[.!]?$)",
    re.IGNORECASE,
)
_NOT_SAID: Final = re.compile(
    r"(?:\b(?:not|never|neither|nor|cannot|if|whether|either|unless|might|may|could)\b|n['’]t\b)[^,.;:]*$",
    re.IGNORECASE,
)
_STOPPED: Final = re.compile(r"[.!?。！？:*`$)\]}\"”|]\s*$")


def chosen_letter(visible: str, choices: Sequence[str]) -> int | None:
    """The option that a response chooses by its letter.

    A last line that is one; a first line that is one, with or without its option's text; a conclusion; the one label in
    bold; or the only letter that is named anywhere, in the first or last line.
    """
    lines = [line for line in visible.splitlines() if line.strip()]
    if not lines:
        return None
    first = labelled_option(lines[0], choices)
    second = labelled_option(lines[1], choices) if len(lines) > 1 else None
    before_last = labelled_option(lines[-2], choices) if len(lines) > 1 else None
    # A last line that is a letter and nothing else is an answer, whatever was discussed before.
    alone = standalone_letter(lines[-1], choices)
    if alone is not None and (before_last in (None, alone) or _lists_options(lines[:-1], choices)):
        return alone
    if names_several(lines[0]) or names_several(lines[-1]):
        return None
    opening = first if second in (None, first) else None
    # Options one a line are no conclusion, nor is what is said of each of them after the answer.
    said = [] if len(lines) > 1 and all(map(begins_with_label, lines[-2:])) else sentences(visible)
    concluded = _concluded(said, lambda sentence: _affirmed(sentence, choices, labelled=opening is None))
    if opening is not None and concluded is not None:
        return opening if opening == concluded else None
    if opening is not None or concluded is not None:
        return concluded if opening is None else opening
    bold = bold_options(visible, choices)
    mentioned = set().union(*(option_mentions(line, choices) for line in lines))
    if len(bold) == 1 and (mentioned <= bold or bold == bold_options("\n".join((lines[0], lines[-1])), choices)):
        return bold.pop()
    if len(mentioned) != 1:
        return None
    return next((i for line in (lines[0], lines[-1]) if (i := affirmed_option(line, choices)) is not None), None)


def _lists_options(lines: Sequence[str], choices: Sequence[str]) -> bool:
    """Whether lines end in all the options in their order, as the question has them."""
    listed = lines[-len(choices) :]
    return len(listed) > 1 and [labelled_option(line, choices) for line in listed] == list(range(len(choices)))


def _affirmed(sentence: str, choices: Sequence[str], *, labelled: bool) -> int | None:
    """The option that a sentence names by letter; with `labelled` also as the label that it begins with."""
    return affirmed_option(sentence, choices) if labelled or not begins_with_label(sentence) else None


def option_in_words(visible: str, choices: Sequence[str]) -> int | None:
    """The option that the conclusion, or else the last and the first sentence, states by its text or value."""
    if any(option_mentions(line, choices) for line in visible.splitlines()):
        return None
    word = stated_yes_or_no(visible)
    folded = [plain(choice).casefold() for choice in choices]
    if word is not None and word.casefold() in folded:
        return folded.index(word.casefold())
    said = sentences(visible)
    if not said or is_refusal(said[0]) or is_refusal(said[-1]):
        return None
    concluded = _concluded(said, lambda sentence: option_stated(conclusion_in(sentence) or sentence, choices))
    if any(map(conclusion_in, said)):
        return concluded
    if len(said) == 1:
        return named_option(said[0], choices)
    told = said[-1:] if is_premise(said[0]) else (said[0], said[-1])
    stated = {option_stated(sentence, choices) for sentence in told} - {None}
    return stated.pop() if len(stated) == 1 else None


def _concluded(said: Sequence[str], reading: Callable[[str], int | None]) -> int | None:
    """What the last sentence says, or the last that opens with "Therefore"; None where these say different things."""
    closing = [sentence for sentence in said if conclusion_in(sentence) is not None][-1:]
    found = {reading(sentence) for sentence in (*closing, *said[-1:])} - {None}
    return found.pop() if len(found) == 1 else None


def stated_yes_or_no(visible: str) -> str | None:
    """The yes or no that a response opens or closes with, or concludes ("So, no, …"); None where it says both."""
    lines = [line for line in visible.splitlines() if line.strip()]
    said = sentences(visible)
    if not said:
        return None
    concluded = [conclusion for sentence in said if (conclusion := conclusion_in(sentence)) is not None]
    ends = [yes_or_no(text) for text in (said[0], said[-1], *concluded)]
    ends += [_yes_or_no_in(plain(sentence)) for sentence in (said[0], said[-1])]
    words = {word for word in (*map(yes_or_no, lines), *ends) if word}
    return words.pop() if len(words) == 1 and any(ends) else None


def _yes_or_no_in(sentence: str) -> str | None:
    """The yes or no that a sentence says further on: "I would say no", "looking closely, yes"."""
    words = set()
    for found in _SAYS_YES_NO.finditer(sentence):
        if _NOT_SAID.search(sentence, 0, found.start("said" if found["said"] else "last")):
            return None
        words.add((found["said"] or found["last"]).capitalize())
    return words.pop() if len(words) == 1 else None


def closing_value(text: str) -> str | None:
    """The value in the last sentence "Therefore, … is …", if nothing but a few words without numbers follow it."""
    ends = [match.end() for match in _CLOSING.finditer(text)]
    if not ends:
        return None
    line = text[ends[-1] :].lstrip()[: MAX_LENGTH + 1].partition("\n")[0]
    sentence = first_sentence(line)
    afterword = text[text.index(sentence, ends[-1]) + len(sentence) :]
    if len(afterword) > _AFTERWORD_LENGTH or _has_digit(afterword):
        return None
    stated = _STATES.split(sentence, maxsplit=1)
    value = plain(stated[-1])
    if stated_quantity(value) is not None or (len(stated) > 1 and is_value(value)):
        return value
    return stated_value(sentence)


def is_value(text: str) -> bool:
    """Whether a text is mathematics with a number in it."""
    return _has_digit(text) and is_expression(canonical(text))


def standalone_value(visible: str, *, expression: bool) -> str | None:
    """The value that the last line is and nothing else, or else the first; None in a column of several values."""
    lines = [line for line in visible.splitlines() if line.strip()]
    if len(lines) < 2:
        return None
    for line, neighbour in ((lines[-1], lines[-2]), (lines[0], lines[1])):
        if _is_bare(line, expression=expression):
            return None if _is_bare(neighbour, expression=False) and "=" not in neighbour else plain(line)
    return None


def _is_bare(line: str, *, expression: bool) -> bool:
    if len(line) > MAX_LENGTH or _BULLET.match(line):
        return False
    if read_quantity(line) is not None:
        return True
    if "=" in line and len(_WORD.findall(line)) < 3 and not is_premise(line) and stated_quantity(line) is not None:
        return True
    return expression and is_value(plain(line))


def value_in_prose(visible: str, *, expression: bool, ended: bool) -> str | None:
    """The value that a few sentences state: the conclusion, else what stands in bold, else the first and the last one.

    Where these say different things, where a conclusion states no value that it could, and where there is doubt
    anywhere, there is none; nor where the response may have been cut off: without a stop, unless it has `ended`.
    """
    if len(visible) > _PROSE_LENGTH or not (ended or _STOPPED.search(visible[-MAX_LENGTH:])):
        return None
    said = sentences(visible)
    if not said or any(map(is_refusal, said)):
        return None

    def stated_in(sentence: str) -> str | None:
        return _stated_value(sentence, expression=expression)

    concluded = [sentence for sentence in said if conclusion_in(sentence) is not None][-1:]
    conclusion, last = next(map(stated_in, concluded), None), stated_in(said[-1])
    if concluded and conclusion is None and _has_digit(concluded[0]):
        return None
    if last is None and takes_back(said[-1]) and _has_digit(said[-1]):
        return None
    first = None if is_premise(said[0]) else stated_in(said[0])
    bold = _bold_value(visible) or (first and _bold_value(said[0]))
    if conclusion is not None:
        found = [conclusion, bold, last]
    elif bold and first and _same(first, bold):
        found = [first]
    else:
        found = [bold, last] if bold else [first, last]
    values = [value for value in found if value]
    return values[0] if values and all(_same(values[0], value) for value in values[1:]) else None


def list_in_prose(visible: str) -> str | None:
    """The numbers that the last sentence says there are: "The values are 2, 4, and 6." """
    said = sentences(visible)
    if not said or is_refusal(said[-1]) or said[-1].endswith("?"):
        return None
    *before, listed = _STATES.split(plain(said[-1]))
    items = read_list(listed) if before else None
    if items is None or len(items) < 2 or any(read_quantity(item) is None for item in items):
        return None
    return None if _NOT_SAID.search("".join(before)) else listed.strip()


def _bold_value(text: str) -> str | None:
    """The only value that stands in bold."""
    values = [span for span in bold_spans(text) if stated_quantity(span) is not None]
    return values[0] if values and all(_same(values[0], value) for value in values[1:]) else None


def _same(one: str, other: str) -> bool:
    first, second = stated_quantity(one), stated_quantity(other)
    return one == other if first is None or second is None else first.value == second.value


def _stated_value(sentence: str, *, expression: bool) -> str | None:
    value = stated_value(sentence)
    if value is None and expression:
        *before, stated = map(plain, _STATES.split(sentence))
        return stated if before and is_value(stated) and not _NOT_SAID.search("".join(before)) else None
    return value


def _has_digit(text: str) -> bool:
    return any(character.isdigit() for character in text)
