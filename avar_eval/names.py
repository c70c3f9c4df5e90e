"""Names that a user typed, and the first few of many."""

from collections.abc import Iterable
from pathlib import Path

_SHOWN = 5


def listed_names(text: str) -> list[str]:
    """The names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def run_name(model: str) -> str:
    """What a model's runs are called by default: the last part of its name or path, in lower case."""
    name = Path(model).name
    return (Path(model).resolve().name if name in ("", "..") else name).lower()


def first_few(ids: Iterable[str]) -> str:
    """The first few of some ids, and how many more there are."""
    known = list(ids)
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return ", ".join(map(repr, known[:_SHOWN])) + more
