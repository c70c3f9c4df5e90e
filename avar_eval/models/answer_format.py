"""Ask for an answer in the form that a model gives it in: the registry's `answer_format` and `instruction`."""

from typing import Any, Final

from avar_eval.models.registry import ModelEntry
from avar_eval.tasks.prompts import THINKING

BOXED: Final = "Please reason step by step, and put your final answer within \\boxed{}."


def instruction_for(entry: ModelEntry | None) -> str | None:
    """The sentence that takes the place of `THINKING` in a task's prompt; None leaves that, empty takes it out.

    The model's own published sentence, where there is one. A direct answer is asked for by the benchmark's own words.
    """
    if entry is None or (entry.instruction is None and entry.answer_format == "thinking"):
        return None
    return entry.instruction or (BOXED if entry.answer_format == "boxed" else "")


def with_instruction(message: dict[str, Any], instruction: str) -> dict[str, Any]:
    """A chat message of lmms-eval with `instruction` in place of `THINKING`."""
    return message | {"content": [_replaced(part, instruction) for part in message["content"]]}


def _replaced(part: dict[str, Any], instruction: str) -> dict[str, Any]:
    if part["type"] != "text":
        return part
    before = THINKING if instruction else f"\n{THINKING}"
    return part | {"text": part["text"].replace(before, instruction)}
