"""One SHA-256 over all that a task's questions and verdicts are made from: its code, its YAML, its rows, its pictures.

Equal ones mean that a run asked again would ask the same. The other way round it is not so: a comment in a task's code
changes it, too, and a run that is done again for that finds its answers in its record book.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import datasets
from PIL import Image

from avar_eval.pictures import image_sha256
from avar_eval.tasks.catalog import TaskEntry
from avar_eval.user_files import open_file

_CODE: Final = (".py", ".yaml", ".json", ".jinja")
"""Endings of files in a task's folder that decide how it is asked and judged."""
_PICTURE: Final = {"bytes", "path"}
"""The fields of a picture, or a sound, that `datasets` has not decoded."""
_AT_ONCE: Final = 64
"""Rows in memory at a time, with their pictures."""


def task_sha256(entry: TaskEntry, rows: datasets.Dataset | list[dict[str, Any]], limit: int | None) -> str:
    """Of a task's folder and of its first `limit` rows, whose pictures count as their files have them, wherever these
    lie. Raises OSError for code that cannot be read; a picture that cannot is counted by its name.
    """
    digest, folder = hashlib.sha256(), entry.file.parent
    for file in sorted(path for path in folder.rglob("*") if path.suffix in _CODE and path.is_file()):
        digest.update(f"{file.relative_to(folder)}\0{_file_sha256(file)}\n".encode())
    for row in _undecoded(rows, limit):
        digest.update(json.dumps(_hashed(row), sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()


def _undecoded(rows: datasets.Dataset | list[dict[str, Any]], limit: int | None) -> Iterator[Any]:
    if not isinstance(rows, datasets.Dataset):  # what `process_docs` of an lmms-eval task may return
        yield from rows[:limit]
        return
    first = rows if limit is None else rows.select(range(min(limit, len(rows))))
    tables: Iterable[Any] = first.with_format("arrow").iter(_AT_ONCE)
    for table in tables:
        yield from table.to_pylist()


def _hashed(value: Any) -> Any:
    """A value of a row with hashes in the place of pictures and bytes."""
    if isinstance(value, dict) and value.keys() == _PICTURE:
        return _picture(value["bytes"], value["path"])
    if isinstance(value, dict):
        return {str(name): _hashed(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hashed(inner) for inner in value]
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    return image_sha256(value) if isinstance(value, Image.Image) else value


def _picture(content: bytes | None, path: str | None) -> str | None:
    if content is not None:
        return hashlib.sha256(content).hexdigest()
    if path is None:
        return None
    try:
        return _file_sha256(Path(path))
    except OSError:  # the run itself leaves the row out, or refuses it
        return path


def _file_sha256(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
