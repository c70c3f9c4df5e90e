"""One look: show a model images and a question, take its answer or a given one, and measure where it looked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from avar_eval.attention.measure import with_responses
from avar_eval.attention.record import AttentionRecord, Queries
from avar_eval.attention.roles import Role, TokenRoles
from avar_eval.attention.steering import UNSTEERED
from avar_eval.errors import UsageError
from avar_eval.look.image_attention import attention_on_image_tokens
from avar_eval.look.places import Boxes, UnknownPlacesError, image_token_places
from avar_eval.models.decoding import Decoding
from avar_eval.models.transformers_backend import TransformersBackend
from avar_eval.pictures import UNREADABLE, picture_fault, read_rgb
from avar_eval.run.asking import Asking
from avar_eval.run.model import resolve

QUERY_SETS: tuple[Queries, ...] = ("user", "response")


@dataclass(frozen=True)
class Conversation:
    """What is asked, and how: the system turn is the registered model's, if none is asked for, or else what its chat
    template writes.

    response: what the model is taken to have answered; None lets it answer, greedily, up to its token limit.
    """

    asking: Asking
    images: Sequence[Path]
    prompt: str
    response: str | None = None


@dataclass(frozen=True)
class ImageTokens:
    """One image's tokens: their places in the picture, and the share of attention on each, by set of queries."""

    places: Boxes
    shares: dict[Queries, Float[np.ndarray, " tokens"]]


@dataclass(frozen=True)
class Look:
    """What was answered and where the model looked.

    prompt: what was asked, as it was given; question: the same as headings quote it. image_names: of the pictures.
    finish_reason: `given` where the response was. tokens: the text of each response token. image_tokens: of each image;
    None where their places are not known, and then `no_overlay` says why.
    """

    model: str
    revision: str | None
    system: str | None
    prompt: str
    question: str
    image_names: Sequence[str]
    pictures: list[Image.Image]
    response: str
    finish_reason: Literal["stop", "length", "given"]
    tokens: list[str]
    record: AttentionRecord
    image_tokens: list[ImageTokens] | None
    no_overlay: str | None

    def share(self, group: str, queries: Queries) -> float | None:
        """Mean share of the attention of these queries on a key group; None if there are no such queries."""
        chosen = self.record.chosen(queries)
        return float(self.record.mass[group][..., chosen].double().mean()) if bool(chosen.any()) else None


def look(conversation: Conversation) -> Look:
    """Ask, and measure where the model looked.

    Raises UsageError for a call that is off, and CheckpointError, BackendError, ChatTemplateError or ObserveError where
    the model or the images cannot be used.
    """
    check(conversation)
    pictures = [read_picture(path) for path in conversation.images]
    resolved = resolve(replace(conversation.asking, backend="transformers"))
    checkpoint, system = resolved.checkpoint, resolved.system_prompt
    kernel = resolved.asking.backend_options.get("attn_implementation")
    backend = TransformersBackend(
        checkpoint,
        resolved.asking.device,
        resolved.asking.dtype,
        attn_implementation=kernel,
        image_limits=resolved.image_limits,
    )
    inputs = _encoded(backend, conversation, system, pictures)
    token_ids, response, reason = _response(backend, conversation, inputs, resolved.decoding.max_new_tokens)
    return observed(
        backend,
        inputs,
        token_ids,
        model=checkpoint.name,
        revision=checkpoint.revision,
        system=system,
        prompt=conversation.prompt,
        question=conversation.prompt,
        image_names=[str(path) for path in conversation.images],
        pictures=pictures,
        response=response,
        finish_reason=reason,
    )


def observed(
    backend: TransformersBackend, inputs: Any, token_ids: list[int], *, pictures: list[Image.Image], **said: Any
) -> Look:
    """Where the model looks in one encoded conversation and this response to it, in two passes, nothing generated.

    said: the other fields of `Look`. Raises ObserveError where the model cannot be observed.
    """
    (record,) = backend.measure(inputs, [token_ids])
    tokens = [backend.processor.tokenizer.decode([token], skip_special_tokens=False) for token in token_ids]
    image_tokens, no_overlay = _image_tokens(backend, inputs, token_ids, record, pictures)
    return Look(
        pictures=pictures, tokens=tokens, record=record, image_tokens=image_tokens, no_overlay=no_overlay, **said
    )


def check(conversation: Conversation) -> None:
    """Raise UsageError for what is off without loading anything."""
    if not conversation.images:
        raise UsageError("give at least one --image FILE: this command shows where a model looks in images")
    if not conversation.prompt.strip():
        raise UsageError("--prompt is empty: say what to ask about the image")
    if conversation.response is not None and not conversation.response.strip():
        raise UsageError("--response is empty: leave it out to let the model answer")
    said = {"prompt": conversation.prompt, "response": conversation.response}
    for option, text in (said | {"system": conversation.asking.system_prompt}).items():
        if text is not None and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise UsageError(f"--{option} is not valid UTF-8")
    resolve(replace(conversation.asking, backend="transformers"))


def read_picture(path: Path) -> Image.Image:
    """The picture as a model is given it. Raises UsageError if it is not there or not a picture."""
    try:
        if not path.is_file():
            raise UsageError(f"there is no image file {str(path)!r}")
        return read_rgb(path)
    except UNREADABLE as error:
        raise UsageError(f"{str(path)!r} cannot be read as an image: {picture_fault(error)}") from error


def _encoded(backend: TransformersBackend, conversation: Conversation, system: str | None, pictures: Any) -> Any:
    placeholders = (backend.markup.format.image, backend.markup.format.placeholder)
    for option, text in (("prompt", conversation.prompt), ("system", system), ("response", conversation.response)):
        if text is not None and (token := next((token for token in placeholders if token in text), None)):
            raise UsageError(f"--{option} contains {token}, which stands for an image in this model: leave it out")
    content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": conversation.prompt}]
    messages = [{"role": "user", "content": content}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
    return backend.encode([backend.render(messages)], [pictures])


def _response(
    backend: TransformersBackend, conversation: Conversation, inputs: Any, limit: int
) -> tuple[list[int], str, Literal["stop", "length", "given"]]:
    if conversation.response is not None:
        token_ids = backend.processor.tokenizer.encode(conversation.response, add_special_tokens=False)
        return token_ids, conversation.response, "given"
    (generation,) = backend.generate(inputs, Decoding(max_new_tokens=limit), ["0"])
    return generation.token_ids, generation.text, generation.finish_reason


def _image_tokens(
    backend: TransformersBackend,
    inputs: Any,
    token_ids: list[int],
    record: AttentionRecord,
    pictures: Sequence[Image.Image],
) -> tuple[list[ImageTokens] | None, str | None]:
    keys = (record.roles == Role.IMAGE).nonzero().flatten()
    sizes = [picture.size for picture in pictures]
    try:
        places = image_token_places(backend.markup.format, backend.processor, inputs, sizes, len(keys))
    except UnknownPlacesError as error:
        return None, str(error)
    chosen = {name: record.queries[record.chosen(name)] for name in QUERY_SETS}
    queries = {name: rows for name, rows in chosen.items() if len(rows)}
    shares = attention_on_image_tokens(
        backend.model,
        with_responses(inputs, [token_ids]),
        keys,
        queries,
        TokenRoles(record.roles[None]),
        backend.steering or UNSTEERED,
    )
    counts = [len(boxes) for boxes in places]
    parts = {name: torch.split(total, counts) for name, total in shares.items()}
    return [
        ImageTokens(boxes, {name: parts[name][index].numpy() for name in queries}) for index, boxes in enumerate(places)
    ], None
