"""What follows "Answer:", "the answer is" and their kin, in English and Chinese."""

import re
from dataclasses import dataclass
from typing import Final

from avar_eval.answers.markup import MAX_LENGTH, plain
from avar_eval.answers.statements import first_sentence

_ADVERBS: Final = (
    r"(?:(?:most |very )?(?:likely|probably|therefore|thus|clearly|indeed|simply|actually|hence|then|still|just|now"
    r"|obviously|definitely|certainly)[,:]? ){0,2}"
)
_IS: Final = (
    r"(?:[:：=→⇒]|->|[-–—](?= )|(?:is|would be|should be|must be|has to be|will be|can only be|turns out to be)\b)"
)
_PHRASE: Final = re.compile(
    rf"(?:\b(?:answer|(?:correct|right|best|closest|final) (?:option letter|option|choice|letter))"
    r"(?: (?:option|choice|letter|here))?"
    r"(?: (?:to|for|of|from|among|amongst|in|with|given|based on|according to|out of)\b[^.:：=\n]{0,100}?)?"
    rf"[\"'*_ ]{{0,4}}{_IS}|\bans\b\.? ?[:：=\-]"
    r"|(?:答案|正确(?:的)?选项|(?<![回解])答(?=[:：]))[】\]*_ ]{0,4}"
    r"(?:应该?是|应当是|应为|就是|是|为|选|[:：])|【答案】)"
    rf"[*_ :：]{{0,6}}{_ADVERBS}"
    r"|^[ ]{0,3}[#*_]{0,6}[ ]{0,2}(?:(?:final|correct) )?answer[*_ ]{0,4}$"
    r"|(?:\b(?:final|correct) |^[ *_#]{0,6})answer[*_]{0,3} (?=[*_(\[$]{0,4}(?:(?-i:[A-Z])"
    r"|[-+]?[0-9][^\n]{0,20})[)\]*_.$]{0,4}\s*$)",
    re.IGNORECASE | re.MULTILINE,
)
# "Here is how I got the answer:" leads to an explanation.
_HOW: Final = re.compile(r"\b(?:how|why)\b[^.:]{0,60}$", re.IGNORECASE)
_PHRASE_WORDS: Final = ("answer", "option", "choice", "letter", "ans", "答", "选项")
_MOST_PHRASES: Final = 8
"""The last ones are looked at: what comes before so many is no final answer."""


@dataclass(frozen=True)
class Phrase:
    """What follows an "Answer:" or "the answer is"; ends_text: whether the response ends with it."""

    text: str
    start: int
    ends_text: bool
    line: str
    next_line: str


def phrases_in(text: str) -> list[Phrase]:
    """What follows each "Answer:" or "the answer is", up to its sentence's end, if anything does."""
    found: list[Phrase] = []
    for match in _phrase_marks(text):
        if _HOW.search(text, text.rfind("\n", 0, match.start()) + 1, match.start()):
            continue
        line, newline, rest = text[match.end() : match.end() + 2 * MAX_LENGTH].lstrip().partition("\n")
        line = line[: MAX_LENGTH + 1]
        sentence = first_sentence(line).strip()
        answer = plain(_without_stray_braces(plain(sentence)))
        if answer.strip("\"'"):
            ends = not newline and sentence == line.strip() and match.end() + 2 * MAX_LENGTH >= len(text)
            found.append(Phrase(answer, match.start(), ends, line, rest.lstrip().partition("\n")[0]))
    return found


def _phrase_marks(text: str) -> list[re.Match[str]]:
    """The last phrases, in their order. Only lines that hold a word of theirs are searched: most hold none."""
    lowered = text.lower()
    if len(lowered) != len(text):  # a letter whose lower case is two: the places do not agree
        return list(_PHRASE.finditer(text))[-_MOST_PHRASES:]
    found: list[re.Match[str]] = []
    places = {word: place for word in _PHRASE_WORDS if (place := lowered.rfind(word)) >= 0}
    while places and (last := max(places.values())) >= 0 and len(found) < _MOST_PHRASES:
        start, stop = text.rfind("\n", 0, last) + 1, text.find("\n", last)
        found = [*_PHRASE.finditer(text, start, len(text) if stop < 0 else stop), *found]
        places |= {word: lowered.rfind(word, 0, start) for word, place in places.items() if place >= start}
    return found[-_MOST_PHRASES:]


def _without_stray_braces(text: str) -> str:
    """What `\\text{Answer: D}` leaves after its phrase, "D}", without the brace that was opened before."""
    if text.startswith("}") and text.count("}") > text.count("{"):  # \\text{The answer is }\\frac{1}{2}
        text = text[1:].lstrip()
    for _ in range(text.count("}") - text.count("{")):
        text = text.removesuffix("}").rstrip()
    return text
