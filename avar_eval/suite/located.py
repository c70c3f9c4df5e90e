"""A YAML file whose every value knows its line, so that a message can say where something is wrong."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from avar_eval.errors import AvarError, UsageError
from avar_eval.user_files import read_text, read_yaml


class Faults:
    """What is wrong in several places of a file, to be said at once."""

    def __init__(self) -> None:
        self._messages: dict[str, None] = {}

    def add(self, error: UsageError) -> None:
        """One more; what is said already, as of several models, is not said again."""
        self._messages[str(error)] = None

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """What this context raises is noted, and ends it."""
        try:
            yield
        except UsageError as error:
            self.add(error)

    def raise_any(self) -> None:
        """Raise UsageError with a line for each, if there are any."""
        if self._messages:
            raise UsageError("\n".join(self._messages))


Place = tuple[str | int, ...]
"""Keys and positions from the top: ("models", 1, "limit")."""


@dataclass(frozen=True)
class LocatedYaml:
    """content: the file's values. lines: of each place, from 1."""

    path: Path
    content: Any
    lines: dict[Place, int]

    @classmethod
    def read(cls, path: Path, named: str) -> "LocatedYaml":
        """Read a file; `named` is what messages call it. Raises UsageError."""
        content = read_yaml(path, named)
        lines: dict[Place, int] = {}
        found = cls(path, content, lines)
        if (node := yaml.compose(read_text(path), Loader=yaml.SafeLoader)) is not None:
            found._locate(node, ())
        return found

    def _locate(self, node: yaml.Node, place: Place) -> None:
        self.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.SequenceNode):
            for number, item in enumerate(node.value):
                self._locate(item, (*place, number))
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = (*place, str(key.value))
                self.lines[inner] = key.start_mark.line + 1
                self._locate(value, inner)

    def has(self, place: Place) -> bool:
        """Whether the file says anything there."""
        try:
            self.at(place)
        except (KeyError, IndexError, TypeError):
            return False
        return True

    def at(self, place: Place) -> Any:
        """The values at a place that the file has."""
        value = self.content
        for part in place:
            value = value[part]
        return value

    def line(self, place: Place) -> int:
        """The line of the nearest part of a place that the file has."""
        while place not in self.lines and place:
            place = place[:-1]
        return self.lines.get(place, 1)

    def error(self, place: Place, problem: AvarError | str) -> UsageError:
        """A message that names the file and the line."""
        return UsageError(f"{self.path}, line {self.line(place)}: {problem}")
