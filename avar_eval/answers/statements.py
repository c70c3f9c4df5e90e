"""The sentences of a response, and the value that one of them states. Words only; nothing is ever computed."""

import re
from typing import Final

from avar_eval.answers.markup import MAX_LENGTH, plain
from avar_eval.answers.quantity import stated_quantity

SENTENCE_END: Final = re.compile(r"[.!?。！？][*_\"”)]{0,3}(?:\s|$)|[。！？]")
_ABBREVIATIONS: Final = frozenset(
    {"mt", "st", "dr", "mr", "mrs", "ms", "vs", "fig", "approx", "etc", "sq", "e.g", "i.e"}
)
_CONCLUDING: Final = r"therefore|thus|hence|so|in conclusion|to conclude|consequently|accordingly|overall|in summary"
_CONCLUSION: Final = re.compile(
    rf"\W{{0,4}}(?:(?:and |but )?(?:{_CONCLUDING})\b|因此|所以|综上|故)[*_]{{0,2}}[,，:]?", re.IGNORECASE
)
_COURTESY: Final = re.compile(
    r"\W{0,4}(?:i hope|hope (?:this|that)|let me know|is there anything|do you (?:have|want|need)|feel free"
    r"|would you like"
    r"|please let|happy to help|sure[,.!]|of course|certainly|i can help|great question|i see the image|looking at the"
    r"|here is|here are|here's)\b[^0-9]*$|\W{0,4}sure\W*$",
    re.IGNORECASE,
)
_BUT: Final = re.compile(r"\W{0,4}(?:but|however|wait|actually|hmm|no,|correction|on second thought)\b", re.IGNORECASE)
_REFUSAL: Final = re.compile(
    r"\b(?:sorry|cannot|can['’]?t|unable|impossible|uncertain|unclear|unknown|not (?:possible|enough|clear|sure|able"
    r"|provide)"
    r"|(?:hard|difficult) to (?:say|tell|determine)|(?:do|does|did)(?: not|n['’]t) (?:know|see|provide|show|have"
    r"|contain"
    r"|include|specify)|no (?:information|answer|way))\b",
    re.IGNORECASE,
)
# A line of a table, a list or a program's output, a rule, a heading.
_NO_PROSE: Final = re.compile(r"\s{0,9}(?:\||```|[-*•+] |\d{1,3}[.)] |#{1,6} |[-*=_]{3,}\s*$)")
_WORD: Final = re.compile(r"[^\W\d_]{2,}")

_NUMBER: Final = (
    r"(?=[-+]?[€£¥]?[0-9]|[-+]?\.[0-9]|[½¼¾⅐-⅞]|\\[dt]?frac"
    r"|(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    r"|seventeen"
    r"|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)\b(?! of (?:the|these|those|them)\b))"
)
_ROUGHLY: Final = (
    r"(?:(?:also|only|exactly|about|approximately|around|roughly|just|then|now|simply|equal to|a total of|indeed"
    r"|therefore"
    r"|thus|currently|likely|still|at|precisely|nearly|estimated (?:at|to be)) ){0,2}"
)
_PREDICATE: Final = re.compile(
    rf"(?<!which )(?<!that )(?<!who )\b(?:is|are|was|were|be|equals?|totals?|becomes?|will be|would be|comes to"
    rf"|amounts to) {_ROUGHLY}{_NUMBER}",
    re.IGNORECASE,
)
_SUBJECT: Final = re.compile(
    rf"(?:{_CONCLUDING})?,? ?([-+]?[€£¥]?[0-9][0-9.,]{{0,20}}) (?:is|are|was|were) (?:the|an?)\b", re.IGNORECASE
)
_EXISTENCE: Final = re.compile(rf"\bthere (?:is|are|was|were|will be|would be) {_ROUGHLY}{_NUMBER}", re.IGNORECASE)
_RESULT: Final = re.compile(r"(?<=[^\s=≈<>≤≥!]) ?[=≈] ?(?=[-+]?[€£¥]?[0-9])")
# What restates the question or explains: the value ends before it.
_TAIL: Final = re.compile(
    r"[,;:] | \(|\b(?:that|which|who|whose|where|when|while|with|without|in|on|at|for|from|between|among|by|after"
    r"|before"
    r"|because|since|as|inside|left of|right of|behind|under|per|according|above|over|below(?! (?:zero|freezing|the))"
    r"|(?:smaller|larger|greater|higher|lower|older|younger|longer|shorter|taller) than)\b",
    re.IGNORECASE,
)
# A condition or a doubt: what follows is not said to be so.
_DOUBT: Final = re.compile(
    r"\b(?:cannot|can['’]t|if|unless|whether|unable|impossible|maybe|perhaps|might|could|suppose|assum(?:e|ing|ed)"
    r"|either"
    r"|neither|nor)\b|\b(?:is|are|was|were|do|does|did)(?: not|n['’]t)\b",
    re.IGNORECASE,
)
_PREMISE: Final = re.compile(
    r"\W{0,4}(?:given|since|if|because|let|suppose|assum|using|first|to (?:find|determine|solve|calculate)"
    r"|we (?:know|have|need)"
    r"|step|from|by|in the given)\b",
    re.IGNORECASE,
)
_RELATIVE: Final = re.compile(r"\b(?:that|which|who)\b[^,]{0,80}", re.IGNORECASE)
_SEVERAL: Final = re.compile(r"[,;](?![0-9]{3}(?![0-9]))|\b(?:and|or)\b", re.IGNORECASE)
_MOST_SENTENCES: Final = 400


