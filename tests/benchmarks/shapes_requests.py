"""The questions that the throughput benchmarks ask."""

from typing import Any

from lmms_eval.tasks import TaskManager

from avar_eval.models.registry import get_model
from avar_eval.tasks.catalog import TASKS_FOLDER

ENTRY = get_model("avar-tiny")


def requests(limit: int) -> tuple[list[Any], Any]:
    """lmms-eval's requests for the first questions of shapes, and the dataset that they refer to."""
    manager = TaskManager(include_path=str(TASKS_FOLDER), include_defaults=False)
    task = manager.load_task_or_group(["shapes"], task_type="chat")["shapes"]
    task.build_all_requests(limit=limit)
    for instance in task.instances:
        instance.arguments[2]["max_new_tokens"] = ENTRY.max_new_tokens
    return task.instances, task.dataset
