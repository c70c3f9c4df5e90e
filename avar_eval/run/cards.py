"""What of a run's protocol follows from how a model is asked, before that model is opened. Light."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from avar_eval.run.model import ResolvedModel
from avar_eval.tasks.catalog import TaskEntry


def asking_card(model: ResolvedModel) -> dict[str, Any]:
    """How its prompts are made and its responses drawn."""
    return {
        "system_prompt": model.system_prompt,
        "prompt_style": model.prompt_style,
        "instruction": model.instruction,
        "decoding": model.decoding.protocol(),
    }


def task_cards(model: ResolvedModel, tasks: Sequence[TaskEntry]) -> dict[str, Any]:
    """Which tasks, of which version and rows, and by whose rules they are asked. Raises as `prompt_settings` does."""
    return {
        "tasks": {
            task.name: {
                "version": task.version,
                "dataset": task.dataset,
                "revision": task.revision,
                "split": task.split,
            }
            | ({"form": task.form} if task.form == "lmms-eval" else {})
            | ({"decoding": of.protocol()} if (of := model.task_decoding(task)) != model.decoding else {})
            for task in tasks
        },
        **({"uniform_prompts": True} if model.asking.uniform_prompts else {}),
        **({"protocol": model.protocol.card(list(tasks))} if model.protocol else {}),
    }


def planned_protocol(model: ResolvedModel, tasks: Sequence[TaskEntry]) -> dict[str, Any]:
    """All of it; what a protocol has only where it is set is None here where it is not."""
    steering = model.asking.steering
    return {
        "model": model.name,
        **asking_card(model),
        "steering": None if steering is None else steering.identity(),
        "image_limits": asdict(model.image_limits) if model.image_limits else None,
        "limit": model.asking.limit,
        "uniform_prompts": None,
        "protocol": None,
        **task_cards(model, tasks),
    }
