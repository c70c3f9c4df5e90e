"""The inside of a worker process (workers.py): reads questions, answers them, and can do nothing else.

A fork server imports and warms up the libraries once, which takes seconds; each worker is a fork of it, which takes
milliseconds, so that a killed one costs little.

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
import socket
import sys
import time
from collections.abc import Sequence
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


def run_fork_server(requests: int, preparations: Sequence[str], wall_seconds: float, memory_bytes: int) -> None:
    """Prepare once, write a byte, then fork a worker for each pair of files that arrives, until the socket closes.

    requests: file number of a stream socket; each byte on it brings the files of a worker's questions and answers.
    preparations: functions as `module:name`, called before the first fork.
    """
    logging.disable(logging.CRITICAL)
    for preparation in preparations:
        module, _, name = preparation.partition(":")
        getattr(importlib.import_module(module), name)()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for workers
    with socket.socket(fileno=requests) as control:
        control.send(b"r")
        while True:
            message, files, _, _ = socket.recv_fds(control, 1, 2)
            if not message:
                return
            if os.fork() == 0:
                control.close()
                questions, answers = files
                _serve(questions, answers, wall_seconds, memory_bytes)
                os._exit(0)
            for file in files:
                os.close(file)


def _serve(questions: int, answers: int, wall_seconds: float, memory_bytes: int) -> None:
    """Answer questions, one a line, until their file closes. Each says how much processor time it may take."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # what a parser warns of is no news to a user
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.addaudithook(_refuse)
    os.write(answers, b"ready\n")
    for line in os.fdopen(questions, "rb"):
        question = json.loads(line)
        # These signals end the process from within the kernel, also in the midst of one long C call.
        signal.setitimer(signal.ITIMER_PROF, question["cpu_seconds"])
        signal.setitimer(signal.ITIMER_REAL, wall_seconds)
        start = time.process_time()
        answer = _answer(question) | {"seconds": time.process_time() - start}
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
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
