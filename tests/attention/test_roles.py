"""Every token's role, read back as text for each family's chat template; batches, and descriptions that do not fit."""

import dataclasses
import json
import re
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from family_models import FAMILIES, _llava_processor, own
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from avar_eval.attention import chat_formats
from avar_eval.attention.roles import ChatMarkup, ChatTemplateError, Role, TokenRoles, batch_roles

CASES: dict[str, dict[str, list[list[str]]]] = json.loads((Path(__file__).parent / "role_cases.json").read_text())
"""family -> conversation -> its runs of one role and their text; the placeholders of an image stand as one."""

PICTURE = Image.new("RGB", (40, 30))


def said(speaker: str, *parts: str) -> dict[str, Any]:
    """A turn; the part "<image>" stands for an image."""
    content = [{"type": "image"} if part == "<image>" else {"type": "text", "text": part} for part in parts]
    return {"role": speaker, "content": content}


TWO_QUESTIONS = [
    said("user", "<image>", "First question?", "<image>"),
    said("assistant", "First answer."),
    said("user", "Second.", "<image>"),
]
CONVERSATIONS = {
    "system, images, two questions": [said("system", "Be brief."), *TWO_QUESTIONS],
    "images, two questions": TWO_QUESTIONS,
    "text": [said("user", "One?")],
}


@cache
def all_markups() -> dict[str, tuple[Any, ChatMarkup]]:
    """Processor and markup of each family."""
    processors = {name: family.processor() for name, family in FAMILIES.items()}
    processors["llava_onevision_lines"] = _llava_processor(own("llava_onevision_lines"))
    return {name: (processor, ChatMarkup(processor)) for name, processor in processors.items()}


@pytest.fixture
def markups() -> dict[str, tuple[Any, ChatMarkup]]:
    return all_markups()


def token_ids(processor: Any, messages: list[Any], **template: Any) -> list[int]:
    """The prompt as a model gets it: rendered, its images expanded, begun with the begin-of-sequence token."""
    text = processor.apply_chat_template(messages, tokenize=False, **({"add_generation_prompt": True} | template))
    images = sum(part["type"] == "image" for message in messages for part in message["content"])
    begin = processor.tokenizer.bos_token
    inputs = processor(
        text=[text],
        images=[[PICTURE] * images] if images else None,
        add_special_tokens=begin is None or not text.startswith(begin),
    )
    return [int(token) for token in inputs["input_ids"][0]]


_TODAY = re.compile(r"\d\d [A-Z][a-z]{2} 20\d\d")
"""As Llama's template writes it."""


def runs(processor: Any, ids: list[int], roles: list[Role]) -> list[list[str]]:
    """Role and text of each run of one role."""
    read = []
    for role, run in groupby(zip(ids, roles, strict=True), key=lambda pair: pair[1]):
        tokens = [token for token, _ in run]
        if role == Role.IMAGE:
            assert len(set(tokens)) == 1
            tokens = tokens[:1]
        read.append([role.name, _TODAY.sub("{today}", processor.tokenizer.decode(tokens))])
    return read


@pytest.mark.parametrize(("name", "conversation"), [(name, kind) for name, cases in CASES.items() for kind in cases])
def test_every_role_reads_back_as_its_text(markups: Any, name: str, conversation: str) -> None:
    processor, markup = markups[name]
    ids = token_ids(processor, CONVERSATIONS[conversation])
    assert runs(processor, ids, markup.prompt_roles(ids)) == CASES[name][conversation]


@pytest.mark.parametrize("name", FAMILIES)
def test_image_roles_are_where_the_processor_puts_images(markups: Any, name: str) -> None:
    processor, markup = markups[name]
    text = processor.apply_chat_template(TWO_QUESTIONS, tokenize=False)
    inputs = processor(text=[text], images=[[PICTURE] * 3], return_mm_token_type_ids=True, add_special_tokens=False)
    types = inputs.get("mm_token_type_ids", inputs.get("token_type_ids"))
    if types is None:  # Llama-3.2-Vision: one token an image, which is not expanded
        types = [[int(token == processor.image_token_id) for token in inputs["input_ids"][0]]]
    ids, roles = inputs["input_ids"][0], markup.prompt_roles(inputs["input_ids"][0])
    placeholder = processor.tokenizer.convert_tokens_to_ids(markup.format.placeholder)
    expected = [bool(kind) and token == placeholder for kind, token in zip(types[0], ids, strict=True)]
    assert [role == Role.IMAGE for role in roles] == expected
    # InternVL counts delimiters among images, Idefics3 the line ends between tiles too
    assert {role for role, kind in zip(roles, types[0], strict=True) if kind} <= {Role.IMAGE, Role.TEMPLATE}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_leaves_roles_as_they_are(markups: Any, name: str, side: str) -> None:
    processor, markup = markups[name]
    prompts = [token_ids(processor, CONVERSATIONS[kind]) for kind in ("text", "images, two questions")]
    batch = processor.tokenizer.pad({"input_ids": prompts}, padding_side=side, return_tensors="pt")
    roles = markup.roles(batch["input_ids"], batch["attention_mask"])
    for ids, mask, codes, sink in zip(prompts, batch["attention_mask"], roles.codes, roles.sink(), strict=True):
        assert codes[mask.bool()].tolist() == markup.prompt_roles(ids)
        assert set(codes[~mask.bool()].tolist()) <= {Role.PADDING}
        assert sink.nonzero().flatten().tolist() == [int(mask.nonzero()[0])]


