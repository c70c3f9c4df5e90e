"""Progress on standard error: count, tokens of the batch under way, rate and time left.

On a terminal a live line as wide as it is, elsewhere a plain line every ten seconds.
"""

import time
from types import TracebackType
from typing import Final

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from avar_eval.console import InertConsole
from avar_eval.number_format import count, duration

_SECONDS_BETWEEN_LINES: Final = 10.0
_LEAST_BAR, _MOST_BAR = 8, 40
"""Columns of the bar itself; where there are fewer it is left out."""


class Bar:
    """Counts finished items of `total`, of which `done` were finished before. shown: whether it says so."""

    def __init__(self, what: str, total: int, done: int = 0, shown: bool = True) -> None:
        self._what, self._total, self._done, self._before = what, total, done, done
        self._started = self._advanced = self._last_line = time.monotonic()
        self._batch = 1  # finished at once, the last time
        self._step = self._limit = self._responses = 0
        self._console = InertConsole(stderr=True, quiet=not shown, highlight=False)
        self._live = (
            Live(self, console=self._console, refresh_per_second=4) if shown and self._console.is_terminal else None
        )

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
        self._batch, self._step = max(1, n), 0
        self._advanced = time.monotonic()
        self._say_now_and_then(last=self._done == self._total)

    def tokens(self, step: int, limit: int, responses: int) -> None:
        """Each of so many responses under way has `step` tokens of at most `limit`. Called at every one: cheap."""
        self._step, self._limit, self._responses = step, limit, responses
        self._say_now_and_then()

    def _say_now_and_then(self, last: bool = False) -> None:
        now = time.monotonic()
        if not self._live and (last or now - self._last_line >= _SECONDS_BETWEEN_LINES):
            self._last_line = now
            self._console.print(f"{self._what}: {', '.join(self._parts(now).values())}", soft_wrap=True)

    def _parts(self, now: float) -> dict[str, str]:
        """Count, tokens, rate and time left, as far as they are known."""
        parts = {"count": f"{count(self._done)}/{count(self._total)}"}
        finished = self._done - self._before
        if self._step:
            parts["tokens"] = f"token {count(self._step)} of at most {count(self._limit)}"
        if finished:
            rate = finished / max(now - self._started, 1e-9)
            parts["rate"] = f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
        elif not self._step and now - self._started >= 1:
            parts["left"] = f"{duration(now - self._started)} so far"
        if (left := self.seconds_left(now)) is not None:
            parts["left"] = f"{'' if finished else 'at most '}{duration(left)} left"
        return parts

    def seconds_left(self, now: float) -> float | None:
        """From the time that finished items took. Before the first one, as long as it takes if all reach the limit.

        None where neither is known. While a batch takes longer than those before it, the others are still to come.
        """
        remaining, finished = self._total - self._done, self._done - self._before
        if finished:
            each = (self._advanced - self._started) / finished
            return max(remaining * each - (now - self._advanced), max(0, remaining - self._batch) * each)
        if not self._step:
            return None
        batches = -(-remaining // self._responses)
        return (batches * self._limit - self._step) * (now - self._started) / self._step

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What fits in one line, no number cut: without the bar, then the rate, the tokens, the time left."""
        parts = {"what": self._what} | self._parts(time.monotonic())
        for dropped in ("rate", "tokens", "left"):
            if cell_len("  ".join(parts.values())) <= options.max_width:
                break
            parts.pop(dropped, None)
        said = "  ".join(parts.values())
        room = options.max_width - cell_len(said) - 2
        if room < _LEAST_BAR:
            yield Text(said, overflow="fold")
            return
        width = min(room, _MOST_BAR)
        line = Table.grid(padding=(0, 2, 0, 0))
        line.add_column(width=width)
        line.add_column(no_wrap=True)
        line.add_row(ProgressBar(total=self._total, completed=self._done, width=width), Text(said))
        yield line
