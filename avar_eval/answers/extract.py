"""Where a response says its final answer.

The evidence, strongest first: the last closed `<answer>` or `<conclusion>`, the last balanced `\\boxed{}`, "Answer:" or
"the answer is", an option's letter, yes or no, a value in a closing "Therefore, …", a reply that is nothing but an
answer. What stands inside `<think>` is never searched, and where the evidence is ambiguous there is no answer: a guess
would be credited by chance.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from avar_eval.answers.markup import MAX_LENGTH, boxed, plain
from avar_eval.answers.notation import canonical, is_expression
from avar_eval.answers.options import LETTERS, affirmed_option, letter_alone, named_option, option_mentions, yes_or_no
from avar_eval.answers.quantity import stated_quantity

Evidence = Literal["tag", "boxed", "phrase", "option", "yes_no", "whole"]
FinishReason = Literal["stop", "length"]

_THINK_TAG: Final = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)
# Models trained on LLaVA-CoT's data end in <CONCLUSION>.
_ANSWER_TAG: Final = re.compile(r"<(/?)(?:answer|conclusion)>", re.IGNORECASE)
_PHRASE: Final = re.compile(
    r"(?:\b(?:answer|(?:correct|right|best) (?:option letter|option|choice|letter))"
    r"(?: (?:to|for) (?:the|this|your) (?:question|problem))?"
    r"[\"'*_ ]{0,4}(?:[:：=]|(?:is|would be|should be)\b)|答案[*_ ]{0,4}(?:是|为|[:：]))[*_ :：]{0,6}"
    r"|^[ ]{0,3}[#*_]{1,6}[ ]{0,2}(?:(?:final|correct) )?answer[*_ ]{0,4}$",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE_END: Final = re.compile(r"[.!?。！？][*_\"”)]{0,3}(?:\s|$)|[。！？]")
_ABBREVIATIONS: Final = frozenset({"mt", "st", "dr", "mr", "mrs", "ms", "vs", "fig", "approx", "etc", "sq"})
_ITEM: Final = re.compile(r"\[\s*(?:'([^']*)'|\"([^\"]*)\")\s*\]")
_CLOSING: Final = re.compile(
    r"(?:^|(?<=[.!?。])\s)\W{0,4}(?:therefore|thus|hence|so|in conclusion|因此|所以)\b[,，:]?",
    re.IGNORECASE | re.MULTILINE,
)
_STATES: Final = re.compile(r"\b(?:is|are|was|equals)\b|[是为]")
_CONCLUSION: Final = re.compile(r"\W{0,4}(?:therefore|thus|hence|so|in conclusion|因此|所以)\b", re.IGNORECASE)
_WHOLE_LENGTH: Final = 200
_UNTAGGED_LENGTH: Final = 20_000
_AFTERWORD_LENGTH: Final = 200
# The box of GLM's thinking models.
_TOKEN_BOX: Final = (("<|begin_of_box|>", r"\boxed{"), ("<|end_of_box|>", "}"))


@dataclass(frozen=True)
class Extraction:
    """The final answer of one response.

    state: `scored` with a text; `truncated` if the response ended before its answer; `unparsed` if it holds none.
    text: the answer as written, without its tags, box or phrase; None unless scored. Always encodable as UTF-8.
    evidence: what the answer was found by; None unless scored.
    """

    state: Literal["scored", "truncated", "unparsed"]
    text: str | None = None
    evidence: Evidence | None = None


def final_answer(
    response: str, *, choices: Sequence[str] = (), finish_reason: FinishReason | None = None
) -> Extraction:
    """The final answer of a response, found by the strongest unambiguous evidence.

    choices: the offered options' texts, in the order of their letters; with them, option letters count as evidence.
    finish_reason: `stop` if the model ended its turn, `length` if the token limit cut it, None if unknown. Cut
    responses give only what is complete: a closed tag or box, or a phrase that is not at the very end.
    """
    # A lone surrogate cannot be written to a record.
    visible = _outside_thinking(response.encode("utf-8", "replace").decode())
    if visible is None:
        return Extraction("truncated")
    for token, command in _TOKEN_BOX:
        visible = visible.replace(token, command)
    found = _found(visible, choices, finish_reason)
    item = _ITEM.fullmatch(found.text) if found.text else None
    # The repr of a Python list of one text, in which some pipelines wrap answers.
    return replace(found, text=(item[1] or item[2] or "").strip() or found.text) if item else found


def _found(visible: str, choices: Sequence[str], finish_reason: FinishReason | None) -> Extraction:
    tagged = _in_tag(visible, ended=finish_reason == "stop")
    if tagged is not None:
        return tagged
    found = _boxed(visible) or _phrase(visible, choices, cut=finish_reason == "length")
    if found is None and finish_reason == "length":
        return Extraction("truncated")
    return found or _untagged(visible, choices)


def _outside_thinking(response: str) -> str | None:
    """The response without its think blocks; None if the last one never closes.

    Chat templates that open the block themselves leave a response with the closing tag alone: all before it is thought.
    A second opening tag inside a block is text that the model wrote about tags.
    """
    parts: list[str] = []
    position, inside, seen = 0, False, False
    for tag in _THINK_TAG.finditer(response):
        closing = bool(tag[1])
        if not closing and not inside:
            parts.append(response[position : tag.start()])
            inside = True
        elif closing and not inside and seen:
            parts.append(response[position : tag.start()])
        elif closing:
            inside = False
        else:
            continue
        seen, position = True, tag.end()
    return None if inside else "\n".join([*parts, response[position:]])


def _in_tag(visible: str, *, ended: bool) -> Extraction | None:
    """The content of the last closed `<answer>` or `<conclusion>` that holds something.

    An open one after it was cut off in the middle, unless the model is known to have `ended` its turn there: generation
    that stops at `</answer>` drops that string.
    """
    start, content = None, ""
    for tag in _ANSWER_TAG.finditer(visible):
        if not tag[1]:
            start = tag.end()
        elif start is not None:
            content = visible[start : tag.start()].strip() or content
            start = None
    if start is not None:
        if not ended:
            return Extraction("truncated")
        content = visible[start:].strip() or content
    return Extraction("scored", _refined(content), "tag") if content else None


def _refined(content: str) -> str:
    """The answer inside an `<answer>`: its box, the end of its "the answer is", its closing value, else all of it."""
    inner = _boxed(content)
    if inner is not None and inner.text is not None:
        return inner.text
    if phrase := _last_phrase(content):
        return phrase[0]
    return (_closing_value(content) if "\n" in content else None) or content


def _boxed(visible: str) -> Extraction | None:
    found = boxed(visible)
    if found is None or not found[0].strip():
        return None
    phrase = _last_phrase(found[0])
    return Extraction("scored", phrase[0] if phrase else found[0].strip(), "boxed")


def _phrase(visible: str, choices: Sequence[str], *, cut: bool) -> Extraction | None:
    """The end of the last "the answer is …". With choices it must name one, or a letter elsewhere may do better."""
    phrase = _last_phrase(visible)
    if phrase is None or (cut and phrase[1]):
        return None
    found = Extraction("scored", phrase[0], "phrase")
    if choices and named_option(phrase[0], choices) is None and not cut:
        return _option(visible, choices) or found
    return found


def _last_phrase(text: str) -> tuple[str, bool] | None:
    """What follows the last "Answer:" or "the answer is", up to its sentence's end; whether it ends the text."""
    ends = [match.end() for match in _PHRASE.finditer(text)]
    if not ends:
        return None
    line, newline, _ = text[ends[-1] :].lstrip()[: MAX_LENGTH + 1].partition("\n")
    sentence = _first_sentence(line).strip()
    answer = plain(_without_stray_braces(plain(sentence)))
    return (answer, not newline and sentence == line.strip()) if answer.strip("\"'") else None