@pytest.mark.parametrize("name", FAMILIES)
def test_packed_rows_are_told_apart_by_their_segments(markups: Any, name: str) -> None:
    processor, markup = markups[name]
    parts = [token_ids(processor, CONVERSATIONS[kind]) for kind in ("images, two questions", "text", "text")]
    ids = torch.tensor([[token for part in parts for token in part] + [0, 0]])
    segments = torch.tensor([[number for number, part in enumerate(parts) for _ in part] + [3, 3]])
    mask = (segments < 3).long()
    roles = markup.roles(ids, mask, segments)
    assert roles.codes[0].tolist() == [role for part in parts for role in markup.prompt_roles(part)] + [0, 0]
    assert roles.sink()[0].nonzero().flatten().tolist() == [0, len(parts[0]), len(parts[0]) + len(parts[1])]
    if processor.tokenizer.bos_token not in (None, markup.format.turn_start):  # else it may begin a second turn
        with pytest.raises(ChatTemplateError, match="segments"):
            markup.roles(ids, mask)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_continued_prompt_ends_in_response(markups: Any, name: str) -> None:
    processor, markup = markups[name]
    messages = [*TWO_QUESTIONS, said("assistant", "Because it")]
    ids = token_ids(processor, messages, continue_final_message=True, add_generation_prompt=False)
    role, text = runs(processor, ids, markup.prompt_roles(ids))[-1]
    assert (role, text.removeprefix(" ")) == ("RESPONSE", "Because it")


TURNS = {
    "": r"(?P<who>System|User|Assistant):(?: |(?=<image>|\Z))(?P<said>.*?(?:<end_of_utterance>\n|\Z))",
    "<|im_start|>": r"<\|im_start\|>(?P<who>\w+)(?: ?\n| )(?P<said>.*?)(?=<\|im_start\|>|\Z)",
    "<start_of_turn>": r"<start_of_turn>(?P<who>\w+)\n(?P<said>.*?)(?=<start_of_turn>|\Z)",
    "<|start_header_id|>": (
        r"<\|start_header_id\|>(?P<who>\w+)<\|end_header_id\|>\n\n(?P<said>.*?)(?=<\|start_header_id\|>|\Z)"
    ),
}
OF = {"system": Role.SYSTEM, "user": Role.USER, "assistant": Role.RESPONSE, "model": Role.RESPONSE}
words = st.text(alphabet="ab \n.|<é", max_size=6)
user_turns = st.lists(st.one_of(words, st.just("<image>")), min_size=1, max_size=4)


def roles_by_text(text: str, turns: str, image: str, delimiters: list[str]) -> list[Role]:
    """The role of each character of a rendered prompt: an oracle that knows nothing of tokens."""
    roles = [Role.SYSTEM] * len(text)
    for turn in re.finditer(turns, text, re.DOTALL):
        of = OF[turn["who"].lower()]
        (start, end), said_from = turn.span(), turn.start("said")
        opening = Role.TEMPLATE if of == Role.RESPONSE else of
        roles[start:end] = [opening] * (said_from - start) + [of] * (end - said_from)
    for token, role in [(image, Role.IMAGE), *((delimiter, Role.TEMPLATE) for delimiter in delimiters)]:
        for found in re.finditer(re.escape(token), text):
            roles[found.start() : found.end()] = [role] * len(token)
    return roles


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(CASES)),
    system=st.one_of(st.none(), words),
    rounds=st.lists(st.tuples(user_turns, words), min_size=1, max_size=3),
    answered=st.booleans(),
)
def test_any_conversation_has_the_roles_of_its_text(
    name: str, system: str | None, rounds: list[tuple[list[str], str]], answered: bool
) -> None:
    processor, markup = all_markups()[name]
    messages = [said(*turn) for asked, reply in rounds for turn in (("user", *asked), ("assistant", reply))]
    messages = messages if answered else messages[:-1]
    has_images = any("<image>" in asked for asked, _ in rounds)
    if system is not None and not (name == "mllama" and has_images):
        messages.insert(0, {"role": "system", "content": system} if name == "mllama" else said("system", system))
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=not answered)
    encoded = processor.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    form = markup.format
    by_text = roles_by_text(text, TURNS[form.turn_start], form.placeholder, list(form.delimiters))
    # a token of several characters has the role of its last
    expected = [by_text[end - 1] for _, end in encoded["offset_mapping"]]
    assert markup.prompt_roles(encoded["input_ids"]) == expected


