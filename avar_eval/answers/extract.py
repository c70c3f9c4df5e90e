"""Where a response says its final answer.

The evidence, strongest first: the last closed `<answer>` or `<conclusion>`, the last balanced `\\boxed{}`, "Answer:" or
"the answer is", an option's letter, yes or no, a value in a closing "Therefore, …", a reply that is nothing but an
answer, what the first or last sentence states. What is thought is never searched, nor what the model goes on to ask and
answer itself (visible.py), and where the evidence is ambiguous there is no answer: a guess would be credited by chance.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, assert_never

from avar_eval.answers.equal import read_list
from avar_eval.answers.markup import boxed, plain, restored
from avar_eval.answers.notation import canonical, is_expression
from avar_eval.answers.options import (
    LETTERS,
    denies,
    labelled_option,
    named_letter,
    named_option,
    names_several,
    option_mentions,
    standalone_letter,
)
from avar_eval.answers.phrases import Phrase, phrases_in
from avar_eval.answers.quantity import stated_quantity
from avar_eval.answers.statements import stated_value, yes_or_no
from avar_eval.answers.untagged import (
    chosen_letter,
    closing_value,
    list_in_prose,
    option_in_words,
    standalone_value,
    stated_yes_or_no,
    value_in_prose,
)
from avar_eval.answers.visible import ANSWER_TAG, before_invented_questions, visible_text

Evidence = Literal["tag", "boxed", "phrase", "option", "yes_no", "whole"]
FinishReason = Literal["stop", "length"]
Wanted = Literal["choice", "number", "expression", "list", "yes_no", "text"]
"""What kind of answer the question has. Only words that can be one are searched for it."""

_ITEM: Final = re.compile(r"\[\s*(?:'([^']*)'|\"([^\"]*)\")\s*\]")
_SYMBOLS: Final = frozenset("√π\\^")
_WHOLE_LENGTH: Final = 200
_UNTAGGED_LENGTH: Final = 20_000
_REPLY_WORDS: Final = 5
_BARE_BOX: Final = re.compile(r"\\boxed\s{1,3}([A-Za-z]|-?[0-9][0-9.]{0,20})(?!\w)")
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
    response: str,
    *,
    choices: Sequence[str] = (),
    wanted: Wanted | None = None,
    finish_reason: FinishReason | None = None,
) -> Extraction:
    """The final answer of a response, found by the strongest unambiguous evidence.

    choices: the offered options' texts, in the order of their letters; with them, option letters count as evidence.
    wanted: the kind of answer; without it "choice" where there are choices and else "text".
    finish_reason: `stop` if the model ended its turn, `length` if the token limit cut it, None if unknown. Cut
    responses give only what is complete: a closed tag or box, or a phrase that is not at the very end.
    """
    # A lone surrogate cannot be written to a record.
    text = restored(response.encode("utf-8", "replace").decode())
    visible = visible_text(text, cut=finish_reason == "length")
    if visible is None:
        return Extraction("truncated")
    for token, command in _TOKEN_BOX:
        visible = visible.replace(token, command)
    visible = _BARE_BOX.sub(r"\\boxed{\1}", visible)
    reading = _Reading(tuple(choices), wanted or ("choice" if choices else "text"))
    for before in before_invented_questions(visible):
        found = reading.of(before, "stop")
        if found.text is not None and (found.evidence != "whole" or reads_as(found.text, reading.wanted, choices)):
            break
    else:
        found = reading.of(visible, finish_reason)
    item = _ITEM.fullmatch(found.text) if found.text else None
    # The repr of a Python list of one text, in which some pipelines wrap answers.
    return replace(found, text=(item[1] or item[2] or "").strip() or found.text) if item else found


def reads_as(text: str, wanted: Wanted, choices: Sequence[str]) -> bool:
    """Whether a text is an answer of the kind that is wanted, by itself."""
    match wanted:
        case "choice":
            return (named_option(text, choices) if choices else named_letter(text)) is not None
        case "number":
            return stated_quantity(text) is not None and stated_value(text) is not None
        case "expression":
            return stated_quantity(text) is not None or is_expression(canonical(text))
        case "list":
            return read_list(text) is not None
        case "yes_no":
            return yes_or_no(text) is not None
        case "text":
            return len(plain(text).split()) <= _REPLY_WORDS
    assert_never(wanted)


@dataclass(frozen=True)
class _Reading:
    """How the responses to one kind of question are read."""

    choices: tuple[str, ...]
    wanted: Wanted

    def of(self, visible: str, finish_reason: FinishReason | None) -> Extraction:
        tagged = self._in_tag(visible, ended=finish_reason == "stop")
        if tagged is not None:
            return tagged
        cut = finish_reason == "length"
        found = self._boxed_or_phrase(visible, cut=cut)
        if found is None and cut:
            return Extraction("truncated")
        return found or self._untagged(visible, ended=finish_reason == "stop")

    def _in_tag(self, visible: str, *, ended: bool) -> Extraction | None:
        """The content of the last closed `<answer>` or `<conclusion>` that holds something.

        An open one after it was cut off in the middle, unless the model is known to have `ended` its turn there:
        generation that stops at `</answer>` drops that string.
        """
        start, content = None, ""
        for tag in ANSWER_TAG.finditer(visible):
            if not tag[1]:
                start = tag.end()
            elif start is not None:
                content = visible[start : tag.start()].strip() or content
                start = None
        if start is not None:
            if not ended:
                return Extraction("truncated")
            content = visible[start:].strip() or content
        return Extraction("scored", self._refined(content), "tag") if content else None

    def _refined(self, content: str) -> str:
        """The answer inside an `<answer>`: its box, its phrase, what it says in more than a line, else all of it."""
        found = self._boxed_or_phrase(content, cut=False)
        if found is None and ("\n" in content or not reads_as(content, self.wanted, self.choices)):
            found = self._untagged(content, ended=True)
        if found is None or found.text is None or found.evidence == "whole":
            return self._value(content)
        return found.text

    def _boxed_or_phrase(self, visible: str, *, cut: bool) -> Extraction | None:
        """The last box, else the last phrase. With choices, a box that names none gives way to a phrase that does."""
        box, phrases = boxed(visible), phrases_in(visible)
        if box is None:
            return self._phrase(visible, phrases, cut=cut)
        inner = phrases_in(box[0])
        found = Extraction("scored", inner[-1].text if inner else box[0].strip(), "boxed")
        if self.choices and phrases and found.text is not None:
            last, boxed_option = phrases[-1], named_option(found.text, self.choices)
            phrase_option = named_option(last.text, self.choices)
            by_letter = standalone_letter(found.text, self.choices) is not None
            if phrase_option is not None and (boxed_option is None or (last.start > box[1] and not by_letter)):
                return Extraction("scored", last.text, "phrase")
        return found

    def _phrase(self, visible: str, phrases: Sequence[Phrase], *, cut: bool) -> Extraction | None:
        """The end of the last "the answer is …". With choices it must name one, or a letter elsewhere may do better."""
        if not phrases or (cut and phrases[-1].ends_text):
            return None
        last = Extraction("scored", phrases[-1].text, "phrase")
        if self.wanted == "number":
            return replace(last, text=self._value(phrases[-1].text))
        if cut or not self.choices:
            return last
        for phrase in reversed(phrases):
            if self._begins_listing(phrase):
                return self._option(visible)
            if named_option(phrase.text, self.choices) is not None:
                return Extraction("scored", phrase.text, "phrase")
            if names_several(phrase.text) or denies(phrase.text):
                return last
        return self._option(visible) or last

    def _begins_listing(self, phrase: Phrase) -> bool:
        """Whether "the answer is:" is followed by the options, in one line or one a line, and so by none."""
        if not denies(phrase.line) and len(option_mentions(phrase.line, self.choices)) > 1:
            return True
        labels = [labelled_option(line, self.choices) for line in (phrase.text, phrase.next_line)]
        return None not in labels and labels[0] != labels[1]

    def _untagged(self, visible: str, *, ended: bool) -> Extraction:
        """What a finished response without tag, box or phrase says, if there is no doubt about it."""
        if len(visible) > _UNTAGGED_LENGTH:
            return Extraction("unparsed")
        whole = Extraction("scored", visible.strip(), "whole") if is_short_reply(visible) else None
        found: Extraction | None = None
        match self.wanted:
            case "choice":
                found = self._option(visible)
            case "yes_no" | "text":
                word = stated_yes_or_no(visible)
                found = None if word is None else Extraction("scored", word, "yes_no")
            case "number" | "expression" | "list":
                pass
        if found is None and self.wanted not in ("choice", "yes_no"):
            value = closing_value(visible)
            found = None if value is None else Extraction("scored", value, "phrase")
        if found is None and whole is not None and whole.text and reads_as(whole.text, self.wanted, self.choices):
            return replace(whole, text=self._value(whole.text))
        if found is None and self.choices:
            index = option_in_words(visible, self.choices)
            found = None if index is None else Extraction("scored", LETTERS[index], "option")
            value = closing_value(visible) if found is None else None
            if value and not _SYMBOLS.isdisjoint(value):  # √3 or π/2, which `option_equal` compares with the options
                found = Extraction("scored", value, "phrase")
        if found is None and self.wanted == "list":
            value = list_in_prose(visible)
            found = None if value is None else Extraction("scored", value, "phrase")
        if found is None and self.wanted in ("number", "expression"):
            expression = self.wanted == "expression"
            value = standalone_value(visible, expression=expression)
            value = value or value_in_prose(visible, expression=expression, ended=ended)
            found = None if value is None else Extraction("scored", value, "phrase")
        return found or whole or Extraction("unparsed")

    def _value(self, text: str) -> str:
        """Where a number is wanted, the part of a sentence that states it; else the text."""
        return (stated_value(text) if self.wanted == "number" else None) or text

    def _option(self, visible: str) -> Extraction | None:
        if len(visible) > _UNTAGGED_LENGTH:
            return None
        index = chosen_letter(visible, self.choices or LETTERS[:10])
        return None if index is None else Extraction("scored", LETTERS[index], "option")


def is_short_reply(response: str) -> bool:
    """Whether a response is one line of some words."""
    text = response.strip()
    return 0 < len(text) <= _WHOLE_LENGTH and "\n" not in text