def _without_stray_braces(text: str) -> str:
    """What `\\text{Answer: D}` leaves after its phrase, "D}", without the brace that was opened before."""
    for _ in range(text.count("}") - text.count("{")):
        text = text.removesuffix("}").rstrip()
    return text


def _first_sentence(line: str) -> str:
    """The line up to its first full stop; a stop after an option's letter or an abbreviation ends nothing."""
    for stop in _SENTENCE_END.finditer(line):
        words = line[: stop.start()].split()
        word = words[-1].strip("*_(\"'").casefold() if words else ""
        if not (len(words) == 1 and len(word) == 1 and word.isalpha()) and word not in _ABBREVIATIONS:
            return line[: stop.end()]
    return line


def _untagged(visible: str, choices: Sequence[str]) -> Extraction:
    """What a finished response without tag, box or phrase says, if there is no doubt about it."""
    if len(visible) > _UNTAGGED_LENGTH:
        return Extraction("unparsed")
    if choices:
        return _option(visible, choices) or _whole(visible) or Extraction("unparsed")
    return _yes_no(visible) or _closing(visible) or _whole(visible) or Extraction("unparsed")


def _option(visible: str, choices: Sequence[str]) -> Extraction | None:
    """An option that the first line, the last or a conclusion names by letter while no line names another one."""
    lines = [line for line in visible.splitlines() if line.strip()]
    if not lines or len(visible) > _UNTAGGED_LENGTH:
        return None
    # A last line that is a letter and nothing else is an answer, whatever was discussed before.
    index = letter_alone(lines[-1], choices)
    if index is None and len(set().union(*(option_mentions(line, choices) for line in lines))) == 1:
        conclusions = [line for line in lines[1:-1] if _CONCLUSION.match(line)]
        named = (affirmed_option(line, choices) for line in (lines[0], lines[-1], *conclusions))
        index = next((option for option in named if option is not None), None)
    return None if index is None else Extraction("scored", LETTERS[index], "option")


