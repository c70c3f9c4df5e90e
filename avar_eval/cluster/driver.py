"""The driver's queue: plans in, what comes of them out, whoever computes their jobs and whichever of these are lost."""

import heapq
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, Protocol, TypeVar

from avar_eval.cluster.jobs import Generated, Job, JobLostError, Plan
from avar_eval.errors import AvarError
from avar_eval.models.backend import Generation
from avar_eval.number_format import count
from avar_eval.terminal import note

T = TypeVar("T")

RESTARTS: Final = 3
"""How often, on the average, a worker is started again."""
LOSSES: Final = 3
"""Of so many lost workers a job is thought to be the cause."""
_LOOK: Final = 5.0
"""Seconds between two looks at how many workers there is room for."""
_WAIT: Final = 60.0
"""Seconds between two notes that nobody is there to work."""


class ClusterError(AvarError):
    """The cluster cannot be reached, or cannot do the work.

    What to do: Start Ray where the message says, or name its address; what was answered is kept.
    """


class Worker(Protocol):
    """Somebody with a copy of the model. slots: jobs that it takes at a time; where: said in messages."""

    @property
    def slots(self) -> int: ...
    @property
    def where(self) -> str: ...

    def submit(self, jobs: Sequence[tuple[int, Job]]) -> None:
        """Compute these, by number; returns at once."""
        ...

    def dismiss(self) -> None:
        """Let go of it, and of what it holds."""
        ...


@dataclass(frozen=True)
class Ready:
    """A worker that can be given jobs."""

    worker: Worker


@dataclass(frozen=True)
class Done:
    """Results by number; an AvarError in the place of one is what its computation raised."""

    worker: Worker
    results: Sequence[tuple[int, Any]]


@dataclass(frozen=True)
class Lost:
    """A worker that is no more, or cannot go on. fatal: why nobody could, such as weights that are not complete."""

    worker: Worker
    reason: str
    fatal: AvarError | None = None


Event = Ready | Done | Lost


class Workplace(Protocol):
    """Where workers are."""

    def room(self) -> int:
        """How many there can be now; it may change as nodes come and go."""
        ...

    def hire(self, report: Callable[[Event], None]) -> Worker:
        """One more, which will be Ready or Lost. report: may be called from any thread."""
        ...

    def lacking(self) -> str:
        """What a worker needs, for a message that none has found a place."""
        ...

    def close(self) -> None:
        """Let go of what is held beside the workers."""
        ...


@dataclass
class _Running:
    """A plan that is begun. job: its next one, or the one that is computed; losses: of workers that had it."""

    steps: Generator[Job, Any, Any]
    of: tuple[str, ...]
    job: Job
    losses: int = 0


class LongestFirst:
    """Plans that are not begun; the next one is of the kind whose responses were longest so far.

    A plan of many tokens that begins last is what all others would wait for. As long as a kind is unknown, it is tried
    before known ones, and unknown kinds in turn. Within a kind plans keep their order.
    """

    def __init__(self, plans: Sequence[Plan[Any]]) -> None:
        self._plans: dict[tuple[str, ...], deque[Plan[Any]]] = {}
        for plan in plans:
            self._plans.setdefault(plan.of, deque()).append(plan)
        self._left = len(plans)
        self._tokens = dict.fromkeys(self._plans, 0)
        self._responses = dict.fromkeys(self._plans, 0)
        self._begun = dict.fromkeys(self._plans, 0)

    def __len__(self) -> int:
        return self._left

    def pop(self) -> Plan[Any]:
        """The next one, which is taken out."""
        of = max(self._plans, key=self._expected)
        self._begun[of] += 1
        self._left -= 1
        plan = self._plans[of].popleft()
        if not self._plans[of]:
            del self._plans[of]
        return plan

    def learn(self, of: tuple[str, ...], lengths: Sequence[int]) -> None:
        """Tokens of responses to plans of this kind."""
        self._tokens[of] += sum(lengths)
        self._responses[of] += len(lengths)

    def _expected(self, of: tuple[str, ...]) -> tuple[float, int]:
        responses = self._responses[of]
        return (self._tokens[of] / responses, 0) if responses else (float("inf"), -self._begun[of])


@dataclass
class Counts:
    """asked: questions that workers were given; again: of these, those that a lost worker had been given before."""

    asked: int = 0
    again: int = 0
    lost: int = 0


@dataclass
class _Staff:
    """Workers, and what each of those that are ready computes, by number."""

    starting: set[Worker] = field(default_factory=set)
    ready: dict[Worker, dict[int, _Running]] = field(default_factory=dict)
    hired: int = 0
    most: int = 0


