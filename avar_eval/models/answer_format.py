"""Ask for an answer in a model's own words: the registry's `instruction` in place of its prompt style's sentence."""

from typing import Any

from avar_eval.models.registry import ModelEntry
from avar_eval.tasks.prompts import instruction

Replacement = tuple[str, str]
"""A prompt style's sentence, and what the model's authors say instead."""


def instruction_for(entry: ModelEntry | None) -> Replacement | None:
    """The model's own published sentence beside that of its answer format; None if it has none."""
    if entry is None or not entry.instruction:
        return None
    return instruction(entry.answer_format, ""), entry.instruction


def with_instruction(message: dict[str, Any], replacement: Replacement) -> dict[str, Any]:
    """A chat message of lmms-eval with the model's own sentence, where its style's stands."""
    return message | {"content": [_replaced(part, replacement) for part in message["content"]]}


def _replaced(part: dict[str, Any], replacement: Replacement) -> dict[str, Any]:
    return part | {"text": part["text"].replace(*replacement)} if part["type"] == "text" else part
