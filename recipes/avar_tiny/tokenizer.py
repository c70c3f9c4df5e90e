"""The tokenizer of `avar-tiny`: a byte-level BPE with Qwen2.5-VL's special tokens and chat format.

All 256 bytes are in the vocabulary, so every text has tokens; the merges are learnt from the prompts and solutions of
`shapes`, so that those stay short. What is said in every second line is one token: a place, an object, an option.
A model of a few layers needs thousands of steps to learn to look one token back, which is what "(C)" before "yellow"
would ask of it.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from avar_eval.tasks.prompts import THINKING
from avar_eval.tasks.shapes.dataset import prompt, rows
from avar_eval.tasks.shapes.questions import CHECK, LETTERS, LOOK, NEITHER, OBJECTS
from avar_eval.tasks.shapes.scene import ANGLES, CELLS, COLORS, SHAPES, Dial, Number

WORD_PIECES: Final = 640
CORPUS_ROWS: Final = 2_000

IMAGE_TOKEN: Final = "<|image_pad|>"
VIDEO_TOKEN: Final = "<|video_pad|>"
VISION_START_TOKEN: Final = "<|vision_start|>"
VISION_END_TOKEN: Final = "<|vision_end|>"
TURN_END_TOKEN: Final = "<|im_end|>"
PADDING_TOKEN: Final = "<|endoftext|>"
SPECIAL_TOKENS: Final = (
    PADDING_TOKEN,
    "<|im_start|>",
    TURN_END_TOKEN,
    VISION_START_TOKEN,
    VISION_END_TOKEN,
    IMAGE_TOKEN,
    VIDEO_TOKEN,
)
# One token each, but not special: decoding with skip_special_tokens must keep them, the grader looks for them.
TAGS: Final = ("<think>", "</think>", "<answer>", "</answer>")

DESCRIBE: Final = "Describe the image."
LOCATE: Final = "Where are the objects?"
DEFAULT_SYSTEM_PROMPT: Final = "You are a helpful assistant."

NUMBERS: Final = tuple(Number(value) for value in range(1, 100))
DIALS: Final = tuple(Dial(angle) for angle in ANGLES)
EMPTY: Final = " -,"
CHOICES: Final = (*COLORS, *SHAPES, NEITHER)
PHRASES: Final = (
    *(f" {cell}" for cell in CELLS),
    *(f" {thing}" for thing in OBJECTS),
    *(f" {number}" for number in reversed(NUMBERS)),
    *(f" {dial} degrees" for dial in DIALS),
    *(f"({letter}) {choice}" for letter in LETTERS for choice in CHOICES),
    *(f" is ({letter}) {choice}" for letter in LETTERS for choice in CHOICES),
    *(space + choice for choice in CHOICES for space in (" ", "")),
    *(phrase[0].upper() + phrase[1:].rstrip() for phrase in (LOOK, CHECK)),
    *(part for part in THINKING.replace("<think> </think>", "|").replace("<answer> </answer>", "|").split("|")),
    EMPTY,
)
"""One token each, spaces included; the rest of a text is cut by `WORDS`."""

# Qwen2.5's pattern, except that a digit may carry the space before it: "number 2" is two tokens, not three.
WORDS: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Qwen2.5-VL's chat format; as there, a conversation without a system turn gets the default one.
CHAT_TEMPLATE: Final = (
    "{%- for message in messages -%}"
    "{%- if loop.first and message.role != 'system' -%}"
    "{{ '<|im_start|>system\\n" + DEFAULT_SYSTEM_PROMPT + "<|im_end|>\\n' }}"
    "{%- endif -%}"
    "{{ '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.content is string -%}"
    "{{ message.content }}"
    "{%- else -%}"
    "{%- for part in message.content -%}"
    "{%- if part.type in ('image', 'image_url') or 'image' in part or 'image_url' in part -%}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- elif part.type == 'video' or 'video' in part -%}"
    "{{ '<|vision_start|><|video_pad|><|vision_end|>' }}"
    "{%- elif 'text' in part -%}"
    "{{ part.text }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{{ '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{ '<|im_start|>assistant\\n' }}"
    "{%- endif -%}"
)


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Learn the merges from the train split of `shapes`; the same tokenizer every time."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=WORD_PIECES,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_without_whole_tokens(_corpus()), trainer)
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in (*TAGS, *PHRASES)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TURN_END_TOKEN,
        pad_token=PADDING_TOKEN,
        additional_special_tokens=[token for token in SPECIAL_TOKENS if token not in (TURN_END_TOKEN, PADDING_TOKEN)],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _corpus() -> Iterator[str]:
    for anchors in (True, False):
        for row in rows("train", CORPUS_ROWS, anchors=anchors):
            yield f"user\n{prompt(row)}"
            yield f"assistant\n{row['solution']}"
            # The default system turn then has 11 tokens, as in Qwen2.5-VL.
            yield f"system\n{DEFAULT_SYSTEM_PROMPT}"
            yield f"{DESCRIBE}\n{LOCATE}"


def _without_whole_tokens(texts: Iterable[str]) -> Iterator[str]:
    """What is left for the merges of a text: its parts between the tags and phrases."""
    whole = re.compile("|".join(map(re.escape, sorted((*TAGS, *PHRASES), key=len, reverse=True))))
    for text in texts:
        yield from whole.split(text)