def _yes_no(visible: str) -> Extraction | None:
    """The yes or no that the response opens with, unless another line opens with the other."""
    lines = [line for line in visible.splitlines() if line.strip()]
    words = {word for line in lines if (word := yes_or_no(line))}
    if len(words) != 1 or yes_or_no(lines[0]) is None:
        return None
    return Extraction("scored", words.pop(), "yes_no")


def _closing(visible: str) -> Extraction | None:
    value = _closing_value(visible)
    return None if value is None else Extraction("scored", value, "phrase")


def _closing_value(text: str) -> str | None:
    """The value in the last sentence "Therefore, … is …", if nothing but a few words without numbers follow it."""
    ends = [match.end() for match in _CLOSING.finditer(text)]
    if not ends:
        return None
    line = text[ends[-1] :].lstrip()[: MAX_LENGTH + 1].partition("\n")[0]
    sentence = _first_sentence(line)
    afterword = text[text.index(sentence, ends[-1]) + len(sentence) :]
    if len(afterword) > _AFTERWORD_LENGTH or any(character.isdigit() for character in afterword):
        return None
    stated = _STATES.split(sentence, maxsplit=1)
    value = plain(stated[-1])
    if stated_quantity(value) is None and (len(stated) == 1 or not _is_value(value)):
        return None
    return value


def _is_value(text: str) -> bool:
    """Whether a text is mathematics with a number in it."""
    return any(character.isdigit() for character in text) and is_expression(canonical(text))


def _whole(visible: str) -> Extraction | None:
    """A reply of one short line. Whether it is an answer at all, the kind of answer decides (see verdict.py)."""
    return Extraction("scored", visible.strip(), "whole") if is_short_reply(visible) else None


def is_short_reply(response: str) -> bool:
    """Whether a response is one line of some words."""
    text = response.strip()
    return 0 < len(text) <= _WHOLE_LENGTH and "\n" not in text