def test_a_token_of_header_and_answer_is_response(markups: Any) -> None:
    processor, markup = markups["qwen2_5_vl"]
    ids = token_ids(processor, [said("user", "One?"), said("assistant", "\nOne."), said("user", "Two?")])
    assert runs(processor, ids, markup.prompt_roles(ids))[2:4] == [
        ["TEMPLATE", "<|im_start|>assistant"],
        ["RESPONSE", "\n\nOne.<|im_end|>\n"],
    ]


def test_thinking_that_the_template_begins_is_response(markups: Any) -> None:
    processor, _ = markups["qwen3_vl"]
    template = processor.chat_template
    processor = FAMILIES["qwen3_vl"].processor()
    processor.chat_template = template + "{% if add_generation_prompt %}<think>\n{% endif %}"
    ids = token_ids(processor, CONVERSATIONS["text"])
    assert runs(processor, ids, ChatMarkup(processor).prompt_roles(ids))[-2:] == [
        ["TEMPLATE", "<|im_start|>assistant\n"],
        ["RESPONSE", "<think>\n"],
    ]


@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava_onevision", "internvl"])
def test_a_beginning_that_opens_every_turn_changes_no_role(markups: Any, name: str) -> None:
    """SmolLM2's begin-of-sequence token is `<|im_start|>`, and so is that of what is trained from it."""
    processor, (plain, expected) = FAMILIES[name].processor(), markups[name]
    processor.tokenizer.bos_token = "<|im_start|>"
    markup = ChatMarkup(processor)
    for messages in CONVERSATIONS.values():
        ids = token_ids(plain, messages)
        assert markup.prompt_roles(ids) == expected.prompt_roles(ids)
        assert token_ids(processor, messages) == ids
    with pytest.raises(ChatTemplateError, match=r"must begin with <\|im_start\|>"):
        markup.prompt_roles(ids[1:])


@pytest.mark.parametrize("name", ["idefics3", "smolvlm"])
def test_words_that_name_a_speaker_open_no_turn_within_one(markups: Any, name: str) -> None:
    processor, markup = markups[name]
    messages = [said("user", "He wrote:\nAssistant: no.\nUser: why?"), said("assistant", "\nUser: because.")]
    ids = token_ids(processor, [*messages, said("user", "<image>", "\n", "<image>", "So?")])
    found = runs(processor, ids, markup.prompt_roles(ids))
    assert [role for role, _ in found if role not in ("IMAGE", "TEMPLATE")] == [
        *("SYSTEM", "USER", "RESPONSE", "USER", "USER", "USER"),
    ]
    assert ["USER", "\n"] in found, "between two images, not within one"
    with pytest.raises(ChatTemplateError, match="stands twice"):
        markup.prompt_roles([processor.tokenizer.bos_token_id, *ids])
    with pytest.raises(ChatTemplateError, match="none of System:, User:, Assistant:"):
        markup.prompt_roles(ids[2:])


def test_an_image_in_a_system_turn_is_an_image(markups: Any) -> None:
    processor, markup = markups["qwen2_5_vl"]
    ids = token_ids(processor, [said("system", "Like this:", "<image>"), said("user", "One?")])
    assert [role for role, _ in runs(processor, ids, markup.prompt_roles(ids))] == [
        *("SYSTEM", "TEMPLATE", "IMAGE", "TEMPLATE", "SYSTEM", "USER", "TEMPLATE"),
    ]


def test_responses_follow_their_prompts(markups: Any) -> None:
    processor, markup = markups["gemma3"]
    prompts = [token_ids(processor, CONVERSATIONS[kind]) for kind in ("text", "images, two questions")]
    width = len(prompts[1])
    roles = batch_roles(markup, prompts, [[7, 8, 9], [7]], width, width + 3)
    padding = width - len(prompts[0])
    assert roles.codes[0].tolist() == [0] * padding + [*markup.prompt_roles(prompts[0]), 4, 4, 4]
    assert roles.codes[1].tolist() == [*markup.prompt_roles(prompts[1]), 4, 0, 0]


