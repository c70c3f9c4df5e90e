"""Names that a user typed, and what they may have meant."""

import difflib
from collections.abc import Iterable

from avar_eval.errors import UsageError


def listed_names(text: str) -> list[str]:
    """The names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str = "") -> UsageError:
    """The error for an unknown name, with the nearest known ones (or all, if none is near)."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    offer = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return UsageError(" ".join(part for part in (f"unknown {kind} {name!r}: {offer}", hint) if part))
