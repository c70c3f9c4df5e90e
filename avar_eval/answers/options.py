"""Which of the offered options a text names: by letter, by its own text, by its value. Never the nearest one."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from avar_eval.answers.markup import MAX_LENGTH, plain
from avar_eval.answers.quantity import Quantity, read_quantity, stated_quantity

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_LETTER: Final = re.compile(r"[(\[{<]?([A-Za-z])[)\]}>]?[.:]?")
_LABELLED: Final = re.compile(r"(?:[(\[]([A-Za-z])[)\]][.:,]?|([A-Za-z])(?:[)\]][.:]?|[.:](?=\s)|、|\s-(?=\s)))\s?(.*)")
_LIST_OF_LETTERS: Final = re.compile(r"(?:[,;/&]|and\b|or\b)\s?[(\[]?[A-Za-z](?!\w)")
# "B because …" names B; "A triangle" and "I think" name nothing.
_NAMING: Final = (
    re.compile(r"([A-Z])(?=,? (?:because|since|as|which|is)\b)"),
    re.compile(r"[(\[]([A-Z])[)\]]"),
    re.compile(r"\b(?i:option|choice|letter|answer(?: is|:)) ?[(\[]?([A-Z])(?![\w'’]|,? ?(?:or|and|/)? ?[A-Z](?!\w))"),
    re.compile(r"(?:选[项择]?:?|答案[是为]?:?) ?[(\[]?([A-Z])(?!\w)"),
    re.compile(r"\b(?i:it is|it['’]s) [(\[]?([A-Z])(?=[)\].,;:]|$)"),
    re.compile(r"(?<![\w'’])([A-HJ-Z]) is (?:the )?(?:correct|right|best)\b"),
)
_NEGATION: Final = re.compile(
    r"\b(?:not|no|none|neither|nor|never|cannot|incorrect|wrong|false|unlikely|except|rather than|instead of|or)\b"
    r"|n['’]t\b",
    re.IGNORECASE,
)
_DENIED: Final = re.compile(
    r"[)\]]? (?:is|was|are|would be|seems)(?: (?:not|incorrect|wrong|false|the wrong)\b|n['’]t\b)"
)
_YES_NO: Final = re.compile(r"(?:(yes|是的?|对)|no|否|不是|不对)(?=\s?[,.;:!。，]|$)", re.IGNORECASE)
_SENTENCE_LENGTH: Final = 300


def yes_or_no(text: str) -> str | None:
    """`Yes` or `No` where the text is that word or opens with it and a mark: "Yes, because …", never "No answer"."""
    match = _YES_NO.match(plain(text))
    return None if match is None else "Yes" if match[1] else "No"


def letter_alone(text: str, choices: Sequence[str]) -> int | None:
    """The option of a text that is a letter and nothing else: B · (B) · **B** · b. · [B]"""
    match = _LETTER.fullmatch(plain(text)) if len(text) <= MAX_LENGTH else None
    return _index(match[1], choices) if match else None


def option_mentions(text: str, choices: Sequence[str]) -> set[int]:
    """The options that a line names by letter: (B), option B, "B is correct", "B. text" at its start."""
    return {index for index, _ in _mentions(plain(text), choices)}


def affirmed_option(text: str, choices: Sequence[str]) -> int | None:
    """The only option that a line names by letter, if it does not rule it out ("not (B)", "(B) is wrong")."""
    line = plain(text)
    mentions = list(_mentions(line, choices))
    if len({index for index, _ in mentions}) != 1:
        return None
    last = mentions[-1][1]
    return None if _NEGATION.search(line, 0, last) or _DENIED.match(line, last) else mentions[0][0]


def named_option(text: str, choices: Sequence[str]) -> int | None:
    """The index of the one option that an answer names; None if it names none or more than one.

    An upper-case letter alone is the label; any other text that is an option's own text to the letter is that option,
    even where it looks like another's label (options "(c)", "(a)", …).
    """
    if not choices or len(text) > MAX_LENGTH:
        return None
    answer, options = plain(text), [plain(choice) for choice in choices]
    alone = letter_alone(answer, options)
    if alone is not None and answer.strip("()[].:").isupper():
        return alone
    exact = _single((i for i, option in enumerate(options) if option == answer), options)
    if exact is not None or alone is not None:
        return alone if exact is None else exact
    if (found := _by_text(answer, options)) is not None:
        return found
    label = _LABELLED.fullmatch(answer)
    if label and (index := _index(label[1] or label[2], options)) is not None:
        return index if _agrees(index, label[3], options) else None
    return affirmed_option(answer, options) if option_mentions(answer, options) else _by_sentence(answer, options)


def _index(letter: str, choices: Sequence[str]) -> int | None:
    index = LETTERS.index(letter.upper())
    return index if index < len(choices) else None


def _mentions(line: str, choices: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Index and end offset of every option named by letter."""
    at_start = (_LABELLED.match(line), _LETTER.fullmatch(line), _NAMING[0].match(line))
    anywhere = (match for pattern in _NAMING[1:] for match in pattern.finditer(line))
    for match in (*filter(None, at_start), *anywhere):
        group = 1 if match[1] else 2
        if (index := _index(match[group], choices)) is not None:
            yield index, match.end(group)


