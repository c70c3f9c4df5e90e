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
_SHOWN: Final = 20
"""Letters that are shown of what stands where something else should."""


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
    """The text of a regular file in UTF-8, line ends as Python has them. Raises OSError, ValueError."""
    return _decoded(read_bytes(path)).replace("\r\n", "\n").replace("\r", "\n")


def parse_json(text: str | bytes) -> Any:
    """JSON as Python values. Raises ValueError, which says where it is none; also for what is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None
    except UnicodeDecodeError:  # Python takes NUL bytes for UTF-16 or UTF-32
        assert isinstance(text, bytes)
        return parse_json(_decoded(text))
    except json.JSONDecodeError as error:
        raise ValueError(_not_json(error)) from error
    except ValueError as error:
        raise ValueError("it holds a number of thousands of digits") from error


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        found = error.object[error.start]
        raise ValueError(f"it is no text in UTF-8: byte {error.start + 1:,} is {found:#04x}") from error


_STANDS_WHERE: Final = {
    "Expecting value": "a value should",
    "Expecting property name": "a name in double quotes should",
    "Expecting ':'": "a colon should",
    "Expecting ','": "a comma or a closing bracket should",
    "Extra data": "it should end",
    "Invalid control character": r"an escape such as \n or \t should",
    "Invalid \\escape": r"another escape should, such as \\ or \n",
    "Invalid \\uXXXX": r"an escape of four digits should, such as \u00e9",
    "Unexpected UTF-8 BOM": "a bracket should",
    "Illegal trailing comma": "a closing bracket should",
}
"""The beginnings of Python's messages on JSON -> what should stand there."""


def _not_json(error: json.JSONDecodeError) -> str:
    """Where a text stops being JSON, what stands there, and what should."""
    if not error.doc.strip():
        return "it is empty"
    several = "\n" in error.doc.strip()
    rest = error.doc[error.pos :]
    if not rest.strip() or error.msg.startswith("Unterminated string"):
        return f"it is no JSON: it breaks off{f' in line {error.lineno}' if several else ''}"
    stands = rest.split("\n")[0][:_SHOWN] if rest[0].isprintable() else json.dumps(rest[0])
    where = next(words for begin, words in _STANDS_WHERE.items() if error.msg.startswith(begin))
    place = f"{f'line {error.lineno}, ' if several else ''}column {error.colno}"
    return f"it is no JSON: in {place} stands {stands} where {where}"


def parse_yaml(text: str) -> Any:
    """YAML as Python values. Raises ValueError for what is no YAML, too long, nested too deeply or made of aliases."""
    if len(text) > _MOST_YAML:
        raise ValueError(f"it has more than {_MOST_YAML:,} characters")
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            _size(node, {})
            return None if node is None else _constructed(loader, node)
        finally:
            loader.dispose()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except yaml.YAMLError as error:
        raise ValueError(yaml_in_words(error)) from error


def _constructed(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    try:
        return loader.construct_document(node)
    except (ValueError, TypeError) as error:  # such as 2026-13-01
        raise ValueError("it holds a date or a number that is none: write it in quotes, or correct it") from error


def yaml_in_words(error: yaml.YAMLError) -> str:
    """What PyYAML found, and its line."""
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark or error.context_mark) is not None:
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem or error.context}"
    if isinstance(error, yaml.reader.ReaderError):
        return f"letter {error.position + 1:,} is a control character"
    return " ".join(str(error).split())


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
