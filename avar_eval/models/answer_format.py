"""Ask for an answer in a model's own words: the registry's `instruction` in place of its prompt style's sentence."""

from collections.abc import Sequence
from typing import Any, Final

from avar_eval.models.registry import ModelEntry
from avar_eval.tasks.prompts import Style, instruction

Replacement = tuple[str, str]
"""What stands in a prompt of the model's style, and what its authors say instead; of `QUESTION` all of the prompt."""

QUESTION: Final = "{question}"
"""In a model's `instruction`, the place of the question."""


def instruction_for(entry: ModelEntry | None, chosen: Style | None = None) -> Replacement | None:
    """The model's own published words, and what they stand for; None if it has none, or another style was chosen."""
    if entry is None or not entry.instruction:
        return None
    if QUESTION in entry.instruction:
        return (QUESTION, entry.instruction) if chosen is None else None
    return instruction(entry.answer_format, ""), entry.instruction


def with_instruction(message: dict[str, Any], replacement: Replacement) -> dict[str, Any]:
    """A chat message of lmms-eval with the model's own words, where its style's stand, or around all of its text."""
    replaced, said = replacement
    content = message["content"]
    if replaced == QUESTION:
        return message | {"content": _around(content, *said.split(QUESTION))}
    return message | {
        "content": [
            part | {"text": part["text"].replace(replaced, said)} if part["type"] == "text" else part
            for part in content
        ]
    }


def _around(content: Sequence[dict[str, Any]], before: str, after: str) -> list[dict[str, Any]]:
    """A message's parts, something before its first text and after its last one; pictures keep their places."""
    parts = [dict(part) for part in content]
    texts = [part for part in parts if part["type"] == "text"]
    if texts:
        texts[0]["text"] = before + texts[0]["text"]
        texts[-1]["text"] += after
    return parts
