"""The driver's queue with workers that do as they are told: order, losses, restarts, errors."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from avar_eval.cluster.driver import RESTARTS, ClusterError, Done, Driver, Event, LongestFirst, Lost, Ready
from avar_eval.cluster.jobs import Job, JobLostError, Plan, Steps
from avar_eval.errors import AvarError
from avar_eval.models.backend import BackendError, Generation


class Task:
    """A job that is one question."""

    questions = 1

    def __init__(self, name: str) -> None:
        self.name = name

    def shipped(self) -> "Task":
        return self


class Hand:
    """A worker whose jobs are done when the test says so."""

    where = "a hand"

    def __init__(self, place: "Hands", report: Callable[[Event], None], slots: int) -> None:
        self.place, self.report, self.slots = place, report, slots
        self.dismissed = False

    def submit(self, jobs: Sequence[tuple[int, Job]]) -> None:
        for number, job in jobs:
            assert isinstance(job, Task)
            self.place.given.append(job.name)
            self.place.act(self, number, job.name)

    def dismiss(self) -> None:
        self.dismissed = True


class Hands:
    """act: what a worker does with a job, by number and name; here it is done at once."""

    def __init__(self, number: int = 1, slots: int = 1, act: Callable[[Hand, int, str], None] | None = None) -> None:
        self.number, self.slots = number, slots
        self.act = act or (lambda hand, number, name: hand.report(Done(hand, [(number, name.upper())])))
        self.given: list[str] = []
        self.hired: list[Hand] = []

    def room(self) -> int:
        return self.number

    def hire(self, report: Callable[[Event], None]) -> Hand:
        self.hired.append(Hand(self, report, self.slots))
        report(Ready(self.hired[-1]))
        return self.hired[-1]

    def lacking(self) -> str:
        return "hands"

    def close(self) -> None:
        """Nothing is held."""


def one_step(name: str) -> Steps[str]:
    result: str = yield Task(name)
    return result


def two_steps(name: str) -> Steps[str]:
    first: str = yield Task(f"{name}1")
    second: str = yield Task(f"{name}2")
    return first + second


def plans(names: str, steps: Callable[[str], Steps[str]] = one_step) -> list[Plan[str]]:
    return [Plan(partial(steps, name), ("task",)) for name in names]


def results(driver: Driver[str], of: Sequence[Plan[str]]) -> list[str]:
    return [result for ended in driver.run(of) for result in ended]


def test_each_plan_ends_once_and_its_next_job_goes_before_new_plans() -> None:
    place = Hands()
    assert results(Driver(place), plans("abc", two_steps)) == ["A1A2", "B1B2", "C1C2"]
    assert place.given == ["a1", "a2", "b1", "b2", "c1", "c2"]
    assert len(place.hired) == 1


def test_nothing_to_do_starts_nobody() -> None:
    place = Hands()
    assert results(Driver(place), []) == []
    assert not place.hired


def test_jobs_go_to_whoever_has_least_to_do() -> None:
    held: list[tuple[Hand, int]] = []

    def hold(hand: Hand, number: int, name: str) -> None:
        held.append((hand, number))
        if len(held) == 6:
            for one, its in held:
                one.report(Done(one, [(its, name)]))

    place = Hands(number=3, slots=4, act=hold)
    assert len(results(Driver(place), plans("abcdef"))) == 6
    assert sorted(Counter(id(hand) for hand, _ in held).values()) == [2, 2, 2]


@pytest.mark.parametrize("dying", ["a1", "b2", "c1"])
def test_what_a_lost_worker_had_is_given_to_another_and_nothing_else_again(dying: str) -> None:
    lost: list[Hand] = []

    def act(hand: Hand, number: int, name: str) -> None:
        if name == dying and not lost:
            lost.append(hand)
            hand.report(Lost(hand, "killed"))
        else:
            hand.report(Done(hand, [(number, name.upper())]))

    place = Hands(number=2, act=act)
    driver: Driver[str] = Driver(place)
    assert sorted(results(driver, plans("abc", two_steps))) == ["A1A2", "B1B2", "C1C2"]
    assert Counter(place.given) == Counter(["a1", "a2", "b1", "b2", "c1", "c2", dying])
    assert (driver.counts.asked, driver.counts.again, driver.counts.lost) == (7, 1, 1)
    assert lost[0].dismissed


def test_late_results_of_a_worker_that_was_given_up_change_nothing() -> None:
    def act(hand: Hand, number: int, name: str) -> None:
        if len(place.hired) == 1:
            hand.report(Lost(hand, "unreachable"))
            hand.report(Done(hand, [(number, "late")]))
            hand.report(Ready(hand))
        else:
            hand.report(Done(hand, [(number, name)]))

    place = Hands(act=act)
    assert results(Driver(place), plans("a")) == ["a"]


def test_a_job_that_takes_worker_after_worker_with_it_is_given_up_alone() -> None:
    def act(hand: Hand, number: int, name: str) -> None:
        hand.report(Lost(hand, "out of memory") if name == "b" else Done(hand, [(number, name)]))

    def steps(name: str) -> Steps[str]:
        try:
            return (yield Task(name))
        except JobLostError as error:
            return str(error)

    place = Hands(act=act)
    found = results(Driver(place), plans("abc", steps))
    assert sorted(found) == ["3 workers were lost with it, the last one: out of memory", "a", "c"]
    assert Counter(place.given) == {"a": 1, "b": 3, "c": 1}


def test_workers_are_started_again_so_often_and_not_more() -> None:
    place = Hands(act=lambda hand, number, name: hand.report(Lost(hand, "no driver")))
    with pytest.raises((ClusterError, JobLostError)) as stopped:
        results(Driver(place), plans("ab"))
    assert len(place.hired) <= 1 + RESTARTS
    assert "lost" in str(stopped.value)


def test_room_for_more_is_used_while_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avar_eval.cluster.driver._LOOK", 0.0)

    def act(hand: Hand, number: int, name: str) -> None:
        place.number = 3
        hand.report(Done(hand, [(number, name)]))

    place = Hands(act=act)
    assert len(results(Driver(place), plans("abcdef"))) == 6
    assert len(place.hired) == 3


def test_in_the_place_of_a_lost_worker_another_is_started_at_once() -> None:
    def act(hand: Hand, number: int, name: str) -> None:
        if hand is place.hired[0]:
            hand.report(Lost(hand, "killed"))
        else:
            hand.report(Done(hand, [(number, name)]))

    place = Hands(number=3, act=act)
    assert len(results(Driver(place), plans("abcdefghi"))) == 9
    assert len(place.hired) == 4, "though others are there and the next look at the cluster is seconds away"


def test_an_error_lets_no_more_begin_and_what_is_under_way_ends() -> None:
    def act(hand: Hand, number: int, name: str) -> None:
        result: Any = BackendError("not a number") if name == "b1" else name
        hand.report(Done(hand, [(number, result)]))

    place, found = Hands(slots=2, act=act), list[str]()

    def gather() -> None:
        for ended in Driver[str](place).run(plans("abc", two_steps)):
            found.extend(ended)

    with pytest.raises(BackendError, match="not a number"):
        gather()
    assert found == ["a1a2"]
    assert "c1" not in place.given


def test_a_worker_that_cannot_load_the_model_ends_the_run() -> None:
    def act(hand: Hand, number: int, name: str) -> None:
        hand.report(Lost(hand, "weights", BackendError("the weights are not complete")))

    with pytest.raises(AvarError, match="not complete"):
        results(Driver(Hands(act=act)), plans("a"))


def test_next_comes_the_task_whose_responses_are_longest() -> None:
    queue = LongestFirst([Plan(partial(one_step, f"{task}{number}"), (task,)) for task in "xy" for number in range(3)])
    assert {queue.pop().of, queue.pop().of} == {("x",), ("y",)}, "both are tried"
    queue.learn(("x",), [10, 20])
    queue.learn(("y",), [200])
    assert [queue.pop().of[0] for _ in range(4)] == ["y", "y", "x", "x"]
    assert len(queue) == 0


def test_the_driver_learns_lengths_from_responses() -> None:
    def act(hand: Hand, number: int, name: str) -> None:
        tokens = [0] * (50 if name.startswith("y") else 5)
        hand.report(Done(hand, [(number, Generation([], tokens, "", "stop"))]))

    place = Hands(act=act)
    of = [Plan(partial(one_step, f"{task}{number}"), (task,)) for task in "xy" for number in range(3)]
    results(Driver(place), of)
    assert [name[0] for name in place.given] == ["x", "y", "y", "y", "x", "x"]