def first_sentence(line: str) -> str:
    """The line up to its first full stop; a stop after an option's letter or an abbreviation ends nothing."""
    for stop in SENTENCE_END.finditer(line):
        words = line[: stop.start()].rsplit(maxsplit=1)
        word = words[-1].strip("*_(\"'").casefold() if words else ""
        label = len(words) == 1 and len(word) == 1 and word.isalpha()
        item = word.isdigit() and (words[0][-1] == ":" or (words[0][-1] in ",;" and ": 1." in line))
        if not label and not (item and len(word) < 3) and word not in _ABBREVIATIONS:
            return line[: stop.end()]
    return line


def sentences(text: str) -> list[str]:
    """The sentences of a text in their order, without courtesies, tables, lists and headings.

    A text of more than a few hundred gives those at its two ends.
    """
    found: list[str] = []
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > _MOST_SENTENCES:
        lines = [*lines[: _MOST_SENTENCES // 2], *lines[-_MOST_SENTENCES // 2 :]]
    for line in lines:
        if _NO_PROSE.match(line):
            continue
        rest = line[-MAX_LENGTH:].strip()
        while rest and len(found) < 2 * _MOST_SENTENCES:
            sentence = first_sentence(rest)
            rest = rest[len(sentence) :].lstrip()
            if not _COURTESY.match(sentence):
                found.append(sentence.strip())
    return found


def is_premise(sentence: str) -> bool:
    """Whether a sentence begins as one from which something is to follow: "Since …", "Given that …"."""
    return bool(_PREMISE.match(sentence))


def conclusion_in(sentence: str) -> str | None:
    """What a sentence that opens with "Therefore", "So, …" concludes; None for another sentence."""
    opening = _CONCLUSION.match(sentence)
    return sentence[opening.end() :].strip() if opening else None


def takes_back(sentence: str) -> bool:
    """Whether a sentence begins as one that takes back what was said: "But …", "Wait, …"."""
    return bool(_BUT.match(sentence))


def is_refusal(text: str) -> bool:
    """Whether a text says that its writer does not know: "Sorry, …", "it is not possible to tell"."""
    return bool(_REFUSAL.search(text))


def is_statement(text: str) -> bool:
    """Whether a text says something of the picture: some words, and no refusal."""
    return len(_WORD.findall(text[:MAX_LENGTH])) > 2 and not is_refusal(text[:MAX_LENGTH])


def stated_value(sentence: str) -> str | None:
    """The part of a sentence that is the one value it states, as `stated_quantity` can read it; None without one.

    The sentence itself where that reads it whole. Else what "is", "there are" or the last "=" is followed by, where all
    of them say the same: the other numbers restate the question ("the gap between rows 2 and 5 is 41 cm").
    """
    if len(sentence) > MAX_LENGTH:
        return None
    if stated_quantity(sentence) is not None:
        return sentence
    text = plain(sentence)
    subject = _SUBJECT.match(text)
    if subject is not None and stated_quantity(subject[1]) is not None:
        return subject[1]
    existence = _EXISTENCE.search(text)
    starts = [existence.end()] if existence else [match.end() for match in _PREDICATE.finditer(text)]
    if not starts:
        results = [match.end() for match in _RESULT.finditer(text)]
        one_chain = results and not _SEVERAL.search(text, results[0], results[-1])
        starts = results[-1:] if one_chain else []
    if not starts or _DOUBT.search(_RELATIVE.sub("", text[: starts[0]])):
        return None
    values = {_value_at(text[start:]) for start in starts}
    return values.pop() if len(values) == 1 else None


def _value_at(text: str) -> str | None:
    """The value that a text begins with, if what follows it restates or explains."""
    tail = _TAIL.search(text)
    value = text[: tail.start()].strip() if tail else text
    several = _SEVERAL.search(value) or (tail and tail[0][0] in ",;" and text[tail.end() :].lstrip()[:1].isdigit())
    return None if several or stated_quantity(value) is None else value
