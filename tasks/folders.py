"""Folders of tasks outside of this package: from `--include-path`, and from installed distributions. Light.

Nothing of a folder is imported before one of its tasks is asked for, and of no folder but those that the user has named
or installed.
"""

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Final

from avar_eval.errors import UsageError

INCLUDE_VARIABLE: Final = "AVAR_INCLUDE_PATH"
"""Folders as in PATH. An environment variable, so that processes that judge for this one know the same tasks."""

ENTRY_POINTS: Final = "avar_eval.tasks"
"""The group in which a distribution names packages that are folders of tasks."""

OWN_FOLDER: Final = Path(__file__).parent


class TaskFolderError(UsageError):
    """A folder of tasks, or a file in it, is not as it has to be.

    What to do: Mend the file that the message names; CONTRIBUTING.md shows a whole folder.
    """


def include_folders(folders: Sequence[Path]) -> None:
    """Make the tasks of these folders known to this process and to those that it starts, beside those named before.

    Raises TaskFolderError for a folder without tasks, before it is known to anyone.
    """
    given = [str(folder.expanduser().absolute()) for folder in folders]
    if split := next((path for path in given if os.pathsep in path), None):
        raise UsageError(f"--include-path takes no path with {os.pathsep!r} in it: {split}")
    for path in given:
        next(task_files(Path(path).resolve()))
    before = list(filter(None, os.environ.get(INCLUDE_VARIABLE, "").split(os.pathsep)))
    if given:
        os.environ[INCLUDE_VARIABLE] = os.pathsep.join(dict.fromkeys([*given, *before]))


def included_folders() -> tuple[Path, ...]:
    """The folders that are named or installed, each once. Raises TaskFolderError."""
    named = filter(None, os.environ.get(INCLUDE_VARIABLE, "").split(os.pathsep))
    folders = [Path(os.path.expanduser(path)).resolve() for path in named]
    return tuple(dict.fromkeys([*folders, *_installed_folders(tuple(sys.path))]))


@cache
def _installed_folders(search_path: tuple[str, ...]) -> tuple[Path, ...]:
    """The packages that distributions on sys.path name; not imported, only their parents if they have any."""
    folders: list[Path] = []
    for point in entry_points(group=ENTRY_POINTS):
        owner = point.dist.name if point.dist else "a distribution"
        try:
            spec = importlib.util.find_spec(point.module)
        except Exception as error:  # the parent of the package is imported, and may fail in any way
            raise TaskFolderError(f"{owner} names {point.value!r} as tasks, which fails: {error!r}") from error
        if spec is None or not spec.submodule_search_locations:
            raise TaskFolderError(f"{owner} names {point.value!r} as tasks, and there is no such package: reinstall it")
        folders += [Path(location).resolve() for location in spec.submodule_search_locations]
    return tuple(folders)


def task_files(folder: Path) -> Iterator[Path]:
    """The YAML files of an included folder: its own, and those one level below. Raises TaskFolderError without any."""
    if not folder.is_dir():
        raise TaskFolderError(f"{folder}, to be included, is no folder")
    files = sorted([*folder.glob("*.yaml"), *folder.glob("*/*.yaml")])
    if not files:
        raise TaskFolderError(f"{folder}, to be included, holds no task: neither NAME.yaml nor BENCHMARK/NAME.yaml")
    yield from files


def import_task_module(folder: Path, name: str) -> ModuleType:
    """`NAME.py` of a task's folder. Raises TaskFolderError if it cannot be imported."""
    if folder.parent == OWN_FOLDER:
        return importlib.import_module(f"avar_eval.tasks.{folder.name}.{name}")
    try:
        return importlib.import_module(f"{_package_name(folder)}.{name}")
    except (Exception, SystemExit) as error:  # a user's file may fail in any way
        raise TaskFolderError(f"{folder / name}.py cannot be imported: {type(error).__name__}: {error}") from error


def _package_name(folder: Path) -> str:
    """A package, under a name that no other has, whose modules are the folder's: they may import one another."""
    name = "avar_included_" + hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    if name in sys.modules:
        return name
    start = folder / "__init__.py"
    if not start.is_file():
        module = ModuleType(name)
        module.__path__ = [str(folder)]
        sys.modules[name] = module
        return name
    spec = importlib.util.spec_from_file_location(name, start, submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{start} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return name
