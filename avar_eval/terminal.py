"""The terminal, and the border at which other people's text comes to it: servers', rows', checkpoints', file names'.

All that is printed goes through `inert`: by `say` and `note`, or on a console of `avar_eval.console`.
"""

import logging
import re
import sys
import warnings
from typing import Any, Final, TextIO

import typer

from avar_eval.keys import masked

_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_ACTIVE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves the cursor, colours, renames the window, writes backwards, cannot be written; line ends and tabs stay."""


def inert(text: str) -> str:
    """The text without API keys, what a terminal obeys written as \\u001b: JSON stays the same JSON."""
    return _ACTIVE.sub(lambda found: f"\\u{ord(found[0]):04x}", masked(text))


def say(text: str, end: str = "\n", file: TextIO | None = None) -> None:
    """Print on standard output, or into `file`."""
    typer.echo(inert(text) + end, nl=False, file=file)


def note(text: str) -> None:
    """Print on standard error."""
    say(text, file=sys.stderr)


def tame_libraries() -> None:
    """What libraries log and warn of is made inert, too: they quote configurations, names of tensors, file names."""
    plain_record, plain_warning = logging.getLogRecordFactory(), warnings.formatwarning

    def record(*args: Any, **fields: Any) -> logging.LogRecord:
        made = plain_record(*args, **fields)
        try:
            said = made.getMessage()
        except (TypeError, ValueError, KeyError):  # arguments that do not fit: logging itself says so, and goes on
            said = f"{made.msg} {made.args}"
        made.msg, made.args = _without_commands(said), ()
        if made.exc_info:
            made.exc_text = _without_commands(logging.Formatter().formatException(made.exc_info))
        return made

    def warning(*args: Any, **fields: Any) -> str:
        return _without_commands(plain_warning(*args, **fields))

    logging.setLogRecordFactory(record)
    warnings.formatwarning = warning


def _without_commands(text: str) -> str:
    """Inert, but for the colours that libraries give to their own tables on a terminal."""
    if not sys.stderr.isatty():
        return inert(_COLOUR.sub("", text))
    parts = _COLOUR.split(text)
    colours = _COLOUR.findall(text)
    return "".join(inert(part) + colour for part, colour in zip(parts, [*colours, ""], strict=True))
