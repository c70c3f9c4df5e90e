"""Which of the offered options a text names: by letter, by its own text, by its value. Never the nearest one."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from avar_eval.answers.markup import MAX_LENGTH, plain
from avar_eval.answers.option_texts import by_ratio, by_text, by_value, only_option, plain_options, stands_in
from avar_eval.answers.quantity import Quantity, stated_quantity
from avar_eval.answers.statements import stated_value, yes_or_no

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_LETTER: Final = re.compile(r"[#> ]{0,7}(?:(?:=>|[→⇒∴]) ?|(?i:option|choice):? )?[(\[{<]?\s?([A-Za-z])\s?[)\]}>]?[.:]?")
# Fonts that mean another thing in mathematics, but none for a letter alone.
_LETTER_FONT: Final = re.compile(r"\\(?:math(?:cal|scr|frak|bb)|pmb|text(?:color|color\{[a-z]+\}))\{([A-Za-z])\}")
_LABELLED: Final = re.compile(
    r"(?:[(\[]([A-Za-z])[)\]][.:,]?|([A-Za-z])(?:[)\]][.:]?|[.:;!](?=\s)|、|\s-(?=\s)))\s?(.*)"
)
# "A (Yes)", "A, yes", "B = 4", "B 4": the label of an option only where the option's own text follows.
_BESIDE_TEXT: Final = re.compile(r"[(\[]?([A-Z])[)\]]?\s?[(\[,=:\-]?\s?(.*?)[)\]]?")
_BEHIND_TEXT: Final = re.compile(r"(.*?)\s?[(\[]([A-Z])[)\]]")
_NOUN_AND_LETTER: Final = re.compile(
    r"(?:the )?(?i:step|point|option|choice|answer|label|letter|part|region|figure|graph|curve|line|box|structure"
    r"|position"
    r"|location|area|item|picture|image|diagram|stage|section|zone|site|arrow|object|panel|group|type|phase) "
    r"[(\[]?([A-Za-z])[)\]]?|(?:the )?[A-Za-z]{4,12} [(\[]?([A-Z])[)\]]?"
)
_SEVERAL_LETTERS: Final = re.compile(
    r"[(\[]?[A-Z][)\]]?(?:\s?(?:[,;/&、或和与及]\s?(?:and |or )?|(?:and|or) )[(\[]?[A-Z][)\]]?)+(?![A-Za-z0-9_])"
    r"(?!.{0,3}[错误不])"
)
_OR_LETTER: Final = re.compile(r"\b(?:or|and) [(\[]?[A-Z](?![\w'’-])")
_LIST_OF_LETTERS: Final = re.compile(r"(?:[,;/&或和与及]|and\b|or\b)\s?[(\[]?[A-Za-z](?![A-Za-z0-9_])")
_CAPITAL: Final = re.compile(r"(?<![\w'’])[B-HJ-Z](?![\w'’])|(?<=[a-z] )A(?=[)\]]?$)")
_LONE_LETTER: Final = re.compile(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])")
# "B because …" names B; "A triangle" and "I think" name nothing.
_NAMING: Final = (
    re.compile(r"([A-Z])(?=,? (?:because|since|as|which|is)\b)"),
    re.compile(r"[(\[]([A-Z])[)\]]"),
    re.compile(r"\b(?i:option|choice|letter|answer(?: is|:)) ?[(\[]?([A-Z])(?![\w'’]|,? ?(?:or|and|/)? ?[A-Z](?!\w))"),
    re.compile(r"\b(?i:it is|it['’]s) [(\[]?([A-Z])(?=[)\].,;:]|$)"),
    re.compile(
        r"(?<![\w'’])([A-HJ-Z]) (?:is|must be|would be|should be|has to be) (?:the )?(?:correct|right|best|answer)\b"
    ),
    re.compile(
        r"\b(?i:choose|chose|select|selected|pick|picked|go with|went with|opt for|going with) (?:the )?[(\[]?([A-Z])"
        r"(?=[)\].,;:]|$| (?:because|since|as|for)\b)"
    ),
    re.compile(r"(?i:thus|so|hence|therefore|finally)[,:]? [(\[]?([A-Z])(?=[)\].,;:]|$)"),
    re.compile(
        r"\b(?i:is|be|by|as)(?: likely| probably| clearly| therefore)?:? (?:the )?[(\[]?([A-Z])"
        r"(?=[)\]]?(?:$|,? (?:because|since|as|for)\b))"
    ),
)
_NAMING_IN_CHINESE: Final = (
    re.compile(
        r"(?:选[项择]?(?:应该)?[是为]?:?|答案[】\]]?(?:应该?|应当)?[是为选]?:?"
        r"|(?:认为|应该|应当|应|正确的)[是为选]) ?[(\[]?([A-Z])(?![A-Za-z0-9_'])"
    ),
    re.compile(r"(?<![A-Za-z])([A-Z]) ?(?=选?项(?!.{0,4}[错误不])|是(?:正确|对|答案))"),
)
_NEGATION: Final = re.compile(
    r"\b(?:not|no|none|neither|nor|never|cannot|incorrect|wrong|false|unlikely|except|rather than|instead of|or)\b"
    r"|n['’]t\b",
    re.IGNORECASE,
)
_SUPPOSED: Final = re.compile(r"\b(?:could|might|may|maybe|perhaps|possibly|whether|if)\b", re.IGNORECASE)
_DENIED: Final = re.compile(
    r"[)\]]? (?:is|was|are|would be|seems)(?: (?:not|too|incorrect|wrong|false|unlikely"
    r"|impossible|out|(?:ruled|left) out|excluded|eliminated|the wrong)\b|n['’]t\b)"
)
_DENIED_IN_CHINESE: Final = re.compile(
    r"(?:不(?:能|应该?|可以?|会)?选|排除|不是|并非) ?(?:选?项|答案)?[(\[]?[A-Z](?![A-Za-z])"
    r"|[A-Z][)\]]? ?选?项?[都均]?是?(?:错|不|并不|有误)"
)
_SENTENCE_LENGTH: Final = 300
_OPENING: Final = re.compile(r"[^\W_]{2,30}(?=[.;:!。]|$)|(?:true|false)(?=[,，])", re.IGNORECASE)
_BOLD: Final = re.compile(r"\*\*([^*\n]{1,300})\*\*")
_INNER_LABEL: Final = re.compile(r"(?<![\w'’])([A-Z])[).:] (?=\S)")
_OF_LABEL: Final = " ()[]}.,:*-–—=、"
_RULED_OUT: Final = re.compile(
    r"\b(?:(?:rul|exclud|eliminat|discard|reject|skip|omit)\w*|but|besides|unlike|other than|apart from|before"
    r"|after)\b",
    re.IGNORECASE,
)
# "The valve is marked C": where only letters are offered, the one that a sentence ends in.
_FINAL_LETTER: Final = re.compile(r"[^.]*\b[A-Za-z][a-z]+ [(\[]?([A-Z])[)\]]?")
_CALLED: Final = re.compile(r"\b(?:labell?ed|marked|lettered|called|named) [(\[]?([A-Z])(?![\w'’])")
# "It is not A, so it must be B": what counts is what the last clause says.
_CLAUSES: Final = re.compile(r"; |，(?=故|所以|因此|应|答案|正确)|, (?=(?:so|hence|therefore|thus|which means)\b)")
# "B, not C" is B.
_CONTRAST: Final = re.compile(r",? (?:and )?(?:not|rather than|instead of) [(\[]?[A-Z][)\]]?$")
_CLAUSE_END: Final = re.compile(r"[.,;:!?](?:\s|$)")
_ARTICLE: Final = re.compile(r"(?:the|a|an) ")


def standalone_letter(text: str, choices: Sequence[str]) -> int | None:
    """The option of a text that is a letter and nothing else: B · (B) · **B** · b. · [B] · \\mathcal{B}"""
    match = _LETTER.fullmatch(_LETTER_FONT.sub(r"\1", plain(text))) if len(text) <= MAX_LENGTH else None
    return _index(match[1], choices) if match else None


def named_letter(text: str) -> int | None:
    """The letter that an answer names where no options are known: alone, as "step b", or as `affirmed_option` does."""
    if len(text) > MAX_LENGTH:
        return None
    found = standalone_letter(text, LETTERS)
    if found is not None:
        return found
    line = plain(text)
    noun = _NOUN_AND_LETTER.fullmatch(line)
    if noun:
        return LETTERS.index((noun[1] or noun[2]).upper())
    final = _final_letter(line)
    return affirmed_option(text, LETTERS) if final is None else final


def _final_letter(line: str) -> int | None:
    """The only letter of a sentence, if it ends in it: "the valve is marked C"."""
    final = _FINAL_LETTER.fullmatch(line)
    denied = _NEGATION.search(line) or _RULED_OUT.search(line)
    alone = final is not None and not denied and len(_CAPITAL.findall(line)) == 1
    return LETTERS.index(final[1]) if final is not None and alone else None


@lru_cache(maxsize=1024)
def _are_letters(choices: tuple[str, ...]) -> bool:
    """Whether the options are their labels alone: their texts stand in the picture."""
    return all(plain(choice).strip("()") == letter for letter, choice in zip(LETTERS, choices, strict=False))


def names_several(text: str) -> bool:
    """Whether a text opens with a list of letters: "A, B" or "A and D"."""
    return bool(_SEVERAL_LETTERS.match(plain(text)))


def begins_with_label(text: str) -> bool:
    """Whether a text begins with a label or is one: "A. …", "(B) …", "C"."""
    line = plain(text)
    return bool(_LABELLED.match(line) or _LETTER.fullmatch(line))


def denies(text: str) -> bool:
    """Whether a text rules something out, or leaves it open: "not (A)", "none of these", "A or B"."""
    return bool(_NEGATION.search(plain(text)))


def option_mentions(text: str, choices: Sequence[str]) -> set[int]:
    """The options that a line names by letter: (B), option B, "B is correct", "B. text" at its start."""
    return {index for index, _ in _mentions(plain(text), choices)}


def bold_spans(text: str) -> list[str]:
    """What stands in bold."""
    return [plain(span[1]) for span in _BOLD.finditer(text)]


def bold_options(text: str, choices: Sequence[str]) -> set[int]:
    """The options whose label, with their own text or alone, stands in bold."""
    return {index for span in bold_spans(text) if (index := labelled_option(span, choices)) is not None}


def labelled_option(text: str, choices: Sequence[str]) -> int | None:
    """The option of a line that is a letter, or a letter and that option's own text; other words are not read."""
    line, options = _CONTRAST.sub("", plain(text)), plain_options(tuple(choices))
    index = standalone_letter(line, options)
    if index is not None:
        return index
    label = _LABELLED.fullmatch(line)
    index = _index(label[1] or label[2], options) if label else None
    if label is None or index is None:
        beside = _letter_and_text(line, options)
        return beside[0] if beside is not None and options[beside[0]] == options[beside[1]] else None
    described = by_text(plain(label[3].rstrip(":")), options)
    return index if described is not None and options[described] == options[index] else None