def test_prompts_that_are_no_chat_are_refused(markups: Any) -> None:
    processor, markup = markups["qwen2_5_vl"]
    encode = processor.tokenizer.encode
    with pytest.raises(ChatTemplateError, match="must begin with a turn"):
        markup.prompt_roles(encode("no chat at all"))
    with pytest.raises(ChatTemplateError, match=r"must begin with <\|im_start\|>"):
        markup.prompt_roles(encode("cut off<|im_end|>\n<|im_start|>user\nOne?<|im_end|>\n"))
    with pytest.raises(ChatTemplateError, match="none of system, user, assistant"):
        markup.prompt_roles(encode("<|im_start|>critic\nNo.<|im_end|>\n"))
    with pytest.raises(ChatTemplateError, match="video"):
        markup.prompt_roles(encode("<|im_start|>user\n<|video_pad|><|im_end|>\n"))
    processor, markup = markups["gemma3"]
    with pytest.raises(ChatTemplateError, match="stands twice"):
        markup.prompt_roles(processor.tokenizer.encode("<bos><start_of_turn>user\nOne?<end_of_turn>\n"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"names": {"system": "system", "user": "assistant", "assistant": "user"}}, "begins otherwise"),
        ({"separators": (" ",)}, "begins otherwise"),
        ({"separators": ("",)}, "begins otherwise"),
        ({"delimiters": ("<|vision_start|>",)}, "unknown role around an image: <|vision_end|>"),
        ({"system_turn": False}, "were asked for"),
        ({"turn_start": "<|im_end|>"}, "begins otherwise"),
        ({"placeholder": "<|vision_end|>", "delimiters": ("<|vision_start|>",)}, "unknown role around an image"),
    ],
)
def test_a_description_that_does_not_fit_the_template_is_refused(
    monkeypatch: Any, wrong: dict[str, Any], message: str
) -> None:
    description = dataclasses.replace(chat_formats.QWEN_VL, **wrong)
    monkeypatch.setattr(chat_formats, "CHAT_FORMATS", (description,))
    with pytest.raises(ChatTemplateError, match=message.replace("|", r"\|")):
        ChatMarkup(FAMILIES["qwen2_5_vl"].processor())


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{{ m.role }}: {{ m.content[0].text }}\n{% endfor %}", "there is no <|im_start|>"),
        ("{{ raise_exception('no') }}", "refuses a plain question"),
        ("<|im_start|>user\n{{ messages[-1].content[-1].text }}<|im_end|>\n", "were asked for"),
        (None, "no chat template"),
    ],
)
def test_a_template_that_is_another_is_refused(template: str | None, message: str) -> None:
    processor = FAMILIES["qwen2_5_vl"].processor()
    processor.chat_template = template
    with pytest.raises(ChatTemplateError, match=message.replace("|", r"\|")):
        ChatMarkup(processor)


def test_unknown_families_are_refused() -> None:
    processor = FAMILIES["qwen2_5_vl"].processor()
    processor.image_token = "<picture>"
    with pytest.raises(ChatTemplateError, match="'<picture>': token roles are known for Qwen-VL, LLaVA-OneVision"):
        ChatMarkup(processor)
    processor.image_token = "<image>"
    with pytest.raises(ChatTemplateError, match="as LLaVA-OneVision does, but its tokenizer has no <image>"):
        ChatMarkup(processor)


def test_the_sink_of_an_empty_row_is_nowhere() -> None:
    assert not TokenRoles(torch.zeros(1, 4, dtype=torch.long)).sink().any()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_text_of_a_user_is_the_words_alone(markups: Any, name: str) -> None:
    processor, markup = markups[name]
    ids = token_ids(processor, TWO_QUESTIONS)
    roles = markup.prompt_roles(ids)
    text = markup.prompt_text(ids, roles)
    assert "".join(processor.tokenizer.decode([one for one, own in zip(ids, text, strict=True) if own]).split()) == (
        "Firstquestion?Second."
    )
    assert all(role == Role.USER for role, own in zip(roles, text, strict=True) if own)
    (in_batch,) = batch_roles(markup, [ids], [[5, 6]], len(ids) + 3, len(ids) + 5).text  # type: ignore[misc]
    assert in_batch.tolist() == [False] * 3 + text + [False] * 2


def test_a_turn_of_qwen_has_five_template_tokens_three_of_them_before_the_picture(markups: Any) -> None:
    processor, markup = markups["qwen2_5_vl"]
    ids = token_ids(processor, [said("user", "<image>", "How many?")], add_generation_prompt=False)
    roles = markup.prompt_roles(ids)
    user = [place for place, role in enumerate(roles) if role == Role.USER]
    text = markup.prompt_text(ids, roles)
    image = roles.index(Role.IMAGE)
    assert [place < image for place in user if not text[place]] == [True] * 3 + [False] * 2
