"""Work of a suite in processes of its own: what kills one, such as a GPU out of memory, leaves the others running.

A process ends when the one that started it does, however that ends: nothing goes on that nobody waits for.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from avar_eval.atomic import WriteError
from avar_eval.errors import AvarError
from avar_eval.terminal import note, tame_libraries

T = TypeVar("T")

CONTEXT: multiprocessing.context.BaseContext = multiprocessing.get_context("spawn")
"""How processes are started: afresh, as a forked one could not use a GPU that this one has looked at."""
_LONGEST_REASON: Final = 2000
SECONDS_TO_END: Final = 20.0
"""For processes that were interrupted, and for one that an earlier suite has left behind."""
_LOOK: Final = 1.0


@dataclass(frozen=True)
class Failed:
    """Why work has not come to its end."""

    reason: str


@dataclass(frozen=True)
class _Returned:
    value: Any


class Apart(Generic[T]):
    """Work under way in a process of its own. work: can be pickled. log: gets its messages (None: standard error)."""

    def __init__(self, work: Callable[[], T], log: Path | None = None) -> None:
        self._receiver, sender = CONTEXT.Pipe(duplex=False)
        self._process = CONTEXT.Process(target=_do, args=(work, sender, log))  # type: ignore[attr-defined]
        self._process.start()
        sender.close()

    @property
    def ended(self) -> bool:
        """Whether there is a result, or the process is gone."""
        return self._receiver.poll() or not self._process.is_alive()

    def result(self) -> T | Failed:
        """What the work returned, or why it failed, when it has ended."""
        first_ended([self])
        with self._receiver:
            try:
                told = self._receiver.recv() if self._receiver.poll() else None
            except EOFError:
                told = None
        self._process.join()
        if isinstance(told, _Returned):
            returned: T = told.value
            return returned
        return told if isinstance(told, Failed) else Failed(_ending(self._process.exitcode))

    def end(self, seconds: float) -> None:
        """Wait so long for the end of it, which has been interrupted as well, and then kill it."""
        self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def run_apart(work: Callable[[], T]) -> T | Failed:
    """Do work to its end; returns what it does, or why it failed. Raises KeyboardInterrupt when all has ended."""
    with ending_together([running := Apart(work)]):
        return running.result()


def first_ended(running: Collection[Apart[T]]) -> list[Apart[T]]:
    """Wait until any work ends; returns all that has ended."""
    while not (ended := [one for one in running if one.ended]):
        # Not for its end of file alone: a process that this one's has forked may hold the pipe open.
        wait([one._receiver for one in running], _LOOK)
    return ended


@contextlib.contextmanager
def ending_together(running: Iterable[Apart[Any]]) -> Iterator[None]:
    """On Ctrl-C within this context, which a terminal sends to all, wait for the end of all."""
    try:
        yield
    except KeyboardInterrupt:
        end = time.monotonic() + SECONDS_TO_END
        for one in running:
            one.end(max(0.0, end - time.monotonic()))
        raise


def _ending(code: int) -> str:
    """What an exit code says of a process that could not say it itself."""
    if code >= 0:
        return f"its process ended with exit code {code}; see its messages"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    memory = ", which is what a machine does that has no memory left" if -code == signal.SIGKILL else ""
    return f"its process was ended by {name}{memory}"


def _do(work: Callable[[], Any], sender: Connection, log: Path | None) -> None:
    """In the process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        if log is not None:
            _write_messages_to(log)
        tame_libraries()
        # Libraries print, and standard output is for the suite's table.
        with contextlib.redirect_stdout(sys.stderr):
            told: _Returned | Failed = _Returned(work())
    except AvarError as error:
        told = Failed(str(error)[:_LONGEST_REASON])
    except KeyboardInterrupt:
        told = Failed("it was interrupted")
    except Exception as error:
        note("".join(traceback.format_exception(error)).rstrip("\n"))
        told = Failed(f"{type(error).__name__}: {error}"[:_LONGEST_REASON])
    sender.send(told)
    sender.close()
    sys.exit(isinstance(told, Failed))


def _write_messages_to(log: Path) -> None:
    """In the process: its standard error goes to the end of a file from here on. Raises WriteError."""
    try:
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as file:
            os.dup2(file.fileno(), sys.stderr.fileno())
    except OSError as error:
        raise WriteError(log, error.strerror) from error


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