def affirmed_option(text: str, choices: Sequence[str]) -> int | None:
    """The only option that a line names by letter, if it does not rule it out ("not (B)", "(B) is wrong")."""
    line = plain(text)
    line = _CONTRAST.sub("", line)
    last_clause = _CLAUSES.split(line)[-1] if len(line) <= _SENTENCE_LENGTH else line
    mentions = list(_mentions(last_clause, choices))
    if mentions:
        line = last_clause
    else:
        mentions = list(_mentions(line, choices))
    if len({index for index, _ in mentions}) != 1 or _SEVERAL_LETTERS.search(line):
        return None
    index, last = mentions[0][0], max(end for _, end in mentions)
    if (
        _NEGATION.search(line, 0, last)
        or _SUPPOSED.search(line, 0, last)
        or _DENIED.match(line, last)
        or _DENIED_IN_CHINESE.search(line)
    ):
        return None
    behind = _BEHIND_TEXT.fullmatch(line)
    described = _text_after(line, last, choices)
    if described is None and behind:
        described = _text_before(plain(behind[1]), plain_options(tuple(choices)))
    return index if described is None or plain(choices[described]) == plain(choices[index]) else None


def named_option(text: str, choices: Sequence[str]) -> int | None:
    """The index of the one option that an answer names; None if it names none or more than one.

    An upper-case letter alone is the label; any other text that is an option's own text to the letter is that option,
    even where it looks like another's label (options "(c)", "(a)", …).
    """
    if not choices or len(text) > MAX_LENGTH:
        return None
    answer, options = plain(text), plain_options(tuple(choices))
    alone = standalone_letter(answer, options)
    if alone is not None and answer.strip("()[].:").isupper():
        return alone
    exact = only_option((i for i, option in enumerate(options) if option == answer), options)
    if exact is not None or alone is not None:
        return alone if exact is None else exact
    if (found := by_text(answer, options)) is not None:
        return found
    said, _, denied = answer.partition(", not ")
    if denied and by_text(denied, options) is not None:  # "jade, not onyx"
        return named_option(said, choices)
    label = _LABELLED.fullmatch(answer)
    if label and (index := _index(label[1] or label[2], options)) is not None:
        return index if _agrees(index, label[3], options) else None
    beside = _letter_and_text(answer, options)
    if beside is not None:
        return beside[0] if options[beside[0]] == options[beside[1]] else None
    bold = bold_options(text, options)
    if len(bold) == 1:
        return bold.pop()
    return affirmed_option(answer, options) if option_mentions(answer, options) else _by_sentence(answer, options)


