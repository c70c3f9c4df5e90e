"""Token roles: which position of a chat-formatted sequence is system, image, user, response, template or padding.

Roles come from exact token ids and the chat template's own markup, never from positions that "should" hold.

A sequence is cut at its turn starts. What precedes the first turn can only be the begin-of-sequence token, and every
turn names its speaker, so each position has exactly one role:

- SYSTEM, the paper's S: the begin-of-sequence token and every system turn, template tokens included. With a leading
  system turn this is all from the first token up to the header of the first user turn.
- Where the template has no system turn, S is what is left of that: for Gemma 3, which folds the system text into the
  first user turn, for Llama-3.2-Vision with an image, and for Idefics3 and SmolVLM without a system message, S is the
  begin-of-sequence token alone (the attention sink; VAS without the sink is undefined); for Qwen3-VL, LLaVA-OneVision
  and InternVL on Qwen without a system message, S is empty and VAS is undefined. Folded system text is USER: to the
  model it is the user's turn.
- A token that holds both the end of an assistant's header and the beginning of its content is RESPONSE.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from avar_eval.attention.chat_formats import ChatFormat, ChatTemplateError, Role, Speaker, find_format
from avar_eval.attention.chat_probe import verify

__all__ = ["ChatMarkup", "ChatTemplateError", "Role", "TokenRoles", "batch_roles"]


@dataclass(frozen=True)
class TokenRoles:
    """Roles of a batch of sequences: `codes` holds a `Role` for each position.

    segments: for rows that pack several sequences, the number of the sequence that each position belongs to. text:
    which user tokens are the user's words (see `ChatMarkup.prompt_text`); None where that was not asked.
    """

    codes: Int[Tensor, "batch sequence"]
    segments: Int[Tensor, "batch sequence"] | None = None
    text: Bool[Tensor, "batch sequence"] | None = None

    def of(self, sequences: Int[Tensor, " chosen"]) -> "TokenRoles":
        """Those of some sequences of the batch."""
        return TokenRoles(
            self.codes[sequences],
            None if self.segments is None else self.segments[sequences],
            None if self.text is None else self.text[sequences],
        )

    def mask(self, role: Role) -> Bool[Tensor, "batch sequence"]:
        """Where `role` stands."""
        return self.codes == role

    def sink(self) -> Bool[Tensor, "batch sequence"]:
        """The first non-padding position of each sequence, the attention sink (`position 0`)."""
        present = self.codes != Role.PADDING
        if self.segments is None:
            return present & (present.cumsum(-1) == 1)
        first = torch.zeros_like(present)
        for row, part in _parts(present, self.segments):
            first[row, part[0]] = True
        return first


class ChatMarkup:
    """How a processor's chat template marks turns and images, as token ids.

    Raises ChatTemplateError if the family is unknown, or if the template, rendered with known contents, disagrees with
    the family's description.
    """

    def __init__(self, processor: Any) -> None:
        self.format: ChatFormat = find_format(processor)
        tokenizer = processor.tokenizer
        ids = {token: int(tokenizer.convert_tokens_to_ids(token)) for token in self.format.tokens()}
        self._turn_start = ids.get(self.format.turn_start)
        self._line_end: list[int] = list(tokenizer.encode("\n", add_special_tokens=False))
        self._line_ends = {*self._line_end, *tokenizer.encode("\n\n", add_special_tokens=False)}
        self.turn_end = ids[self.format.turn_end]
        self._image = ids[self.format.placeholder]
        self._delimiters = {ids[token] for token in self.format.delimiters}
        self._begin: int | None = tokenizer.bos_token_id
        self._begin_token: str | None = tokenizer.bos_token
        self._video: int | None = tokenizer.get_added_vocab().get(self.format.video)
        # Longest first: a header with its separator, before the bare name whose separator merged with the content.
        self._headers: list[tuple[list[int], Speaker]] = sorted(
            (
                (list(tokenizer.encode(self.format.header(speaker, separator), add_special_tokens=False)), speaker)
                for speaker in self.format.names
                for separator in (*self.format.separators, "")
            ),
            key=lambda header: -len(header[0]),
        )
        verify(processor, self.format, self.prompt_roles)

    @property
    def placeholders(self) -> tuple[int, ...]:
        """Tokens that stand for an image or a video: a response can hold none."""
        return (self._image,) if self._video is None else (self._image, self._video)

    def needs_beginning(self, prompt: str) -> bool:
        """Whether the tokenizer is to add its special tokens to a rendered prompt: not if the template has done so."""
        return self._begin_token is None or not prompt.startswith(self._begin_token)

    def roles(
        self,
        input_ids: Int[Tensor, "batch sequence"],
        attention_mask: Int[Tensor, "batch sequence"],
        segments: Int[Tensor, "batch sequence"] | None = None,
    ) -> TokenRoles:
        """Roles of rendered conversations, padded on either side; `segments` numbers the sequences of packed rows."""
        codes = torch.full(input_ids.shape, int(Role.PADDING))
        for row, part in _parts(attention_mask.bool().cpu(), segments):
            codes[row, part] = torch.tensor(self.prompt_roles(input_ids[row].cpu()[part].tolist()))
        return TokenRoles(codes, segments)

    def prompt_roles(self, token_ids: Sequence[int]) -> list[Role]:
        """The role of every token of one rendered conversation (no padding), earlier assistant turns included."""
        starts = self._starts(token_ids)
        first = starts[0] if starts else len(token_ids)
        self._check_beginning(token_ids, first)
        if self._video in token_ids:
            raise ChatTemplateError(f"there is a video ({self.format.video}) in this prompt: only images have a role")
        roles = [Role.SYSTEM] * first
        for start, end in zip(starts, [*starts[1:], len(token_ids)], strict=True):
            roles += self._turn_roles(token_ids[start:end])
        return roles

    def prompt_text(self, token_ids: Sequence[int], roles: Sequence[Role]) -> list[bool]:
        """Which tokens of a rendered conversation are the words of a user. roles: what `prompt_roles` gives.

        Those with the role USER but for the template's own: the turn's header (Qwen-VL: `<|im_start|>`, `user`, line
        end) and its end with what follows (`<|im_end|>`, line end). A header precedes the picture, so none of its
        queries sees that, and the ends see all: together they move VAS by some per cent. An instruction that a prompt
        style adds is text of the user.
        """
        text = [role == Role.USER for role in roles]
        starts = self._starts(token_ids)
        for start, end in zip(starts, [*starts[1:], len(token_ids)], strict=True):
            turn = token_ids[start:end]
            _, header = self._speaker(turn)
            closing = [place for place, token in enumerate(turn) if token == self.turn_end and place >= header]
            stop = closing[-1] if closing else len(turn)
            for place in (*range(header), *range(stop, len(turn))):
                text[start + place] = False
        return text

    def _starts(self, token_ids: Sequence[int]) -> list[int]:
        if self._turn_start is not None:
            return [i for i, token in enumerate(token_ids) if token == self._turn_start]
        ends = (i + 1 for i, token in enumerate(token_ids) if token == self.turn_end)
        after = len(self._line_end)
        starts = [end + after * (list(token_ids[end : end + after]) == self._line_end) for end in ends]
        return [start for start in (int(list(token_ids[:1]) == [self._begin]), *starts) if start < len(token_ids)]

    def _check_beginning(self, token_ids: Sequence[int], first: int) -> None:
        start = self.format.turn_start or self.format.header("user")
        # where it opens every turn, nothing tells a second sequence from a second turn
        begins_once = self._begin not in (None, self._turn_start)
        if first == len(token_ids):
            raise ChatTemplateError(f"a rendered prompt must begin with a turn, and there is no {start} in this one")
        if begins_once and list(token_ids[:2]) == [self._begin] * 2:
            raise ChatTemplateError(
                "the begin-of-sequence token stands twice: tokenize rendered prompts with add_special_tokens=False"
            )
        if list(token_ids[:first]) not in ([], [self._begin]):
            raise ChatTemplateError(
                f"a rendered prompt must begin with {start}, not with token ids {list(token_ids[: min(first, 6)])}"
            )
        if begins_once and self._begin in token_ids[first:]:
            raise ChatTemplateError("a second sequence begins in this row: pass `segments` for packed rows")

    def _turn_roles(self, turn: Sequence[int]) -> list[Role]:
        speaker, header = self._speaker(turn)
        text = {"system": Role.SYSTEM, "user": Role.USER, "assistant": Role.RESPONSE}[speaker]
        opening = Role.TEMPLATE if speaker == "assistant" else text
        roles = [opening] * header + [self._content_role(token, text) for token in turn[header:]]
        of_tiles: list[int] = []  # line ends after a placeholder: before a delimiter they are no words of the user's
        after_image = False
        for place, token in enumerate(turn):
            if after_image and token in self._line_ends:
                of_tiles.append(place)
                continue
            if token in self._delimiters:
                for line_end in of_tiles:
                    roles[line_end] = Role.TEMPLATE
            of_tiles, after_image = [], token == self._image
        return roles

    def _content_role(self, token: int, text: Role) -> Role:
        if token == self._image:
            return Role.IMAGE
        return Role.TEMPLATE if token in self._delimiters else text

    def _speaker(self, turn: Sequence[int]) -> tuple[Speaker, int]:
        """Who speaks in a turn, and how many tokens its header has."""
        for header, speaker in self._headers:
            if list(turn[: len(header)]) == header:
                return speaker, len(header)
        known = ", ".join(self.format.names.values())
        raise ChatTemplateError(f"a turn of none of {known}: it begins with token ids {list(turn[:6])}")


def _parts(
    present: Bool[Tensor, "batch sequence"], segments: Int[Tensor, "batch sequence"] | None
) -> Iterator[tuple[int, Int[Tensor, " positions"]]]:
    """Row and positions of each sequence in a batch."""
    for row in range(present.shape[0]):
        positions = present[row].nonzero().flatten()
        if segments is None:
            parts = [positions] if len(positions) else []
        else:
            numbers = segments[row].to(positions.device)[positions]
            parts = [positions[numbers == number] for number in sorted(set(numbers.tolist()))]
        yield from ((row, part) for part in parts)


def batch_roles(
    markup: ChatMarkup,
    prompts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    prompt_width: int,
    width: int,
) -> TokenRoles:
    """Roles of left-padded prompts (to `prompt_width`), each followed by its right-padded response (to `width`)."""
    codes = torch.full((len(prompts), width), int(Role.PADDING))
    text = torch.zeros(codes.shape, dtype=torch.bool)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        roles = markup.prompt_roles(prompt)
        codes[row, prompt_width - len(prompt) : prompt_width] = torch.tensor(roles)
        codes[row, prompt_width : prompt_width + len(response)] = int(Role.RESPONSE)
        text[row, prompt_width - len(prompt) : prompt_width] = torch.tensor(markup.prompt_text(prompt, roles))
    return TokenRoles(codes, text=text)
