"""A limit on how long a piece of Python may run that others wrote, such as a chat template."""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TimeLimitError(Exception):
    """It ran longer than it may."""

    def __str__(self) -> str:
        return "it takes too long: it may have no end"


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeLimitError within this context after so many seconds, in any thread.

    It reaches Python code, loops of Jinja templates among it, between two of its instructions; not a single call into
    C that takes long.
    """
    thread, lock = threading.get_ident(), threading.Lock()
    ended = fired = False

    def stop() -> None:
        nonlocal fired
        with lock:
            if not ended:
                fired = True
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TimeLimitError))

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            ended = True
            if fired:  # and not yet delivered: it would reach whoever comes next
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)
        timer.cancel()
