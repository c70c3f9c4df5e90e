"""Check a chat format's description against the template itself: render known contents and compare every token's role.

The expected roles are read from the rendered text, character by character, by where the known words stand; the roles
under test come from token ids. A description that does not fit is refused before anything is measured with it.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from PIL import Image

from avar_eval.attention.chat_formats import ChatFormat, ChatTemplateError, Role, Speaker

_WORDS: dict[Speaker, str] = {"system": "Sysprobe", "user": "Userprobe", "assistant": "Botprobe"}
"""What is said in a probe: words that no template contains."""

_PROBES: tuple[tuple[tuple[Speaker, str], ...], ...] = (
    (("user", "t"),),
    (("user", "it"),),
    (("system", "t"), ("user", "it")),
    (("user", "it"), ("assistant", "t"), ("user", "tit")),
    (("system", "t"), ("user", "iit"), ("assistant", "t"), ("user", "ti")),
)
"""Conversations: speakers and the parts of what they say, t a text, i an image."""


def verify(processor: Any, form: ChatFormat, roles_of: Callable[[Sequence[int]], list[Role]]) -> None:
    """Raise ChatTemplateError if `roles_of` token ids and the text that `processor`'s template renders disagree.

    A template may refuse a conversation (Llama-3.2-Vision: a system message beside an image) but not a plain question.
    """
    for probe in _PROBES:
        text = _rendered(processor, probe)
        if text is None:
            if probe == _PROBES[0]:
                raise ChatTemplateError(f"the chat template of {type(processor).__name__} refuses a plain question")
            continue
        expected = _expected(text, probe, form, processor.tokenizer.bos_token)
        encoded = processor.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        roles = roles_of(encoded["input_ids"])
        for role, (start, end) in zip(roles, encoded["offset_mapping"], strict=True):
            if role not in expected[start:end]:
                raise _mismatch(form, f"{text[start:end]!r} is {role.name} by token ids, else by text, in {text!r}")
    _check_expansion(processor, form)


def _mismatch(form: ChatFormat, what: str) -> ChatTemplateError:
    return ChatTemplateError(f"this chat template is not as {form.family}'s is known to be: {what}")


def _rendered(processor: Any, probe: Sequence[tuple[Speaker, str]]) -> str | None:
    messages = [{"role": speaker, "content": [_part(kind, speaker) for kind in said]} for speaker, said in probe]
    try:
        text: str = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except TemplateError:
        return None
    except ValueError as error:
        raise ChatTemplateError(f"{type(processor).__name__} has no chat template: {error}") from error
    return text


def _part(kind: str, speaker: Speaker) -> dict[str, str]:
    return {"type": "image"} if kind == "i" else {"type": "text", "text": _WORDS[speaker]}


def _expected(text: str, probe: Sequence[tuple[Speaker, str]], form: ChatFormat, begin: str | None) -> list[Role]:
    """The role of each character of a rendered probe."""
    turns = form.turns(text, begin)
    if not turns:
        raise _mismatch(form, f"there is no {form.turn_start} in {text!r}")
    images = sum(said.count("i") for _, said in probe)
    if text.count(form.image) != images:
        raise _mismatch(form, f"{images} images are not {images} times {form.image} in {text!r}")
    speakers = _speakers(probe, form, [text[start:end] for start, end in turns])
    roles = [Role.SYSTEM] * turns[0][0]
    for speaker, (start, end) in zip(speakers, turns, strict=True):
        roles += _expected_in_turn(text[start:end], speaker, form)
    return roles


def _speakers(probe: Sequence[tuple[Speaker, str]], form: ChatFormat, turns: Sequence[str]) -> list[Speaker]:
    """Who must speak in each turn: the probe's speakers, after a default system turn if there is one, then the model.

    The words in the turns decide, not the names in their headers.
    """
    said: list[Speaker] = [speaker for speaker, _ in probe if form.system_turn or speaker != "system"]
    said.append("assistant")
    if form.system_turn and len(turns) == len(said) + 1 and said[0] != "system":
        said.insert(0, "system")
    order = [speaker for turn in turns for speaker, word in _WORDS.items() for _ in range(word in turn)]
    spoken = [speaker for speaker, _ in probe]
    if len(turns) != len(said) or order != spoken:
        raise _mismatch(form, f"turns of {spoken} were asked for, and this was rendered: {''.join(turns)!r}")
    return said


def _expected_in_turn(turn: str, speaker: Speaker, form: ChatFormat) -> list[Role]:
    text = {"system": Role.SYSTEM, "user": Role.USER, "assistant": Role.RESPONSE}[speaker]
    headers = [form.header(speaker, separator) for separator in form.separators]
    header = max((header for header in headers if turn.startswith(header)), key=len, default=None)
    if header is None or turn[len(header) :].startswith((" ", "\n")):
        raise _mismatch(form, f"a turn of the {speaker} begins otherwise than {headers}: {turn!r}")
    roles = [Role.TEMPLATE if speaker == "assistant" else text] * len(header) + [text] * (len(turn) - len(header))
    for token in (*form.delimiters, form.placeholder):
        for found in re.finditer(re.escape(token), turn):
            role = Role.IMAGE if token == form.placeholder else Role.TEMPLATE
            roles[found.start() : found.end()] = [role] * len(token)
    return roles


def _check_expansion(processor: Any, form: ChatFormat) -> None:
    """What the processor itself puts around an image must be known: placeholders, and no other special token."""
    text = _rendered(processor, _PROBES[1])
    tokenizer = processor.tokenizer
    ids = processor(text=[text], images=[[Image.new("RGB", (64, 64))]], add_special_tokens=False)["input_ids"][0]
    special = {int(token): str(added) for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    tokens = {special[token] for token in map(int, ids) if token in special}
    if form.placeholder not in tokens:
        raise _mismatch(form, f"the processor puts no special token {form.placeholder} where an image is")
    known = {form.turn_start, form.turn_end, form.name_end, form.placeholder, *form.delimiters, tokenizer.bos_token}
    unknown = tokens - known
    if unknown:
        raise _mismatch(form, f"special tokens of unknown role around an image: {', '.join(sorted(unknown))}")