class Driver(Generic[T]):
    """Gives jobs to the workers of a workplace; they are started with the first plan and kept until `close`."""

    def __init__(self, workplace: Workplace) -> None:
        self.counts = Counts()
        self._workplace = workplace
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._staff = _Staff()
        self._number = 0
        self._lost_last = ""
        self._looked, self._noted = 0.0, time.monotonic()

    def run(self, plans: Sequence[Plan[T]]) -> Iterator[list[T]]:
        """What comes of the plans, as it comes: all that has ended by then at a time.

        A plan that raises, or whose job does, lets no more begin; the error is raised when what is under way has ended.
        Raises ClusterError where all workers are lost and none may be started again.
        """
        queue, waiting, ended = LongestFirst(plans), deque[_Running](), list[T]()
        problem: AvarError | None = None
        while True:
            try:
                self._give(queue if problem is None else LongestFirst(()), waiting, ended)
            except AvarError as error:
                problem = problem or error
                continue
            if ended:
                yield ended
                ended = []
            under_way = any(self._staff.ready.values())
            if not (under_way or waiting or (queue and problem is None)):
                break
            self._hire()
            for event in self._next_events():
                try:
                    self._take(event, queue, waiting, ended)
                except AvarError as error:
                    problem = problem or error
        if problem is not None:
            raise problem

    def close(self) -> None:
        """Dismiss all workers."""
        for worker in [*self._staff.starting, *self._staff.ready]:
            worker.dismiss()
        if self._staff.hired:
            note(
                f"note: workers started: {self._staff.hired}, lost: {self.counts.lost}; questions given to them: "
                f"{count(self.counts.asked)}, of these again after a loss: {count(self.counts.again)}"
            )
        self._staff = _Staff()
        self._workplace.close()

    def _give(self, queue: LongestFirst, waiting: deque[_Running], ended: list[T]) -> None:
        """Fill the free slots, those of whom has least to do first."""
        free = [
            (len(running), number, worker)
            for number, (worker, running) in enumerate(self._staff.ready.items())
            if len(running) < worker.slots
        ]
        heapq.heapify(free)
        given: dict[Worker, list[tuple[int, Job]]] = {}
        try:
            while free and (waiting or queue):
                running = waiting.popleft() if waiting else _begun(queue.pop(), ended)
                if running is None:
                    continue
                load, place, worker = heapq.heappop(free)
                self._number += 1
                self._staff.ready[worker][self._number] = running
                given.setdefault(worker, []).append((self._number, running.job))
                self.counts.asked += running.job.questions
                self.counts.again += running.job.questions if running.losses else 0
                if load + 1 < worker.slots:
                    heapq.heappush(free, (load + 1, place, worker))
        finally:  # also where a plan raises: the others' jobs are under way
            for worker, jobs in given.items():
                worker.submit(jobs)

    def _take(self, event: Event, queue: LongestFirst, waiting: deque[_Running], ended: list[T]) -> None:
        """What an event changes."""
        if isinstance(event, Ready):
            if event.worker in self._staff.starting:
                self._staff.starting.remove(event.worker)
                self._staff.ready[event.worker] = {}
            return
        if isinstance(event, Lost):
            self._lose(event, waiting, ended)
            return
        for number, result in event.results:
            running = self._staff.ready.get(event.worker, {}).pop(number, None)
            if running is None:  # of a worker that was given up
                continue
            if isinstance(result, AvarError):
                raise result
            if lengths := _lengths(result):
                queue.learn(running.of, lengths)
            _go_on(running, partial(running.steps.send, result), waiting, ended)

    def _lose(self, event: Lost, waiting: deque[_Running], ended: list[T]) -> None:
        """A worker's jobs go back to the front of the queue."""
        if event.worker not in self._staff.starting and event.worker not in self._staff.ready:
            return
        self._staff.starting.discard(event.worker)
        had = self._staff.ready.pop(event.worker, {})
        event.worker.dismiss()
        if event.fatal is not None:
            raise event.fatal
        self.counts.lost += 1
        self._lost_last = event.reason
        self._looked = float("-inf")  # its place is free now: another one need not wait for the next look
        asked = sum(running.job.questions for running in had.values())
        note(f"note: lost {event.worker.where} ({event.reason}); questions given back: {count(asked)}")
        for running in had.values():
            running.losses += 1
            if running.losses < LOSSES:
                waiting.appendleft(running)
            else:
                lost = JobLostError(f"{running.losses} workers were lost with it, the last one: {event.reason}")
                _go_on(running, partial(running.steps.throw, lost), waiting, ended)

    def _hire(self) -> None:
        """As many workers as there is room for, of those that may be started again. Raises ClusterError without any."""
        now = time.monotonic()
        staff = self._staff
        present = len(staff.starting) + len(staff.ready)
        if present and now - self._looked < _LOOK:
            return
        self._looked, room = now, self._workplace.room()
        staff.most = max(staff.most, room)
        for _ in range(min(room - present, (1 + RESTARTS) * staff.most - staff.hired)):
            staff.starting.add(self._workplace.hire(self._events.put))
            staff.hired += 1
        if not staff.starting and not staff.ready and staff.hired >= (1 + RESTARTS) * max(1, staff.most):
            raise ClusterError(
                f"all workers are lost, and {staff.hired} were started; the last one: {self._lost_last}; what is "
                "answered is kept, run the same command again to go on"
            )

    def _next_events(self) -> list[Event]:
        """Those that have come by now, at least one unless none comes for a while."""
        try:
            events = [self._events.get(timeout=_LOOK if self._staff.ready else 1.0)]
        except Empty:
            now = time.monotonic()
            if not self._staff.ready and now - self._noted > _WAIT:
                self._noted = now
                note(f"note: waiting for {self._workplace.lacking()}")
            return []
        while not self._events.empty():
            events.append(self._events.get())
        return events


def _begun(plan: Plan[Any], ended: list[Any]) -> _Running | None:
    """The plan with its first job; None where it has ended without any."""
    steps = plan.steps()
    try:
        return _Running(steps, plan.of, next(steps))
    except StopIteration as end:
        ended.append(end.value)
        return None


def _go_on(
    running: _Running,
    resume: Callable[[], Job],
    waiting: deque[_Running],
    ended: list[Any],
) -> None:
    """The plan's next job, before all that is not begun, or its end."""
    try:
        running.job = resume()
    except StopIteration as end:
        ended.append(end.value)
    else:
        running.losses = 0
        waiting.append(running)


def _lengths(result: Any) -> list[int]:
    """Tokens of the responses in a job's result."""
    responses = result.generations.values() if isinstance(result, Generated) else [result]
    return [len(response.token_ids) for response in responses if isinstance(response, Generation)]
