"""Words that look: marks of a solution, the phrases that they become, and what must not be left of a description."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

MARK: Final = re.compile(r"\[\s*LOOK\s*:\s*([^\[\]\n]{1,120}?)\s*\]", re.IGNORECASE)

_DESCRIPTION: Final = (
    r"(?:the|this|that|our|my)\s+(?:given\s+|provided\s+|textual\s+|visual\s+|image\s+)?(?:description|caption)s?"
)
ACCORDING: Final = re.compile(
    rf"(?:,\s*)?\b(?:(?:(?:let\s+me|let['’]s|I(?:\s+will|['’]ll)?|we)\s+)?(?:(?:re-?)?(?:check|read|consult|look)(?:ing)?)"
    rf"(?:\s+back)?(?:\s+(?:at|to|with|against))?|going\s+back\s+to|according\s+to|based\s+on|as\s+(?:\w+\s+)?(?:in|by)|from|per|in)"
    rf"\s+{_DESCRIPTION}(?:\s+again)?\b\s*[,:]?"
    r"|\bas\s+described(?:\s+(?:above|before))?\b\s*[,:]?",
    re.IGNORECASE,
)
"""Ways to go back to the description, with the comma or colon that belongs to them."""

_FORBIDDEN: Final = re.compile(
    r"\b(?:descri(?:b(?:e[sd]?|ing)|ptions?|ptive(?:ly)?)|caption(?:s|ed|ing)?|transcri(?:b(?:e[sd]?|ing)|pts?|ptions?))\b"
    r"|\b(?:text|information)\s+(?:that\s+(?:is|was)\s+)?(?:given|provided|supplied)\b"
    r"|\b(?:given|provided|supplied)\s+(?:text|information)\b"
    r"|\bcannot\s+see\s+(?:the|this)\s+(?:image|picture|figure|diagram)\b"
    r"|\[\s*LOOK\b|</?description>",
    re.IGNORECASE,
)
_IMAGE: Final = re.compile(
    r"\b(?:images?|pictures?|figures?|diagrams?|drawings?|photos?|photographs?|plots?|scenes?|illustrations?)\b",
    re.IGNORECASE,
)
_LOOKING: Final = re.compile(
    r"\b(?:(?:(?:so|now|and|but|then|here|please)\s+)?(?:let\s+me|let['’]s|let\s+us|I(?:['’]ll|\s+will|\s+should|\s+can|\s+must)?"
    r"|we(?:\s+(?:should|can|must))?|by|after|on)\s+)?(?:just\s+|quickly\s+|carefully\s+)?"
    r"(?P<verb>(?P<visual>look(?:ing|s)?|glanc(?:e|ing)|zoom(?:ing)?|gaz(?:e|ing)|peer(?:ing)?)"
    r"|(?:re-?)?(?:check|examin|inspect|verif|confirm|stud|view|observ|focus)(?:e|y|ying|ing)?|return(?:ing)?|go(?:ing)?|turn(?:ing)?)"
    r"(?=\s)(?P<rest>(?:(?!\s(?:which|where|because|so)\s)[^,:;!?\n.—]|\.(?=\d))*)[,:;!?—]?",
    re.IGNORECASE,
)
_VERBS_OF_PLACE: Final = ("return", "go", "turn")
_WORD: Final = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_SMALL: Final = frozenset(("a", "an", "the", "this", "that", "these", "those", "its"))
_ENDS_NAME: Final = re.compile(r"\s+(?:at|in|on|of|with|from|to|near|between)\s+|[(,;:]")

_NAMES_KEPT: Final = 4096
"""Names of objects whose words are remembered: a set's pictures show much the same things."""


@dataclass(frozen=True)
class Anchor:
    """A phrase that looks, at characters `start` to `end`. named: the object of the list that it names, if any.

    whole: it looks at the image as a whole.
    """

    start: int
    end: int
    text: str
    named: str | None
    whole: bool


def marks(text: str) -> list[str]:
    """The objects that the marks of a solution name."""
    return [found[1] for found in MARK.finditer(text)]


def without_marks(text: str) -> str:
    """A solution without its marks and without the words that go back to the description."""
    return ACCORDING.sub(" ", MARK.sub(" ", text))


def forbidden(text: str, question: str) -> str | None:
    """The first word left of a description that the question does not hold itself, None if all is well."""
    asked = {_stem(found[0]) for found in _FORBIDDEN.finditer(question)}
    return next((found[0] for found in _FORBIDDEN.finditer(text) if _stem(found[0]) not in asked), None)


def _stem(word: str) -> str:
    return word.casefold()[:5]


def anchors(text: str, objects: Sequence[str], plain: str) -> list[Anchor]:
    """The looking phrases of an anchored solution.

    A verb of sight makes one; a verb of checking or going does where the phrase names an object or the image. What
    stands in the `plain` solution, word for word, is one of its steps. objects: stage 1's list.
    """
    known = [(name, _core(name)) for name in objects]
    heads = [(name, *_head(name)) for name in objects]
    steps = " ".join(_WORD.findall(plain.casefold()))
    found = []
    for phrase in _LOOKING.finditer(text):
        words = _WORD.findall(phrase["rest"].casefold())
        singular = {_singular(word) for word in words}
        said = [name for name, core in known if core and core <= singular]
        said = said or [name for name, head, label in heads if head in singular or label in phrase["rest"].split()]
        named = _nearest(words, said) if len(said) > 1 else next(iter(said), None)
        whole = named is None and _IMAGE.search(phrase["rest"]) is not None
        sees = phrase["visual"] is not None and re.match(
            r"\s+(?:\w+\s+){0,2}?(?:at|to|on|in|into|again|closely|over)\b", phrase["rest"]
        )
        if not (named or whole or sees) or (
            phrase["verb"].casefold().startswith(_VERBS_OF_PLACE) and not (named or whole)
        ):
            continue
        if " ".join(_WORD.findall(phrase[0].casefold())) in steps:
            continue
        found.append(Anchor(phrase.start(), phrase.end(), phrase[0], named, whole))
    return found


def _nearest(words: Sequence[str], names: Sequence[str]) -> str:
    """The name that has most words in common: "blue circle at row 1" before one at row 2, and that before "circle"."""
    counted = Counter(words)
    return max(names, key=lambda name: (counted & Counter(_WORD.findall(name.casefold()))).total())


@lru_cache(_NAMES_KEPT)
def _core(name: str) -> frozenset[str]:
    """The words by which an object is called: what precedes a preposition or a bracket."""
    head = _ENDS_NAME.split(name, maxsplit=1)[0]
    return frozenset(_singular(word) for word in _WORD.findall(head.casefold()) if word not in _SMALL)


@lru_cache(_NAMES_KEPT)
def _head(name: str) -> tuple[str, str | None]:
    """The noun that a short look may name alone, and the capital label: triangle and ABC, bar and none."""
    words = [word for word in _WORD.findall(_ENDS_NAME.split(name, maxsplit=1)[0]) if word.casefold() not in _SMALL]
    label = next((word for word in reversed(words[1:]) if word.isupper() and word.isalpha()), None)
    nouns = words[: words.index(label)] if label else words
    return (_singular(nouns[-1].casefold()) if nouns else ""), label


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def without_anchors(text: str, found: Sequence[Anchor]) -> str:
    """The text with its looking phrases taken out."""
    parts, position = [], 0
    for anchor in found:
        parts.append(text[position : anchor.start])
        position = anchor.end
    return " ".join([*parts, text[position:]])
