"""What a session asks: a chat with pictures, and what is kept of it. Light: no torch, no lmms-eval."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from PIL.Image import Image

from avar_eval.models.answer_format import Replacement, with_instruction
from avar_eval.models.backend import BackendError
from avar_eval.pictures import whole_pictures_only
from avar_eval.tasks.catalog import Judge

Chat: TypeAlias = list[dict[str, Any]]
"""Messages as transformers' chat templates take them: `{"role": "user", "content": parts}`, where a part is
`{"type": "text", "text": str}` or `{"type": "image", "image": a PIL image}`."""


def user_turn(text: str, *images: Image) -> Chat:
    """A chat of one turn: the images, then the text."""
    pictures = [{"type": "image", "image": image} for image in images]
    return [{"role": "user", "content": [*pictures, {"type": "text", "text": text}]}]


@dataclass(frozen=True)
class Judging:
    """How responses to a question are judged: `judge(row(), response, finish_reason)`.

    row: reads the row, without its pictures. grader: the version of `judge`, as it stands in its judgements: a recorded
    judgement of that version is not made anew. None: unknown, so that it always is.
    """

    judge: Judge
    row: Callable[[], Mapping[str, Any]]
    grader: str | None = None


@dataclass(frozen=True)
class Question:
    """One question to a model.

    row_id: its name within `task`. chat: makes the chat; called anew whenever the pictures are needed, so that only
    those of a batch are in memory. sample: which of several responses to the chat this one is: each has a random stream
    of its own. measured: whether attention is recorded with the response, where the backend can; causal: whether what
    the response owes to its images is (`avar_eval.causal`). judging: None records
    the response without a judgement. reference: the gold answer, which the record keeps; None where it is not known.
    """

    row_id: str
    chat: Callable[[], Chat]
    task: str = "questions"
    sample: int = 0
    measured: bool = True
    causal: bool = False
    judging: Judging | None = None
    reference: Callable[[], str | None] = lambda: None


@dataclass(frozen=True)
class RenderedQuestion:
    """A question as a model is asked it. key: of its record, made from all that decides the response.

    prompt: the text after the chat template. image_sha256: of each picture's pixels. protocol_id: of how it is asked.
    """

    question: Question
    key: str
    prompt: str
    image_sha256: tuple[str, ...]
    protocol_id: str

    def images(self) -> list[Image]:
        """The pictures, decoded anew."""
        with whole_pictures_only():
            return load_pictures(self.question)


def load_pictures(question: Question, chat: Chat | None = None) -> list[Image]:
    """The pictures of a question's chat (by default made anew), in order.

    Raises BackendError if it holds a video, a sound, or a picture's address in the place of a picture.
    """
    parts = [part for turn in (question.chat() if chat is None else chat) for part in turn["content"]]
    media = [part.get(part["type"]) for part in parts if part["type"] != "text"]
    images = [one for one in media if isinstance(one, Image)]
    if len(images) < len(media):
        raise BackendError(
            f"row {question.row_id} of {question.task} has a video, a sound or a picture's address: not a picture"
        )
    return images


def with_system_prompt(chat: Chat, system_prompt: str | None, instruction: Replacement | None) -> Chat:
    """The chat under a system prompt, unless it has one; the task's instruction replaced by the model's own, if any."""
    if instruction is not None:
        chat = [with_instruction(turn, instruction) for turn in chat]
    if system_prompt is None or chat[0]["role"] == "system":
        return chat
    return [{"role": "system", "content": [{"type": "text", "text": system_prompt}]}, *chat]
