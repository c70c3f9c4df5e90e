"""The driver of a cluster without a model: records a second, the tail, and memory, with workers that sleep.

    python tests/benchmarks/cluster_simulation.py                     # 400,000 rows, 64 workers
    python tests/benchmarks/cluster_simulation.py --tail --rows 60000
    python tests/benchmarks/cluster_simulation.py --ray 2 --rows 50000

Driver, queue, plans, records and record book (one fsync for all records that came together) are the product's own; a
worker keeps up to --slots questions under way and answers each after its tokens' time, as an engine does that batches
by itself. Tokens of a response are drawn from --records, the records.jsonl of any run, or from what avar-tiny answered
to `shapes` and `shapes_prior` (quantiles below). With --ray the workers are Ray's actors, in so many processes of this
machine, and each question goes through Ray. Rates are from the first tenth of the records on, so without starting.

--tail scales those lengths until the mean is 600 tokens, has two tasks of which one thinks ten times as long, and says
how much later than with perfectly even work the last response came: longest first as the driver learns it, and in the
given order.
"""

import argparse
import heapq
import random
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from avar_eval.cluster import driver
from avar_eval.cluster.driver import Done, Driver, Event, LongestFirst, Ready
from avar_eval.cluster.jobs import Ask, Job, Plan
from avar_eval.models.backend import Generation
from avar_eval.models.decoding import Decoding
from avar_eval.records.book import RecordBook, stream_records
from avar_eval.records.record import Record
from avar_eval.run.answering import answer_question
from avar_eval.run.questions import Question, RenderedQuestion
from avar_eval.run.responses import Refusals

AVAR_TINY = [10, 11, 12, 12, 13, 15, 18, 18, 19, 20, 20, 23, 24, 25, 32, 44, 49, 51, 53, 76, 112]
"""Tokens of 300 responses of avar-tiny, at every twentieth of them."""
TAIL_MEAN = 600
DECODING = Decoding(max_new_tokens=30_000)


class Lengths:
    """Tokens of a response, by its question's key."""

    def __init__(self, records: Path | None, scale: float) -> None:
        lengths = AVAR_TINY if records is None else [len(one.response_token_ids) for one in stream_records(records)]
        self._known, self._scale = np.sort(np.array(lengths, float)), scale

    @property
    def mean(self) -> float:
        return float(self._known.mean()) * self._scale

    def of(self, key: str, times: float = 1.0) -> int:
        share = int(key[:12], 16) / 16**12
        return max(1, round(float(np.quantile(self._known, share)) * self._scale * times))


class Sleepers:
    """A workplace of workers in one thread that answer after a time. answer: of a job, with its seconds."""

    def __init__(self, number: int, slots: int, answer: Callable[[Ask], tuple[float, Generation]]) -> None:
        self.number, self.slots, self.answer = number, slots, answer
        self.busy = 0.0
        self._due: list[tuple[float, int, Sleeper, int, Generation]] = []
        self._count = 0
        self._changed = threading.Condition()
        self._open = True
        threading.Thread(target=self._wake, daemon=True).start()

    def room(self) -> int:
        return self.number

    def hire(self, report: Callable[[Event], None]) -> "Sleeper":
        worker = Sleeper(self, report)
        report(Ready(worker))
        return worker

    def lacking(self) -> str:
        return "nothing"

    def close(self) -> None:
        self._open = False

    def begin(self, worker: "Sleeper", jobs: Sequence[tuple[int, Job]]) -> None:
        now = time.monotonic()
        with self._changed:
            for number, job in jobs:
                assert isinstance(job, Ask)
                seconds, generation = self.answer(job)
                self.busy += seconds
                self._count += 1
                heapq.heappush(self._due, (now + seconds, self._count, worker, number, generation))
            self._changed.notify()

    def _wake(self) -> None:
        while self._open:
            with self._changed:
                left = self._due[0][0] - time.monotonic() if self._due else 0.05
                if left > 0:
                    self._changed.wait(left)
                ended: dict[Sleeper, list[tuple[int, Any]]] = {}
                while self._due and self._due[0][0] <= time.monotonic():
                    _, _, worker, number, generation = heapq.heappop(self._due)
                    ended.setdefault(worker, []).append((number, generation))
            for worker, results in ended.items():
                worker.report(Done(worker, results))


class Sleeper:
    """One of them."""

    where = "a worker that sleeps"

    def __init__(self, place: Sleepers, report: Callable[[Event], None]) -> None:
        self._place, self.report, self.slots = place, report, place.slots

    def submit(self, jobs: Sequence[tuple[int, Job]]) -> None:
        self._place.begin(self, jobs)

    def dismiss(self) -> None:
        """It holds nothing."""


