"""Processes that do what a response's text could make endless: parsing and comparing expressions.

sympy can hang, eat all memory or recurse to death on a short text, and no thread can be stopped. So such work is done
in a child process with hard limits (sandbox.py), which is killed when it passes one and started anew when next needed.
Nothing is started before the first question; nothing heavy is imported here. Safe in threads, after a fork, inside
pytest, lmms-eval and a trainer's reward.
"""

import atexit
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

CPU_SECONDS: Final = 3.0
"""What one question may take. Processor time, so that a busy machine judges as an idle one does."""

WALL_SECONDS: Final = 60.0
"""When a worker is given up that uses no processor time either (a stopped or starved process)."""

MEMORY_BYTES: Final = 2**30

# A worker imports from where its parent does, whatever the current folder.
_START: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); sys.dont_write_bytecode = True; "
    "from avar_eval.answers.sandbox import serve; serve(float(sys.argv[2]), int(sys.argv[3]))"
)


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
        self._forget()
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self.close)

    def _forget(self) -> None:
        """Start afresh: a forked child must not share its parent's workers."""
        self._idle: list[_Worker] = []
        self._places = threading.BoundedSemaphore(self._count)

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The result of a module's function in a worker; arguments and result are plain JSON.

        Raises WorkLimitError if it passes a limit, WorkerError if it raises.
        """
        question = {"module": function.__module__, "function": function.__qualname__, "arguments": arguments}
        with self._places:
            worker = self._take()
            try:
                answer = worker.ask(question)
            except BaseException:
                worker.kill()
                raise
            self._idle.append(worker)
        if "error" in answer:
            raise WorkerError(f"{function.__qualname__} failed: {answer['error']}")
        return answer["result"]

    def _take(self) -> "_Worker":
        """An idle worker that is alive, or a new one."""
        while True:
            try:
                worker = self._idle.pop()
            except IndexError:
                return _Worker(*self._limits)
            if worker.is_alive():
                return worker
            worker.kill()

    def close(self) -> None:
        """End the idle workers; the next question starts new ones."""
        while self._idle:
            self._idle.pop().kill()


class _Worker:
    """One child process: a line of JSON in, a line of JSON out."""

    def __init__(self, cpu_seconds: float, wall_seconds: float, memory_bytes: int) -> None:
        self._wall_seconds = wall_seconds
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, json.dumps(sys.path), str(cpu_seconds), str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for the parent
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._questions, self._answers = self._process.stdin, self._process.stdout
        try:
            self._read_line(deadline=None)
        except WorkLimitError:
            self.kill()
            raise WorkerError("a process for comparing answers cannot be started: see its message above") from None

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

    def _read_line(self, deadline: float | None) -> bytes:
        """The next line from the child. Raises WorkLimitError if it ends or the deadline passes before one is whole."""
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if not selector.select(left):
                    raise WorkLimitError
                part = os.read(self._answers.fileno(), 65536)
                if not part:
                    raise WorkLimitError
                line += part
        return line

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._questions.close()
        self._answers.close()


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


WORKERS: Final = Workers(max(1, min(4, os.cpu_count() or 1)))
"""The process's own workers."""
