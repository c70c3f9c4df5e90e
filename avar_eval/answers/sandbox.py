"""The inside of a worker process (workers.py): reads questions, answers them, and can do nothing else.

Limits are the kernel's, not Python's: memory by RLIMIT_AS, processor time of one question by an interval timer whose
signal ends the process. An audit hook refuses to write files, to start programs, to open sockets and to compile text
that is more than one number: no library that parses a response can run it, even where it would (sympy's `parse_expr`
evaluates what it is given).
"""

import importlib
import json
import logging
import os
import re
import resource
import signal
import sys
from typing import Any, Final

_ALLOWED_OS_EVENTS: Final = frozenset({"os.listdir", "os.scandir", "os.walk"})
_REFUSED: Final = ("os.", "subprocess.", "socket.", "shutil.", "ctypes.", "pty.", "webbrowser.", "urllib.")
_NOT_READING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


# What sympy compiles to read a number, and nothing else.
_NUMBER: Final = re.compile(
    r"from sympy import \*|(?:Integer|Float|Rational) \('?[0-9.]{1,400}(?:[eE][-+]?[0-9]{1,4})?'? ?\)"
)

READ_ONLY: Final = "<read, not run>"
"""The file name under which a worker's function may parse text into a syntax tree (`ast.PyCF_ONLY_AST`)."""


class RefusedError(Exception):
    """What a response's text must not do."""


def serve(cpu_seconds: float, memory_bytes: int) -> None:
    """Answer questions from standard input until it closes."""
    questions, answers = sys.stdin.buffer, os.dup(sys.stdout.fileno())
    logging.disable(logging.CRITICAL)
    from avar_eval.answers import symbolic

    symbolic.warm_up()
    # The parsers print warnings; a traceback of a start that failed has been seen by now.
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.addaudithook(_refuse)
    os.write(answers, b"ready\n")
    for line in questions:
        question = json.loads(line)
        # ITIMER_PROF's signal ends the process from within the kernel, also in the midst of one long C call.
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        answer = _answer(question)
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(answers, json.dumps(answer).encode() + b"\n")


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    try:
        function = getattr(importlib.import_module(question["module"]), question["function"])
        return {"result": function(*question["arguments"])}
    except MemoryError:
        return {"limit": True}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error)[:200]}"}


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        _, mode, flags = arguments
        refused = bool(flags & _NOT_READING) if isinstance(flags, int) else mode not in (None, "r", "rb")
    elif event == "compile":
        refused = not _may_compile(*arguments)
    else:
        refused = event.startswith(_REFUSED) and event not in _ALLOWED_OS_EVENTS
    if refused:
        raise RefusedError(event)


def _may_compile(source: Any, name: Any) -> bool:
    """Whether it is a module's file, a number, or text that is parsed only."""
    if name == READ_ONLY or os.path.isfile(str(name)):
        return True
    text = source.decode(errors="replace") if isinstance(source, bytes) else str(source)
    return _NUMBER.fullmatch(text) is not None
