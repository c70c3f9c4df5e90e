"""What of a response its reader sees: no thoughts, no tokens that end a turn, no turns that the model invents."""

import re
from collections.abc import Iterator
from typing import Final

from avar_eval.answers.markup import boxed

# As R1 and its kin write it, Magistral ([THINK]), Kimi (◁think▷), Seed (<seed:think>), EXAONE (<thought>), Sky-T1 and
# OpenThoughts (<|begin_of_thought|>), MedGemma (<unused94>), gpt-oss (its channels).
_THOUGHT: Final = re.compile(
    r"[<\[◁＜]\|?\s?(?P<close>/?)\s?(?:[a-z]{1,20}:)?think(?:ing)?\s?\|?[>\]▷＞]"
    r"|<(?P<closes>/?)\s?(?:thoughts?|reasoning|scratchpad|inner_?thoughts?)\s?>"
    r"|<\|(?:begin_of_thought|(?P<ends>end_of_thought))\|>"
    r"|<unused9(?:4|(?P<unused>5))>"
    r"|<\|channel\|>(?:analysis|commentary|(?P<final>final))<\|message\|>",
    re.IGNORECASE,
)
_THOUGHT_NAMES: Final = ("think", "thought", "reasoning", "scratchpad", "<unused9", "<|channel|>")
ANSWER_TAG: Final = re.compile(r"<(/?)\s?(?:answer|final_answer|conclusion)\s?>", re.IGNORECASE)
"""The tags around a final answer. Models trained on LLaVA-CoT's data end in <CONCLUSION>."""

_TURN_MARK: Final = re.compile(
    r"<\|(?:im_start|start_header_id)\|>assistant(?:<\|end_header_id\|>)?"
    r"|<\|(?:im_end|im_start|endoftext|end_of_text|eot_id|eom_id|eot|eos|end|return|end_of_turn|END_OF_TURN_TOKEN"
    r"|end_of_sentence|start_header_id|assistant|user|system|start|begin_of_text)\|>"
    r"|</?s>|<(?:start|end)_of_turn>|<end_of_utterance>|<[eb]os>|<pad>|<｜(?:end|begin)▁of▁sentence｜>|\[(?:EOS|/INST)\]"
)
_NEXT_QUESTION: Final = re.compile(
    r"^[ \t]{0,8}[#*_>\-]{0,6}[ \t]{0,2}(?:\d{1,3}[.)] )?(?:<\|?user\|?>|\[INST\]"
    r"|(?:(?:new|next|another|follow-?up|similar|practice|further|extra|bonus) )?"
    r"(?:question|problem|exercise|q|human|user|instruction|student|问题|题目|例题|用户)"
    r"[ ]?(?:#?\d{1,3})?[*_]{0,3} ?[:：]"
    r"|(?:(?<=#)|(?<=# ))(?:(?:new|next|another|follow-?up|similar|practice|further|extra|bonus) )?(?:question"
    r"|problem)\b[^\n]{0,20}$)",
    re.IGNORECASE | re.MULTILINE,
)
_MOST_QUESTIONS: Final = 3
"""Invented questions before which an answer is looked for: those after them come after an answer or never had one."""

# "A:" answers "Q:", unless it labels the first of the options.
_QUESTION_AND_ANSWER: Final = re.compile(
    r"^([ \t]{0,8}[*_]{0,3}Q:[^\n]{0,2000}\n\s{0,9})[*_]{0,3}A:[*_]{0,3}(?=\s)", re.MULTILINE
)
_OPTION_B: Final = re.compile(r"^\s{0,9}[*_(]{0,3}B[:.)]", re.MULTILINE)
_AFTER_BOX: Final = re.compile(r"[\s$.*`。]*(?:\\[)\]][\s$.*`。]*)?")
_AFTER_TAG: Final = re.compile(r"[\s$.*`。]*")
_DISPLAY: Final = re.compile(r"(\\\[|\$\$)[ \t]*\n\s{0,9}([^\n]{1,300})\n\s{0,9}(\\\]|\$\$)")


def visible_text(response: str, *, cut: bool) -> str | None:
    """The response without its thoughts and without what stands outside its turn.

    None if the last thought never closes, unless it ends in a closed answer tag or box, which then is all that is
    seen, and the response is not known to be `cut`.
    """
    parts, thought = _outside_thinking(response)
    if thought is not None:
        return None if cut else _answer_at_end(_first_turn(thought))
    visible = _first_turn("\n".join(parts))
    if "Q:" in visible and not _OPTION_B.search(visible):
        visible = _QUESTION_AND_ANSWER.sub(r"\1Answer: ", visible)
    return _DISPLAY.sub(r"\1\2\3", visible) if "\\[" in visible or "$$" in visible else visible


def thought_end(response: str) -> int:
    """Where the last thought of a response ends, with its mark: 0 without one, the response's length if it never does.

    Of reading aids, which fold thoughts; judging goes by `visible_text`.
    """
    parts, unclosed = _outside_thinking(response)
    return len(response) if unclosed is not None else len(response) - len(parts[-1])


def before_invented_questions(visible: str) -> Iterator[str]:
    """What stands before each of the first lines that put a question ("Question: …", "User: …"), if anything does."""
    if not any(mark in visible for mark in (":", "：", "#", "<", "[INST]")):
        return
    found = 0
    for question in _NEXT_QUESTION.finditer(visible):
        if not visible[: question.start()].strip():
            continue
        found += 1
        if found > _MOST_QUESTIONS:
            return
        yield visible[: question.start()]


def _outside_thinking(response: str) -> tuple[list[str], str | None]:
    """The parts of a response outside its think blocks, and the content of the last block if that never closes.

    Chat templates that open the block themselves leave a response with the closing tag alone: all before it is thought.
    A second opening tag inside a block is text that the model wrote about tags.
    """
    lowered = response.lower()
    if not any(name in lowered for name in _THOUGHT_NAMES):
        return [response], None
    parts: list[str] = []
    position, inside, seen = 0, False, False
    for tag in _THOUGHT.finditer(response):
        closing = any(tag[name] for name in ("close", "closes", "ends", "unused", "final"))
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
    return [*parts, *([] if inside else [response[position:]])], response[position:] if inside else None


def _first_turn(text: str) -> str:
    """The text up to the first token that ends a turn; tokens that begin it are left out."""
    if "<" not in text and "[EOS]" not in text and "[/INST]" not in text:
        return text
    return next((part for part in _TURN_MARK.split(text) if part.strip()), "")


def _answer_at_end(thought: str) -> str | None:
    """The closed answer tag or box in which a thought ends, with its tags; None without one."""
    tags = list(ANSWER_TAG.finditer(thought))
    if len(tags) > 1 and tags[-1][1] and not tags[-2][1] and _AFTER_TAG.fullmatch(thought, tags[-1].end()):
        return thought[tags[-2].start() :]
    box = boxed(thought)
    if box is None or not _AFTER_BOX.fullmatch(thought, box[1] + 1):
        return None
    return rf"\boxed{{{box[0]}}}"
