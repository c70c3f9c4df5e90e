"""Errors a user can meet. The command line prints each as one message, without a traceback."""

import difflib
from collections.abc import Iterable


class AvarError(Exception):
    """Something went wrong that the message says how to mend. Exit code 1."""

    exit_code = 1


class UsageError(AvarError):
    """The call itself is off: an unknown name or a value out of range. Exit code 2.

    What to do: Write the name or value that the message offers; `--help` lists what an option takes.
    """

    exit_code = 2


def unknown_name(kind: str, name: str, known: Iterable[str], hint: str = "", listed_by: str = "") -> UsageError:
    """The error for an unknown name, and the nearest known ones; if none is near, all of them or what lists them."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    listed = f"`{listed_by}` lists those that are known" if listed_by else f"known: {', '.join(names)}"
    offer = f"did you mean {' or '.join(near)}?" if near else listed
    return UsageError(" ".join(part for part in (f"unknown {kind} {name!r}: {offer}", hint) if part))
