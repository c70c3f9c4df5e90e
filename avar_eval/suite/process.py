"""One run of a suite in a process of its own: what kills it, such as a GPU out of memory, leaves the others running.

The process ends when the one that started it does, however that ends: nothing goes on that nobody waits for.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

from avar_eval.errors import AvarError
from avar_eval.folder_lock import FolderLock
from avar_eval.judge.model import JudgeModel
from avar_eval.run.asking import Asking
from avar_eval.terminal import note, tame_libraries

CONTEXT: multiprocessing.context.BaseContext = multiprocessing.get_context("spawn")
"""How processes are started: afresh, as a forked one could not use a GPU that this one has looked at."""
_LONGEST_REASON: Final = 2000
_SECONDS_TO_END: Final = 20.0
"""For a process that was interrupted, and for one that an earlier suite has left behind."""


@dataclass(frozen=True)
class Job:
    """What a process needs to know of its run."""

    asked: Mapping[str, Any]
    tasks: list[str]
    folder: Path
    judge: JudgeModel | None
    command: str


def run_apart(job: Job) -> str | None:
    """Do a run to its end; returns why it failed, None if it did not. Raises KeyboardInterrupt when all has ended."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_evaluate, args=(job, sender))  # type: ignore[attr-defined]
    process.start()
    sender.close()
    try:
        process.join()
    except KeyboardInterrupt:
        process.join(_SECONDS_TO_END)  # a terminal interrupts both
        if process.is_alive():
            process.kill()
            process.join()
        raise
    with receiver:
        told = _told(receiver)
    if told is not None:
        return told
    return None if process.exitcode == 0 else _ending(process.exitcode)


def _told(receiver: Connection) -> str | None:
    try:
        return str(receiver.recv()) if receiver.poll() else None
    except EOFError:
        return None


def _ending(code: int) -> str:
    """What an exit code says of a process that could not say it itself."""
    if code > 0:
        return f"its process ended with exit code {code}; see its messages above"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    memory = ", which is what a machine does that has no memory left" if -code == signal.SIGKILL else ""
    return f"its process was ended by {name}{memory}"


def _evaluate(job: Job, sender: Connection) -> None:
    """In the process: the run, as `avar-eval run` does it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tame_libraries()
    try:
        # Libraries print, and standard output is for the suite's table.
        with contextlib.redirect_stdout(sys.stderr):
            from avar_eval.run.evaluate import RunConfig, evaluate
            from avar_eval.run.model import resolve

            FolderLock(job.folder, wait=_SECONDS_TO_END).release()
            model = resolve(Asking.of(**job.asked))
            evaluate(RunConfig(model, job.tasks, job.folder, judge=job.judge, command=job.command))
    except AvarError as error:
        _tell(sender, str(error))
    except KeyboardInterrupt:
        _tell(sender, "it was interrupted")
    except Exception as error:
        note("".join(traceback.format_exception(error)).rstrip("\n"))
        _tell(sender, f"{type(error).__name__}: {error}")


def _tell(sender: Connection, reason: str) -> None:
    sender.send(reason[:_LONGEST_REASON])
    sender.close()
    sys.exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