def option_stated(sentence: str, choices: Sequence[str]) -> int | None:
    """The option that a sentence of a longer response states: by its text at either end, or by its value.

    "Silver birch is the likeliest", "the kiosk is painted yellow", "the tank is at 9 %"; not "the yellow kiosk stands".
    """
    line, options = plain(sentence), plain_options(tuple(choices))
    if len(line) > _SENTENCE_LENGTH:
        return None
    opening = _OPENING.match(line)
    word = opening and by_text(opening[0], options)
    if word is not None:
        return word
    index = _by_sentence(line, options)
    if index is None or by_value(_line_value(line), options) is not None:
        return index
    folded, option = line.casefold(), options[index].casefold()
    return index if folded.endswith(option) or _ARTICLE.sub("", folded, count=1).startswith(option) else None


def _index(letter: str, choices: Sequence[str]) -> int | None:
    index = LETTERS.index(letter.upper())
    return index if index < len(choices) else None


def _mentions(line: str, choices: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Index and end offset of every option named by letter."""
    if not _LONE_LETTER.search(line):
        return
    at_start = (_LABELLED.match(line), _LETTER.fullmatch(line), _NAMING[0].match(line))
    patterns = _NAMING[1:] if line.isascii() else _NAMING[1:] + _NAMING_IN_CHINESE
    anywhere = (match for pattern in patterns for match in pattern.finditer(line))
    for match in (*filter(None, at_start), *anywhere):
        group = 1 if match[1] else 2
        if (index := _index(match[group], choices)) is not None:
            yield index, match.end(group)
    if _are_letters(tuple(choices)):
        if (final := _final_letter(line)) is not None and final < len(choices):
            yield final, len(line)
        for match in _CALLED.finditer(line):
            if (index := _index(match[1], choices)) is not None:
                yield index, match.end(1)
    if len(line) <= _SENTENCE_LENGTH:
        for match in _INNER_LABEL.finditer(line):
            index = _index(match[1], choices)
            if index is not None and _text_after(line, match.end(), choices) == index:
                yield index, match.end(1)


def _letter_and_text(answer: str, options: Sequence[str]) -> tuple[int, int] | None:
    """The option of the letter and that of the text that an answer is: "A (Yes)", "A yes", "Yes (A)"; else None."""
    for pattern, letter, text in ((_BESIDE_TEXT, 1, 2), (_BEHIND_TEXT, 2, 1)):
        match = pattern.fullmatch(answer)
        index = _index(match[letter], options) if match else None
        if match and index is not None and (described := by_text(plain(match[text]), options)) is not None:
            return index, described
    return None


def _text_after(line: str, position: int, choices: Sequence[str]) -> int | None:
    """The option whose own text follows a label that ends at the position, up to the clause's end."""
    rest = line[position:].lstrip(_OF_LABEL)
    if not rest:
        return None
    end = _CLAUSE_END.search(rest)
    return by_text(plain(rest[: end.start()] if end else rest).rstrip(")]"), plain_options(tuple(choices)))


def _text_before(line: str, options: Sequence[str]) -> int | None:
    """The option in whose own text a line ends: "it is Mars"."""
    whole = by_text(line, options)
    if whole is not None:
        return whole
    folded = line.casefold()
    ends = [option for option in options if _is_wordy(option) and re.search(rf"\b{re.escape(option)}$", folded, re.I)]
    return options.index(max(ends, key=len)) if ends else None


def _agrees(index: int, rest: str, options: Sequence[str]) -> bool:
    """Whether what follows a label does not name another option: neither by text ("B. <text of C>") nor by letter."""
    described = by_text(plain(rest), options)
    if described is not None:
        return options[described] == options[index]
    return (
        not _LIST_OF_LETTERS.match(rest) and not _OR_LETTER.search(rest) and option_mentions(rest, options) <= {index}
    )


def _line_value(sentence: str) -> Quantity | None:
    """The number that a sentence states."""
    value = stated_value(sentence)
    return None if value is None else stated_quantity(value)


def _by_sentence(answer: str, options: Sequence[str]) -> int | None:
    """The one option that a sentence states: its opening yes or no, its only number, or an option's text in it."""
    opening = yes_or_no(answer)
    if opening is not None:
        return only_option((i for i, option in enumerate(options) if option.casefold() == opening.casefold()), options)
    if len(answer) > _SENTENCE_LENGTH or answer.endswith("?"):
        return None
    value = stated_value(answer)
    stated = None if value is None else by_value(stated_quantity(value), options)
    if stated is None and value is not None:
        stated = by_ratio(value, options)
    if stated is not None:
        return stated
    *before, last = _CLAUSES.split(answer.casefold())
    concluded = _by_occurrence(last, options) if before else None
    return _by_occurrence(answer.casefold(), options) if concluded is None else concluded


def _by_occurrence(sentence: str, options: Sequence[str]) -> int | None:
    """The one option whose text stands in the sentence as whole words; of "quarter" and "quarter past" the longer."""
    folded = [option.casefold() for option in options]
    found = [option for option in folded if _is_wordy(option) and stands_in(option, sentence)]
    longest = {option for option in found if not any(option != other and option in other for other in found)}
    if len(longest) != 1:
        return None
    option = longest.pop()
    if folded.count(option) > 1:  # 3 mW is not 3 MW
        return None
    # An option may hold a negation of its own ("when it does not rain").
    return None if _NEGATION.search(sentence.replace(option, "")) else folded.index(option)


def _is_wordy(option: str) -> bool:
    """Long enough, and not a number or yes or no, to be told from a word that happens to stand in a sentence."""
    return len(option) > 2 and not option.isdecimal() and yes_or_no(option) is None
