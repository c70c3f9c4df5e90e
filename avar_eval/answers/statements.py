"""The sentences of a response, and the value that one of them states. Words only; nothing is ever computed."""

import re
from typing import Final

from avar_eval.answers.markup import MAX_LENGTH, plain
from avar_eval.answers.quantity import stated_quantity

SENTENCE_END: Final = re.compile(r"[.!?。！？][*_\"”)]{0,3}(?:\s|$)|[。！？]")
_ABBREVIATIONS: Final = frozenset(
    {"mt", "st", "dr", "mr", "mrs", "ms", "vs", "fig", "approx", "etc", "sq", "e.g", "i.e"}
)
_AFTER_NO: Final = re.compile(r"[0-9]|of\b")
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
    r"\b(?:sorry|cannot|can['’]?t|unable|impossible|uncertain|unclear|unknown|not (?:possible|clear|sure|able"
    r"|provided?|known)"
    r"|not enough (?:information|context|data|detail)|(?:hard|difficult) to (?:say|tell|determine|know)"
    r"|(?:do|does|did)(?: not|n['’]t) (?:know|see any|provide|specify|clearly|contain (?:enough|any)|give (?:enough"
    r"|any))"
    r"|no (?:information|answer|way|specific))\b",
    re.IGNORECASE,
)
# "No" alone, with a mark, or before what can only be its reason: "no because …", never "no answer", "no bars".
_YES_NO: Final = re.compile(
    r"(?:(yes|yep|yeah|(?:是|对|有|会|能|可以|正确)的?)|no(?!\. ?(?:[0-9]|of\b))|nope"
    r"|否|(?:不(?:是|对|会|能|可以|正确|行|同意)?|没有?|错误?|无)的?)"
    r"(?:(?=\s?[,.;:!。，；！(]|\s?[-—]|$)|(?= (?:because|since|as|it|they|there|the|this|that|these|those|he|she|we"
    r"|i)\b))",
    re.IGNORECASE,
)
_OTHERWISE: Final = {
    said: re.compile(
        rf"[.,;:—–-]\s?(?:(?:but|wait|actually|hmm|sorry|i mean|rather|or)\b[,.]?\s?){{0,2}}{other}\s?(?:[.,;!]|$)",
        re.I,
    )
    for said, other in (("Yes", "no"), ("No", "yes"))
}
_YES_AT_START: Final = re.compile(r"yes\b(?! (?:or|and)\b|\s?[/?])", re.IGNORECASE)
# A line of a table, a list or a program's output, a rule, a heading.
_NO_PROSE: Final = re.compile(r"\s{0,9}(?:\||```|[-*•+] |\d{1,3}[.)] |#{1,6} |[-*=_]{3,}\s*$)")
_WORD: Final = re.compile(r"[^\W\d_]{2,}")

