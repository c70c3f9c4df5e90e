"""Token roles: which position of a chat-formatted sequence is system, image, user, response, template or padding.

Roles come from exact token ids and the chat template's own turn marker, never from positions that "should" hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from avar_eval.errors import AvarError


class Role(IntEnum):
    """A position's role. SYSTEM: the whole system turn, its template tokens included. IMAGE: image placeholder tokens.

    USER: a user turn without image tokens and vision delimiters. RESPONSE: what the model generated, or the content of
    an assistant turn. TEMPLATE: vision delimiters and assistant headers. PADDING: masked positions.
    """

    PADDING = 0
    SYSTEM = 1
    IMAGE = 2
    USER = 3
    RESPONSE = 4
    TEMPLATE = 5


class ChatTemplateError(AvarError):
    """Token roles cannot be told from this model's chat template."""


@dataclass(frozen=True)
class TokenRoles:
    """Roles of a batch of sequences: `codes` holds a `Role` for each position."""

    codes: Int[Tensor, "batch sequence"]

    def mask(self, role: Role) -> Bool[Tensor, "batch sequence"]:
        """Where `role` stands."""
        return self.codes == role

    def sink(self) -> Bool[Tensor, "batch sequence"]:
        """The first non-padding position of each sequence, the attention sink (`position 0`)."""
        present = self.codes != Role.PADDING
        return present & (present.cumsum(-1) == 1)


class ChatMarkup:
    """How a ChatML-style template (Qwen2-VL, Qwen2.5-VL and models trained from them) marks turns and images.

    Raises ChatTemplateError if the tokenizer has no such markup.
    """

    def __init__(self, processor: Any) -> None:
        tokenizer = processor.tokenizer
        special = {"<|im_start|>", "<|vision_start|>", "<|vision_end|>"}
        known = set(tokenizer.get_added_vocab())
        if not special <= known:
            raise ChatTemplateError(
                f"{type(processor).__name__} has no {', '.join(sorted(special - known))}: token roles are known for "
                "ChatML templates (Qwen2-VL, Qwen2.5-VL and models trained from them)"
            )
        self._turn_start: int = tokenizer.convert_tokens_to_ids("<|im_start|>")
        self._delimiters = set(tokenizer.convert_tokens_to_ids(["<|vision_start|>", "<|vision_end|>"]))
        self._image: int = processor.image_token_id
        self._speakers = {
            tuple(tokenizer.encode(name, add_special_tokens=False)): name for name in ("system", "user", "assistant")
        }
        self._line_end: set[int] = set(tokenizer.encode("\n", add_special_tokens=False))

    def prompt_roles(self, token_ids: Sequence[int]) -> list[Role]:
        """The role of every token of one rendered prompt (no padding), earlier assistant turns included."""
        starts = [i for i, token in enumerate(token_ids) if token == self._turn_start]
        if not starts or starts[0] != 0:
            raise ChatTemplateError("a rendered prompt must begin with <|im_start|>; is its chat template ChatML?")
        roles: list[Role] = []
        for start, end in zip(starts, [*starts[1:], len(token_ids)], strict=True):
            roles += self._turn_roles(token_ids[start:end])
        return roles

    def _turn_roles(self, turn: Sequence[int]) -> list[Role]:
        speaker, header = self._speaker(turn)
        if speaker == "system":
            return [Role.SYSTEM] * len(turn)
        if speaker == "assistant":
            return [Role.TEMPLATE] * header + [Role.RESPONSE] * (len(turn) - header)
        return [self._user_role(token) for token in turn]

    def _user_role(self, token: int) -> Role:
        if token == self._image:
            return Role.IMAGE
        return Role.TEMPLATE if token in self._delimiters else Role.USER

    def _speaker(self, turn: Sequence[int]) -> tuple[str, int]:
        """Who speaks in a turn, and how many tokens its header `<|im_start|>name\\n` has."""
        for name_ids, name in self._speakers.items():
            end = 1 + len(name_ids)
            if tuple(turn[1:end]) == name_ids:
                return name, end + (end < len(turn) and turn[end] in self._line_end)
        raise ChatTemplateError(f"a turn that is neither system, user nor assistant: token ids {list(turn[:6])}")


def batch_roles(
    markup: ChatMarkup,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    prompt_width: int,
    width: int,
) -> TokenRoles:
    """Roles of left-padded prompts (to `prompt_width`), each followed by its right-padded response (to `width`)."""
    codes = torch.full((len(prompts), width), int(Role.PADDING))
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        codes[row, prompt_width - len(prompt) : prompt_width] = torch.tensor(markup.prompt_roles(prompt))
        codes[row, prompt_width : prompt_width + len(response)] = int(Role.RESPONSE)
    return TokenRoles(codes)
