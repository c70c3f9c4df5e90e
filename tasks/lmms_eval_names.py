"""The tasks that lmms-eval brings, by the names in its files. Light: lmms-eval is not imported."""

import importlib.util
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(
    r"^(task|group)[ \t]*:[ \t]*[\"']?([^\s\"'#\[{-][^\"'#\n]*?)[\"']?[ \t]*(?:#.*)?$", re.MULTILINE
)


def lmms_eval_folder() -> Path | None:
    """Where the installed lmms-eval has its tasks; None without it."""
    spec = importlib.util.find_spec("lmms_eval")
    return (
        None if spec is None or not spec.submodule_search_locations else Path(*spec.submodule_search_locations, "tasks")
    )


@cache
def lmms_eval_files() -> dict[str, Path]:
    """The YAML file of each task and group that lmms-eval brings, by its name as it is written there."""
    found = {name: path for path, kind, name in _named() if kind == "group"}
    return dict(sorted((found | {name: path for path, kind, name in _named() if kind == "task"}).items()))


def _named() -> Iterator[tuple[Path, str, str]]:
    """A file, `task` or `group`, and the name. A group's file has a list of tasks, which is no name."""
    folder = lmms_eval_folder()
    for place, _, names in os.walk(folder) if folder else ():
        for name in sorted(names):
            if name.endswith(".yaml"):
                path = Path(place, name)
                fields = dict(_NAME.findall(path.read_text(encoding="utf-8", errors="replace")))
                kind = "task" if "task" in fields else "group"  # a task's `group` is a tag
                if kind in fields:
                    yield path, kind, fields[kind]