_NUMBER: Final = (
    r"(?=[-+]?[€£¥]?[0-9]|[-+]?\.[0-9]|[½¼¾⅐-⅞]|\\[dt]?frac"
    r"|(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    r"|seventeen"
    r"|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)\b(?! of (?:the|these|those|them)\b))"
)
_NUMBER_NEXT: Final = re.compile(rf"\s{_NUMBER}", re.IGNORECASE)
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
# "In the list, 3 pupils jumped at least 140 cm."
_LEADING: Final = re.compile(
    r"(?:in [^,]{1,60}, )?([0-9]{1,9}) [a-z]{3,}(?: [a-z]+){1,6}? (?:at least|at most|more than|less than|fewer than"
    r"|above|below"
    r"|over|under|between|[a-z]{2,}er than)\b",
    re.IGNORECASE,
)
# "20 red and 6 blue pens, 26 in total"
_TOTAL: Final = re.compile(
    r"(?:[,;:=]|\bor|\bis|\bare|\bmakes?) ([0-9][0-9.,]{0,20})(?: [a-z]+){0,2} (?:in total|in all|altogether)$",
    re.IGNORECASE,
)
_EXISTENCE: Final = re.compile(rf"\bthere (?:is|are|was|were|will be|would be) {_ROUGHLY}{_NUMBER}", re.IGNORECASE)
_RESULT: Final = re.compile(r"(?<=[^\s=≈<>≤≥!]) ?[=≈] ?(?=[-+]?[€£¥]?[0-9])")
# What restates the question or explains: the value ends before it.
_TAIL: Final = re.compile(
    r"[,;:] | \((?![-+0-9])|\band (?=(?:they|it|these|those|both|all|each|none|is|are)\b)|\b(?:that|which|who|whose"
    r"|where|when"
    r"|while|with|without|in|on|at|for|from|between|among|by|after"
    r"|before"
    r"|because|since|as|inside|left of|right of|behind|under|per|according|above|over|below(?! (?:zero|freezing|the))"
    r"|of|(?:smaller|larger|greater|higher|lower|older|younger|longer|shorter|taller) than)\b",
    re.IGNORECASE,
)
_MID_CONCLUSION: Final = re.compile(r", (?:so|thus|therefore|hence)\b,?\s", re.IGNORECASE)
_SUBORDINATE: Final = re.compile(
    r"(?:since|because|as|given that|after)\b(?:[^.]|\.(?=[0-9]))*?, (?=[a-z])", re.IGNORECASE
)
# Not "the two bars", which says which, nor "one of them"; and "one" is a pronoun more often than a count.
_COUNT: Final = re.compile(
    r"(?<!\bthe )(?<!\bthese )(?<!\bthose )(?<!\bboth )(?<!\bother )(?<!\bof )(?<!\btheir )(?<!\blast )(?<!\bfirst )"
    r"\b(two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen"
    r"|eighteen"
    r"|nineteen|twenty)\b(?!-| (?:hundred|thousand|million|of the|of these|of them))",
    re.IGNORECASE,
)
_MORE: Final = re.compile(
    r"\b(?:more|less|fewer|than|half|twice|times|least|most|between|over|under|hundred|thousand|million|dozen|not|no"
    r"|never"
    r"|one|and|or)\b",
    re.IGNORECASE,
)
# "2 more red balls than blue ones": the difference that was asked for; "2 more than 5" is another number.
_DIFFERENCE: Final = re.compile(
    r"([0-9][0-9.,]{0,20}|[a-z]+) (?:more|fewer|less) [^0-9]{2,}\bthan [^0-9]*$", re.IGNORECASE
)
# A condition or a doubt: what follows is not said to be so.
_DOUBT: Final = re.compile(
    r"\b(?:cannot|can['’]t|if(?! (?:we|you|one)\b)|unless|whether|unable|impossible|maybe|perhaps|may be|might|could"
    r"|suppose|assum(?:e|ing|ed)"
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
_HYPOTHESIS: Final = re.compile(
    r"^(?:let|suppose|assum(?:e|ing))\b|(?<!add )(?<!adds )(?<!sum )\bup to\b", re.IGNORECASE
)
_RELATIVE: Final = re.compile(r"\b(?:that|which|who)\b[^,]{0,80}", re.IGNORECASE)
_SEVERAL: Final = re.compile(r"[,;](?![0-9]{3}(?![0-9]))|\b(?:and|or)\b", re.IGNORECASE)
# "It is 12, not 13" and "not 13, but 12" say 12.
_CONTRAST: Final = re.compile(
    r",? (?:and )?(?:not|rather than|instead of) [-+]?[0-9][0-9.,]{0,20}(?: [a-z]+){0,2}$"
    r"|^(?:it is |it's |there are )?not [-+]?[0-9][0-9.,]{0,20}?(?: [a-z]+){0,2}"
    r"(?:, (?:but|it is|it's)|[;,]? but(?: rather)?)(?= )",
    re.IGNORECASE,
)
# Not 是一个, which is "is a".
_STATED_IN_CHINESE: Final = re.compile(
    r"(?:[有是为]|共计?|等于)\s?(?P<number>-?[0-9][0-9,.]{0,20}|(?!一(?![十百千万点]))[零一二两三四五六七八九十百千万亿点]{1,15})"
    r"\s?(?P<unit>[\u4e00-\u9fff]?)(?!\w*[A-Za-z])"
)
_DOUBT_IN_CHINESE: Final = re.compile(
    r"[不没无非未或若]|如果|可能|也许|至少|至多|最多|超过|少于|多于|以上|以下|多个|几|第"
)
_MOST_VALUES: Final = 8
"""A sentence of more has no one value; and each is looked at up to the sentence's end."""
_MOST_SENTENCES: Final = 400


def yes_or_no(text: str) -> str | None:
    """`Yes` or `No` where the first line is that word or opens with it: "Yes, because …", never "No answer"."""
    line = plain(text.strip().partition("\n")[0])
    match = _YES_NO.match(line)
    said = "Yes" if _YES_AT_START.match(line) else None
    if match is not None:
        said = "Yes" if match[1] else "No"
    # "No... wait, yes."
    return None if said and _OTHERWISE[said].search(line, len(said)) else said


def first_sentence(line: str) -> str:
    """The line up to its first full stop; a stop after an option's letter or an abbreviation ends nothing."""
    for stop in SENTENCE_END.finditer(line):
        words = line[: stop.start()].rsplit(maxsplit=1)
        word = words[-1].strip("*_(\"'").casefold() if words else ""
        label = len(words) == 1 and len(word) == 1 and word.isalpha()
        item = word.isdigit() and (words[0][-1] == ":" or (words[0][-1] in ",;" and ": 1." in line))
        number = word == "no" and _AFTER_NO.match(line, stop.end())  # "No. 3", "no. of bars"
        if not label and not number and not (item and len(word) < 3) and word not in _ABBREVIATIONS:
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
    """Whether a text says something of the picture: some words, and neither a question nor a refusal."""
    said = text[:MAX_LENGTH].strip()
    asks = said.partition("\n")[0].rstrip().endswith("?")
    return len(_WORD.findall(said)) > 2 and not asks and not is_refusal(said)


def stated_value(sentence: str) -> str | None:
    """The part of a sentence that is the one value it states, as `stated_quantity` can read it; None without one.

    The sentence itself where that reads it whole. Else what "is", "there are" or the last "=" is followed by, where all
    of them say the same: the other numbers restate the question ("the gap between rows 2 and 5 is 41 cm").
    """
    if len(sentence) > MAX_LENGTH:
        return None
    text = plain(sentence)
    if text.endswith("?") or _HYPOTHESIS.search(text):
        return None
    if (contrast := _CONTRAST.sub("", text)) != text:
        text = sentence = contrast.strip()
    whole = stated_quantity(sentence)
    if whole is None and not text.isascii() and (value := _value_in_chinese(text)) is not None:
        return value
    counted = _EXISTENCE.search(text) if whole is not None else None
    if whole is not None and (counted is None or _value_at(text[counted.end() :]) is None):
        return sentence
    if whole is not None and (value := _value_in_clause(text)):
        stated = stated_quantity(value)
        return sentence if stated is not None and stated.value == whole.value else value
    concluding = list(_MID_CONCLUSION.finditer(text))
    main = concluding[-1] if concluding else _SUBORDINATE.match(text)
    if main is not None and (value := _value_in_clause(text[main.end() :])):
        return value
    return _value_in_clause(text)


def _value_in_chinese(text: str) -> str | None:
    """The only number of a Chinese sentence, if it is said to be there: 一共有120本书, 有三只猫."""
    found = _STATED_IN_CHINESE.search(text)
    if found is None or _DOUBT_IN_CHINESE.search(text):
        return None
    if any(map(str.isdigit, text[: found.start()] + text[found.end("number") :])):
        return None
    value = f"{found['number']}{found['unit']}"
    return found["number"] if stated_quantity(value) is not None else None


def _value_in_clause(text: str) -> str | None:
    subject = _SUBJECT.match(text)
    if subject is not None and stated_quantity(subject[1]) is not None:
        return subject[1]
    total = _TOTAL.search(text)
    if total is not None and stated_quantity(total[1]) is not None:
        return total[1]
    leading = _LEADING.match(text)
    if leading is not None and stated_quantity(leading[1]) is not None:
        return leading[1]
    starts = [match.end() for match in _EXISTENCE.finditer(text)]
    starts = starts or [match.end() for match in _PREDICATE.finditer(text)]
    if not starts:
        results = [match.end() for match in _RESULT.finditer(text)]
        one_chain = results and not _SEVERAL.search(text, results[0], results[-1])
        starts = results[-1:] if one_chain else []
    if not starts:
        return _counted(text)
    if len(starts) > _MOST_VALUES or _DOUBT.search(_RELATIVE.sub("", text[: starts[0]])):
        return None
    values = {_value_at(text[start:]) for start in starts}
    return values.pop() if len(values) == 1 else None


def _counted(text: str) -> str | None:
    """The only number word of a sentence without digits, if it counts something: "I see eight lamps"."""
    words = list(_COUNT.finditer(text))
    if len(words) != 1 or any(map(str.isdigit, text)) or _DOUBT.search(text) or _MORE.search(text):
        return None
    return words[0][1]


def _value_at(text: str) -> str | None:
    """The value that a text begins with, if what follows it restates or explains."""
    difference = _DIFFERENCE.match(text)
    if difference and stated_quantity(difference[1]) is not None:
        return difference[1]
    tail = _TAIL.search(text)
    value = text[: tail.start()].strip() if tail else text
    if tail and tail[0] == "of" and _NUMBER_NEXT.match(text, tail.end()):
        return None  # "two rows of four"
    several = _SEVERAL.search(value) or (tail and tail[0][0] in ",;" and text[tail.end() :].lstrip()[:1].isdigit())
    return None if several or stated_quantity(value) is None else value