def generation(tokens: int) -> Generation:
    return Generation(list(range(100)), list(range(1000, 1000 + tokens)), "word " * tokens, "stop")


def questions(rows: int, tasks: Sequence[str]) -> Iterator[RenderedQuestion]:
    drawn = random.Random(0)
    for number in range(rows):
        question = Question(f"row-{number}", list, task=tasks[number % len(tasks)], measured=False)
        prompt = f"<|im_start|>user\nHow many of the {number} things are there?<|im_end|>\n<|im_start|>assistant\n" * 3
        yield RenderedQuestion(question, f"{drawn.getrandbits(256):064x}", prompt, (), "0" * 16)


def resident() -> float:
    """MB of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def run(workplace: Any, asked: Sequence[RenderedQuestion], folder: Path) -> None:
    """The questions through the driver into a record book; prints what happens."""
    refusals, rows = Refusals(len(asked)), len(asked)
    plans = [Plan(partial(answer_question, one, DECODING, refusals), (one.question.task,)) for one in asked]
    work: Driver[list[Record]] = Driver(workplace)
    done, first, marks = 0, 0, [rows // 10, rows // 2, rows]
    with RecordBook(folder) as book:
        memory: list[str] = []
        began, cpu = time.monotonic(), time.process_time()
        for ended in work.run(plans):
            book.append([record for records in ended for record in records])
            done += len(ended)
            while marks and done >= marks[0]:
                if not memory:
                    began, cpu, first = time.monotonic(), time.process_time(), done
                memory.append(f"{resident():,.0f} MB at {marks.pop(0):,}")
        seconds, used = time.monotonic() - began, time.process_time() - cpu
        work.close()
        assert len(book) == done == rows
    rate = (rows - first) / seconds
    print(f"{rows - first:,} records in {seconds:.1f} s: {rate:,.0f} a second, {used / seconds:.2f} cores")
    print(f"resident: {', '.join(memory)}")


def tail(lengths: Lengths, options: argparse.Namespace) -> None:
    """How long all wait for the last responses, in seconds of an engine that makes `--speed` tokens a second."""
    pressed = 5.0
    tasks = ["short", "long"]

    def answer(job: Ask) -> tuple[float, Generation]:
        times = 10.0 if job.prompt.question.task == "long" else 1.0  # type: ignore[attr-defined]
        tokens = min(30_000, lengths.of(job.prompt.key, times))
        return tokens / options.speed / pressed, generation(min(tokens, 60))

    asked = list(questions(options.rows, tasks))
    for name, queue in (("longest first", LongestFirst), ("in the given order", InOrder)):
        driver.LongestFirst = queue  # type: ignore[misc]
        place = Sleepers(options.workers, options.slots, answer)
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            run(place, asked, Path(folder))
        even = place.busy / options.workers / options.slots
        late = (time.monotonic() - began - even) * pressed
        print(f"{name}: {even * pressed:,.0f} s if work were even, the last response {late:,.0f} s later")


class InOrder(LongestFirst):
    """The queue without what it learns, and with tasks one after the other."""

    def _expected(self, of: tuple[str, ...]) -> tuple[float, int]:
        return (1.0 if of == ("short",) else 0.0, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--slots", type=int, default=64, help="questions a worker has under way")
    parser.add_argument("--speed", type=float, default=40.0, help="tokens a second of one response")
    parser.add_argument("--records", type=Path, help="records.jsonl of a run, for lengths of responses")
    parser.add_argument("--tail", action="store_true")
    parser.add_argument("--ray", type=int, metavar="PROCESSES")
    options = parser.parse_args()
    plain = Lengths(options.records, 1.0)
    if options.tail:
        tail(Lengths(options.records, TAIL_MEAN / plain.mean / 5.5), options)
        return
    if options.ray:
        from sleeping_worker import sleeping_workplace

        workplace: Any = sleeping_workplace(options.ray, options.slots * options.workers // options.ray)
    else:

        def answer(job: Ask) -> tuple[float, Generation]:
            tokens = plain.of(job.prompt.key)
            return tokens / options.speed, generation(tokens)

        workplace = Sleepers(options.workers, options.slots, answer)
    with tempfile.TemporaryDirectory() as folder:
        run(workplace, list(questions(options.rows, ["shapes", "shapes_prior"])), Path(folder))


if __name__ == "__main__":
    main()
