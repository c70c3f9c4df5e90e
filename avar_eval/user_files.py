"""Files that users name, read so that none hangs, exhausts memory or ends in a traceback."""

import errno
import json
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, cast

import yaml

from avar_eval.errors import UsageError

_MOST_YAML: Final = 1_000_000
"""Characters of YAML: PyYAML reads about as many in two seconds."""
_MOST_NODES: Final = 100_000
"""Values of a YAML file with its aliases written out: nine lines of aliases make a thousand million."""


def open_file(path: Path) -> BufferedReader:
    """Open a regular file for reading. Raises OSError, also for a pipe or a device, where reading may never end."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe that nobody writes to would block right here
    kind = os.fstat(file).st_mode
    if not stat.S_ISREG(kind):
        os.close(file)
        code = errno.EISDIR if stat.S_ISDIR(kind) else errno.EINVAL
        raise OSError(code, "it is a folder" if stat.S_ISDIR(kind) else "it is a pipe or a device, no file", str(path))
    return os.fdopen(file, "rb")


def read_bytes(path: Path) -> bytes:
    """The content of a regular file. Raises OSError."""
    with open_file(path) as file:
        return file.read()


def read_text(path: Path) -> str:
    """The text of a regular file in UTF-8, line ends as Python has them. Raises OSError, UnicodeDecodeError."""
    return read_bytes(path).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def parse_json(text: str | bytes) -> Any:
    """JSON as Python values. Raises ValueError, also for what is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None


def parse_yaml(text: str) -> Any:
    """YAML as Python values. Raises ValueError for what is no YAML, too long, nested too deeply or made of aliases."""
    if len(text) > _MOST_YAML:
        raise ValueError(f"it has more than {_MOST_YAML:,} characters")
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            _size(node, {})
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, TypeError) as error:  # TypeError: of keys that are lists
        raise ValueError(" ".join(str(error).split())) from error


def read_yaml(path: Path, named: str = "") -> Any:
    """The values of a YAML file in UTF-8. named: what messages call it, such as "the recipe". Raises UsageError."""
    try:
        return parse_yaml(read_text(path))
    except OSError as error:
        raise UsageError(f"{named} {path} cannot be read: {error.strerror}".lstrip()) from error
    except ValueError as error:
        raise UsageError(f"{path} cannot be read as YAML in UTF-8: {error}") from error


def _size(node: Any, known: dict[int, int]) -> int:
    """How many values a node holds with aliases written out. Raises ValueError if too many, or if it holds itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if (size := known.get(id(node))) is not None:
        if not size:
            raise ValueError("a part of it holds itself")
        return size
    known[id(node)] = 0
    parts = [part for pair in cast("list[Any]", node.value) for part in (pair if isinstance(pair, tuple) else (pair,))]
    size = 1 + sum(_size(part, known) for part in parts)
    if size > _MOST_NODES:
        raise ValueError(f"it holds more than {_MOST_NODES:,} values, its aliases written out")
    known[id(node)] = size
    return size