def _agrees(index: int, rest: str, options: Sequence[str]) -> bool:
    """Whether what follows a label does not name another option: neither by text ("B. <text of C>") nor by letter."""
    described = _by_text(plain(rest), options)
    if described is not None:
        return options[described] == options[index]
    return not _LIST_OF_LETTERS.match(rest) and option_mentions(rest, options) <= {index}


def _single(indices: Iterable[int], options: Sequence[str]) -> int | None:
    """The first of the indices if all of them stand for the same option text; published rows repeat options."""
    found = list(indices)
    return found[0] if found and len({options[i] for i in found}) == 1 else None


def _by_text(answer: str, options: Sequence[str]) -> int | None:
    """The option whose text, or whose value as a number, the whole answer is. Case decides between "Bb" and "bb"."""
    folded = answer.casefold()
    same = [i for i, option in enumerate(options) if option.casefold() == folded]
    if not same:
        return _by_value(read_quantity(answer), options)
    return _single((i for i in same if options[i] == answer), options) if answer in options else _single(same, options)


def _by_value(quantity: Quantity | None, options: Sequence[str]) -> int | None:
    if quantity is None:
        return None
    readings = [read_quantity(option) for option in options]
    return _single((i for i, reading in enumerate(readings) if reading is not None and quantity.same(reading)), options)


def _by_sentence(answer: str, options: Sequence[str]) -> int | None:
    """The one option that a sentence states: its opening yes or no, its only number, or an option's text in it."""
    opening = yes_or_no(answer)
    if opening is not None:
        return _single((i for i, option in enumerate(options) if option.casefold() == opening.casefold()), options)
    if len(answer) > _SENTENCE_LENGTH:
        return None
    stated = _by_value(stated_quantity(answer), options)
    return _by_occurrence(answer.casefold(), options) if stated is None else stated


def _by_occurrence(sentence: str, options: Sequence[str]) -> int | None:
    """The one option whose text stands in the sentence as whole words; of "quarter" and "quarter past" the longer."""
    folded = [option.casefold() for option in options]
    found = [option for option in folded if _is_wordy(option) and _occurrence(option).search(sentence)]
    longest = {option for option in found if not any(option != other and option in other for other in found)}
    if len(longest) != 1:
        return None
    option = longest.pop()
    # An option may hold a negation of its own ("when it does not rain").
    return None if _NEGATION.search(sentence.replace(option, "")) else folded.index(option)


def _is_wordy(option: str) -> bool:
    """Long enough, and not a number or yes or no, to be told from a word that happens to stand in a sentence."""
    return len(option) > 2 and not option.isdecimal() and yes_or_no(option) is None


def _occurrence(option: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(option)}(?!\w)")
