"""Names: those that a user typed and what they may have meant, and the first few of many."""

import difflib
from collections.abc import Iterable
from pathlib import Path

from avar_eval.errors import UsageError

_SHOWN = 5


def listed_names(text: str) -> list[str]:
    """The names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def run_name(model: str) -> str:
    """What a model's runs are called by default: the last part of its name or path, in lower case."""
    name = Path(model).name
    return (Path(model).resolve().name if name in ("", "..") else name).lower()


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str = "", listed_by: str = "") -> UsageError:
    """The error for an unknown name, and the nearest known ones; if none is near, all of them or what lists them."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    listed = f"`{listed_by}` lists those that are known" if listed_by else f"known: {', '.join(names)}"
    offer = f"did you mean {' or '.join(near)}?" if near else listed
    return UsageError(" ".join(part for part in (f"unknown {kind} {name!r}: {offer}", hint) if part))


def first_few(ids: Iterable[str]) -> str:
    """The first few of some ids, and how many more there are."""
    known = list(ids)
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return ", ".join(map(repr, known[:_SHOWN])) + more
