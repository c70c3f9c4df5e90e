"""The tokenizer of `avar-tiny`: a byte-level BPE with Qwen2.5-VL's special tokens and chat format.

All 256 bytes are in the vocabulary, so every text has tokens; the merges are learnt from the prompts and solutions of
`shapes`, so that those stay short.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from avar_eval.tasks.shapes.dataset import prompt, rows

VOCABULARY_SIZE: Final = 768
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
DEFAULT_SYSTEM_PROMPT: Final = "You are a helpful assistant."

# Qwen2.5's pattern, except that a digit may carry the space before it: "row 2" is two tokens, not three.
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
        vocab_size=VOCABULARY_SIZE - len(TAGS),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_without_tags(_corpus()), trainer)
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in TAGS])
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
            yield DESCRIBE


def _without_tags(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for tag in TAGS:
            text = text.replace(tag, "")
        yield text
