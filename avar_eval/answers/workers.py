"""Processes that do what a response's text could make endless: parsing and comparing expressions.

sympy can hang, eat all memory or recurse to death on a short text, and no thread can be stopped. So such work is done
in a process with hard limits (sandbox.py), which the kernel ends when it passes one; another takes its place. Nothing
is started before the first question; nothing heavy is imported here. Safe in threads, after a fork, inside pytest,
lmms-eval and a trainer's reward.
"""

import atexit
import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

CPU_SECONDS: Final = 3.0
"""What one question may take. Processor time, so that a busy machine judges as an idle one does."""

WALL_SECONDS: Final = 60.0
"""When a worker is given up that uses no processor time either (a stopped or starved process)."""

MEMORY_BYTES: Final = 2**30

# A fork server imports from where its parent does, whatever the current folder.
_START: Final = (
    "import json, sys; path, *settings = json.loads(sys.argv[1]); sys.path[:] = path; sys.dont_write_bytecode = True; "
    "from avar_eval.answers.sandbox import run_fork_server; run_fork_server(*settings)"
)
_NOT_STARTED: Final = "a process for comparing answers cannot be started: see its message above"


class WorkLimitError(Exception):
    """A question took more time or memory than it may."""


class WorkerError(RuntimeError):
    """A worker could not be started, or the function it was asked to run failed: a fault of ours, not of a text."""


class Workers:
    """Up to `count` worker processes that answer questions, one at a time each.

    cpu_seconds, wall_seconds, memory_bytes: limits of one question.
    """

    def __init__(
        self,
        count: int,
        *,
        cpu_seconds: float = CPU_SECONDS,
        wall_seconds: float = WALL_SECONDS,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self._count = count
        self._limits = (cpu_seconds, wall_seconds, memory_bytes)
        self._preparations: list[str] = []
        self._thread = threading.local()
        self._fork_server: _ForkServer | None = None
        self._forget()
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self.close)

    def _forget(self) -> None:
        """Start afresh: a forked child shares its parent's fork server, but must not share its workers."""
        self._idle: list[_Worker] = []
        self._places = threading.BoundedSemaphore(self._count)
        self._starting = threading.Lock()

    def prepare(self, function: Callable[[], None]) -> None:
        """Have a module's function called once before workers are made, to import and warm up what they will need."""
        self._preparations.append(f"{function.__module__}:{function.__qualname__}")

    def start(self) -> None:
        """Make ready for the first question now, which takes seconds: before a measurement, or before forking."""
        with self._places:
            self._idle.append(self._take())

    @contextlib.contextmanager
    def one_limit(self) -> Iterator[None]:
        """Within it, all questions of this thread together may take the processor time of one."""
        self._thread.left = self._limits[0]
        try:
            yield
        finally:
            self._thread.left = None

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of a module's function in a worker; arguments and result are plain JSON.

        Raises WorkLimitError if it passes a limit, WorkerError if it raises.
        """
        left: float | None = getattr(self._thread, "left", None)
        if left is not None and left <= 0:
            raise WorkLimitError
        question = {
            "module": function.__module__,
            "function": function.__qualname__,
            "arguments": arguments,
            "cpu_seconds": self._limits[0] if left is None else left,
        }
        with self._places:
            worker = self._take()
            try:
                answer = worker.ask(question)
            except BaseException:
                worker.close()
                raise
            self._idle.append(worker)
        if left is not None:
            self._thread.left = left - answer["seconds"]
        if "error" in answer:
            raise WorkerError(f"{function.__qualname__} failed: {answer['error']}")
        return answer["result"]

    def _take(self) -> "_Worker":
        """An idle worker that is alive, or a new one."""
        while True:
            try:
                worker = self._idle.pop()
            except IndexError:
                return self._new()
            if worker.is_alive():
                return worker
            worker.close()

    def _new(self) -> "_Worker":
        with self._starting:
            if self._fork_server is not None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    return self._fork_server.worker(self._limits[1])
                self._fork_server.close()  # it was ended from outside
            self._fork_server = _ForkServer([*self._preparations], *self._limits[1:])
            return self._fork_server.worker(self._limits[1])

    def close(self) -> None:
        """End the idle workers and what makes them; the next question starts new ones."""
        while self._idle:
            self._idle.pop().close()
        if self._fork_server is not None:
            self._fork_server.close()
            self._fork_server = None


class _ForkServer:
    """The process that workers are forks of. It ends with the last process that holds its socket."""

    def __init__(self, preparations: list[str], wall_seconds: float, memory_bytes: int) -> None:
        self._owner = os.getpid()
        self._socket, other = socket.socketpair()
        with other:
            settings = [sys.path, other.fileno(), preparations, wall_seconds, memory_bytes]
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, json.dumps(settings)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # parsers print
                pass_fds=[other.fileno()],
                start_new_session=True,  # Ctrl-C is for the parent
            )
        if not self._socket.recv(1):
            self.close()
            raise WorkerError(_NOT_STARTED)

    def worker(self, wall_seconds: float) -> "_Worker":
        """A new worker. Raises BrokenPipeError or ConnectionResetError if the fork server has ended."""
        reading, questions = os.pipe()
        answers, writing = os.pipe()
        try:
            socket.send_fds(self._socket, [b"w"], [reading, writing])
        except BaseException:
            os.close(questions)
            os.close(answers)
            raise
        finally:
            os.close(reading)
            os.close(writing)
        return _Worker(questions, answers, wall_seconds)

    def close(self) -> None:
        self._socket.close()
        if os.getpid() == self._owner:  # not in a forked child, which only shares it
            self._process.kill()
            self._process.wait()


class _Worker:
    """One worker process: a line of JSON in, a line of JSON out.

    It ends when its questions close, or at a limit: nothing that it computes meanwhile outlasts `CPU_SECONDS`.
    """

    def __init__(self, questions: int, answers: int, wall_seconds: float) -> None:
        self._questions, self._answers = os.fdopen(questions, "wb", 0), os.fdopen(answers, "rb", 0)
        self._wall_seconds = wall_seconds
        try:
            self._read_line(time.monotonic() + wall_seconds)
        except WorkLimitError:
            self.close()
            raise WorkerError(_NOT_STARTED) from None

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + self._wall_seconds
        try:
            _write_all(self._questions.fileno(), json.dumps(question).encode() + b"\n")
        except BrokenPipeError:
            raise WorkLimitError from None
        answer: dict[str, Any] = json.loads(self._read_line(deadline))
        if answer.get("limit"):
            raise WorkLimitError
        return answer

    def _read_line(self, deadline: float) -> bytes:
        """The worker's next line. Raises WorkLimitError if it ends or the deadline passes before one is whole."""
        line = b""
        while not line.endswith(b"\n"):
            if not self._readable(max(0.0, deadline - time.monotonic())):
                raise WorkLimitError
            part = os.read(self._answers.fileno(), 65536)
            if not part:
                raise WorkLimitError
            line += part
        return line

    def _readable(self, seconds: float) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            return bool(selector.select(seconds))

    def is_alive(self) -> bool:
        """Of an idle worker: it writes nothing unasked, so that all there can be to read is its end."""
        return not self._readable(0.0)

    def close(self) -> None:
        self._questions.close()
        self._answers.close()


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


WORKERS: Final = Workers(max(1, min(4, os.cpu_count() or 1)))
"""The process's own workers."""
