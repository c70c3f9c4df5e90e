"""Progress on standard error: count, rate and time left. On a terminal a live bar, elsewhere a line now and then."""

import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from avar_eval.console import InertConsole

_SECONDS_BETWEEN_LINES = 10.0


class _Rate(ProgressColumn):
    """Finished items a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "–/s")


class Bar:
    """Counts finished items of `total`, of which `done` were finished before. shown: whether it says so."""

    def __init__(self, what: str, total: int, done: int = 0, shown: bool = True) -> None:
        self._what, self._total, self._done = what, total, done
        console = InertConsole(stderr=True, quiet=not shown)
        self._live: Progress | None = None
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate())
            self._live = Progress(*columns, TimeRemainingColumn(), console=console)
            self._task = self._live.add_task(what, total=total, completed=done)
        self._console = console
        self._started = self._last_line = time.monotonic()
        self._done_before = done

    def __enter__(self) -> "Bar":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def advance(self, n: int) -> None:
        """Count `n` more items as finished."""
        self._done += n
        now = time.monotonic()
        if self._live:
            self._live.advance(self._task, n)
        elif now - self._last_line >= _SECONDS_BETWEEN_LINES or self._done == self._total:
            rate = (self._done - self._done_before) / max(now - self._started, 1e-9)
            left = (self._total - self._done) / rate
            self._console.print(f"{self._what}: {self._done}/{self._total}, {rate:.1f}/s, {left:.0f} s left")
            self._last_line = now
