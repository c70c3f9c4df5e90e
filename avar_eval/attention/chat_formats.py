"""How the chat templates of the supported families mark turns and images: one small description each.

A description states facts of the published template and processor (chat_template.json or .jinja of the checkpoint, and
`processing_*.py` in transformers). It is never trusted: `chat_probe.verify` renders the checkpoint's own template with
known contents and refuses a description that does not fit.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

from avar_eval.errors import AvarError

Speaker = Literal["system", "user", "assistant"]


class Role(IntEnum):
    """A position's role. SYSTEM: begin of sequence and system turns. IMAGE: image placeholder tokens, in any turn.

    USER: a user turn without image tokens and vision delimiters. RESPONSE: what the model generated, or the content of
    an assistant turn with its closing tokens. TEMPLATE: vision delimiters and assistant headers. PADDING: masked
    positions.
    """

    PADDING = 0
    SYSTEM = 1
    IMAGE = 2
    USER = 3
    RESPONSE = 4
    TEMPLATE = 5


class ChatTemplateError(AvarError):
    """Token roles cannot be told from this model's chat template.

    What to do: Use a processor whose template is the family's, or describe the new one as CONTRIBUTING.md shows.
    """


@dataclass(frozen=True)
class ChatFormat:
    """One family's markup. A turn reads: turn_start, speaker's name, name_end, one of `separators`, content, turn_end.

    turn_start is empty where no token opens a turn: the first follows the begin-of-sequence token, and each other one
    the end of the one before and a line end.

    image: what the template writes for an image. placeholder: the token that holds an image's features after the
    processor has expanded it. delimiters: tokens that enclose placeholders. video: the placeholder of what is refused.
    system_turn: False where the template folds the system text into the first user turn, so that only the
    begin-of-sequence token precedes a user turn. plain_system: the template takes a system message as a string only.
    cross_attention: images are seen through layers of their own, for which a batch needs equal numbers of images.
    """

    family: str
    image: str
    placeholder: str
    delimiters: tuple[str, ...]
    video: str = ""
    turn_start: str = "<|im_start|>"
    turn_end: str = "<|im_end|>"
    name_end: str = ""
    separators: tuple[str, ...] = ("\n",)
    names: Mapping[Speaker, str] = field(
        default_factory=lambda: {"system": "system", "user": "user", "assistant": "assistant"}
    )
    system_turn: bool = True
    plain_system: bool = False
    cross_attention: bool = False

    def header(self, speaker: Speaker, separator: str = "") -> str:
        """The text that opens a turn of `speaker`."""
        return f"{self.turn_start}{self.names[speaker]}{self.name_end}{separator}"

    def tokens(self) -> set[str]:
        """Every special token of the markup."""
        markup = {self.turn_start, self.turn_end, self.name_end, self.image, self.placeholder, *self.delimiters}
        return markup - {""}

    def turns(self, text: str, begin: str | None) -> list[tuple[int, int]]:
        """Where each turn of a rendered text begins and ends. begin: the begin-of-sequence token."""
        if self.turn_start:
            starts = [found.start() for found in re.finditer(re.escape(self.turn_start), text)]
        else:
            first = len(begin) if begin and text.startswith(begin) else 0
            starts = [first, *(found.end() for found in re.finditer(re.escape(f"{self.turn_end}\n"), text))]
            starts = [start for start in starts if start < len(text)]
        return list(zip(starts, [*starts[1:], len(text)], strict=True)) if starts else []


QWEN_VL = ChatFormat(
    "Qwen-VL", "<|image_pad|>", "<|image_pad|>", ("<|vision_start|>", "<|vision_end|>"), "<|video_pad|>"
)
"""Qwen2-VL, Qwen2.5-VL (and what is trained from them, MiMo-VL included) and Qwen3-VL; see `trl/chat_templates`."""

LLAVA_ONEVISION = ChatFormat("LLaVA-OneVision", "<image>", "<image>", (), "<video>", separators=("\n", " \n", " "))
"""llava-hf checkpoints: headers are `user ` before an image, `assistant \\n` in history, `assistant\\n` at the end."""

INTERNVL = ChatFormat("InternVL", "<IMG_CONTEXT>", "<IMG_CONTEXT>", ("<img>", "</img>"), "<video>")
"""InternVL 2.5, 3 and 3.5 checkpoints in transformers' format (-hf); those on InternLM2 begin with `<s>`."""

GEMMA3 = ChatFormat(
    "Gemma 3",
    image="<start_of_image>",
    placeholder="<image_soft_token>",
    delimiters=("<start_of_image>", "<end_of_image>"),
    turn_start="<start_of_turn>",
    turn_end="<end_of_turn>",
    names={"user": "user", "assistant": "model"},
    system_turn=False,
)

LLAMA_VISION = ChatFormat(
    "Llama-3.2-Vision",
    image="<|image|>",
    placeholder="<|image|>",
    delimiters=(),
    turn_start="<|start_header_id|>",
    turn_end="<|eot_id|>",
    name_end="<|end_header_id|>",
    separators=("\n\n",),
    plain_system=True,
    cross_attention=True,
)
"""With an image there is no system turn: the template refuses a system message then, and writes dates without one."""

IDEFICS3 = ChatFormat(
    "Idefics3 and SmolVLM",
    image="<image>",
    placeholder="<image>",
    delimiters=(
        "<fake_token_around_image>",
        "<global-img>",
        *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
    ),
    video="<video>",
    turn_start="",
    turn_end="<end_of_utterance>",
    separators=(" ", ""),
    names={"system": "System:", "user": "User:", "assistant": "Assistant:"},
)
"""Idefics3 (`<|begin_of_text|>` begins), SmolVLM and SmolVLM2 (`<|im_start|>` does); a speaker is named by words.

The processor cuts an image into tiles by rows and columns, and puts their names and line ends between placeholders.
"""

CHAT_FORMATS = (QWEN_VL, LLAVA_ONEVISION, INTERNVL, GEMMA3, LLAMA_VISION, IDEFICS3)


def find_format(processor: Any) -> ChatFormat:
    """The description for a processor, found by the token that its template writes for an image.

    Of several with the same it is the one whose tokens are all there, and of these the one that has most. Raises
    ChatTemplateError if there is none, or if the tokenizer lacks one of its tokens.
    """
    try:
        image = processor.image_token
    except AttributeError:
        image = None
    alike = [known for known in CHAT_FORMATS if known.image == image]
    if not alike:
        families = ", ".join(known.family for known in CHAT_FORMATS)
        raise ChatTemplateError(
            f"{type(processor).__name__} marks images by {image!r}: token roles are known for {families}"
        )
    added = set(processor.tokenizer.get_added_vocab())
    chosen = min(alike, key=lambda known: (len(known.tokens() - added), -len(known.tokens())))
    if missing := chosen.tokens() - added:
        raise ChatTemplateError(
            f"{type(processor).__name__} marks images as {chosen.family} does, but its tokenizer has no "
            f"{', '.join(sorted(missing))}"
        )
    return chosen
