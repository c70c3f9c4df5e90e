"""Names that a user typed, and the first few of many."""

import re
from collections.abc import Iterable
from pathlib import Path

_SHOWN = 5
_NUMBERED = re.compile(r"(checkpoint|step|epoch)[-_]?\d+|best|last|final", re.IGNORECASE)


def listed_names(text: str) -> list[str]:
    """The names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def run_name(model: str) -> str:
    """What a model's runs are called by default: the last part of its name or path, in lower case.

    A checkpoint that has only a number is called after its training as well: `out--checkpoint-100`.
    """
    path = Path(model) if Path(model).name not in ("", "..") else Path(model).resolve()
    if _NUMBERED.fullmatch(path.name) and (training := path.absolute().parent.name):
        return f"{training}--{path.name}".lower()
    return path.name.lower()


def first_few(ids: Iterable[str]) -> str:
    """The first few of some ids, and how many more there are."""
    known = list(ids)
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return ", ".join(map(repr, known[:_SHOWN])) + more
