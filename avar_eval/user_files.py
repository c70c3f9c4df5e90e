"""Files that users name, read so that none hangs, exhausts memory or ends in a traceback."""

import errno
import json
import os
import re
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
_MERGE: Final = "tag:yaml.org,2002:merge"
"""Of the key `<<`, which may stand there several times."""
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
    return decoded(read_bytes(path)).replace("\r\n", "\n").replace("\r", "\n")


def parse_json(text: str | bytes) -> Any:
    """JSON as Python values. Raises ValueError, which says where it is none; also for what is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None
    except UnicodeDecodeError:  # Python takes NUL bytes for UTF-16 or UTF-32
        assert isinstance(text, bytes)
        return parse_json(decoded(text))
    except json.JSONDecodeError as error:
        raise ValueError(_not_json(error)) from error
    except ValueError as error:
        raise ValueError("it holds a number of thousands of digits") from error


def decoded(data: bytes) -> str:
    """Text in UTF-8. Raises ValueError, which names the byte that is none."""
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


def parse_yaml(text: str, kind: type[yaml.SafeLoader] = yaml.SafeLoader, *, repeated: bool = False) -> Any:
    """YAML as Python values. kind: of loader, for tags of one's own. repeated: whether the last of equal keys counts.

    Raises ValueError for what is no YAML, too long, nested too deeply or made of aliases, and for a key given twice.
    """
    if len(text) > _MOST_YAML:
        raise ValueError(f"it has more than {_MOST_YAML:,} characters")
    try:
        loader = kind(text)
        try:
            node = loader.get_single_node()
            _size(node, {}, repeated)
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


_YAML_IN_WORDS: Final = {
    r".*'<stream end>'": "it breaks off",
    r"found unexpected end of stream": "a text in quotes does not end",
    r"found character '\\t' .*": "a tab stands where spaces should",
    r"found character '(.)' .*": r"a text that begins with \1 has to stand in quotes",
    r"mapping values are not allowed here": "a colon stands where none can: put a text with a colon in quotes",
    r"could not find expected ':'": "a colon should stand behind the key",
    r"expected <block end>.*|(mapping keys|sequence entries) are not allowed here": "the indentation does not fit",
    r"expected ',' or '(.)'.*": r"a comma or \1 should stand there",
    r"expected the node content.*": "a value should stand there",
    r"found undefined alias '(.*)'": r"*\1 stands for what &\1 should mark before it, and nothing does",
    r"found duplicate anchor '(.*)'.*": r"&\1 stands there twice",
    r"found unknown escape character '(.)'": r"\\\1 is no escape: write \\\\\1, or take single quotes",
    r"could not determine a constructor .*": "no values of this !tag are taken",
    r"found unhashable key": "a list or a mapping cannot be a key",
    r"but found another document": "a second document begins, and one is taken",
    r"expected a mapping (or list of mappings )?for merging.*": "<< takes a mapping",
}
"""PyYAML's messages -> what is wrong."""


def yaml_in_words(error: yaml.YAMLError) -> str:
    """What is no YAML, and its line."""
    if isinstance(error, yaml.reader.ReaderError):
        return f"letter {error.position + 1:,} is a control character"
    assert isinstance(error, yaml.MarkedYAMLError)
    mark, problem = error.problem_mark or error.context_mark, error.problem or ""
    assert mark is not None
    found = ((re.fullmatch(form, problem), words) for form, words in _YAML_IN_WORDS.items())
    said = next((match.expand(words) for match, words in found if match), "it is no YAML from there on")
    return f"line {mark.line + 1}, column {mark.column + 1}: {said}"


def read_yaml(path: Path, named: str = "") -> Any:
    """The values of a YAML file in UTF-8. named: what messages call it, such as "the recipe". Raises UsageError."""
    try:
        return parse_yaml(read_text(path))
    except OSError as error:
        raise UsageError(f"{named} {path} cannot be read: {error.strerror}".lstrip()) from error
    except ValueError as error:
        raise UsageError(f"{path} cannot be read as YAML in UTF-8: {error}") from error


def _size(node: Any, known: dict[int, int], repeated: bool) -> int:
    """How many values a node holds with aliases written out.

    Raises ValueError if too many, if it holds itself, and unless that is allowed, for a key given twice.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if (size := known.get(id(node))) is not None:
        if not size:
            raise ValueError("a part of it holds itself")
        return size
    known[id(node)] = 0
    if isinstance(node, yaml.MappingNode) and not repeated:
        _check_keys(node)
    parts = [part for pair in cast("list[Any]", node.value) for part in (pair if isinstance(pair, tuple) else (pair,))]
    size = 1 + sum(_size(part, known, repeated) for part in parts)
    if size > _MOST_NODES:
        raise ValueError(f"it holds more than {_MOST_NODES:,} values, its aliases written out")
    known[id(node)] = size
    return size


def _check_keys(node: yaml.MappingNode) -> None:
    """Raise ValueError for a key given twice, of which PyYAML takes the last."""
    seen: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
            if (key.tag, key.value) in seen:
                raise ValueError(f"line {key.start_mark.line + 1}: {key.value} is given twice")
            seen.add((key.tag, key.value))
