"""Workers answer, are killed at their limits and come back, in threads and after a fork; a text can do nothing."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hostile_functions
import pytest

from avar_eval.answers import expression, judge_answer
from avar_eval.answers.expression import expression_equal
from avar_eval.answers.workers import WORKERS, WorkerError, Workers, WorkLimitError

CPU_SECONDS = 0.5

BOMBS = {
    "tower of powers": "^{".join("9" * 30) + "}" * 29,
    "power of large numbers": "999999999^{999999999}",
    "factorials": "((99999!)!)!",
    "product of powers": r"\cdot ".join(["(x+y+z)^{99}"] * 12),
    "nested fractions": r"\frac{1}{1+" * 12 + "x" + "}" * 12,
    "nested roots": r"\sqrt{2+" * 25 + "x" + "}" * 25,
    "deep brackets": "(" * 140 + "1" + ")" * 140,
    "a sum": r"\sum_{n=1}^{99999999} n^{n}",
    "an integral": r"\int_{0}^{x} e^{\sin(t^{t})} dt",
}


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    workers = Workers(2, cpu_seconds=CPU_SECONDS)
    workers.prepare(hostile_functions.warm_up)
    yield workers
    workers.close()


def test_a_worker_is_reused_until_it_passes_a_limit(workers: Workers) -> None:
    first = workers.ask(hostile_functions.process)
    assert first not in (os.getpid(), None)
    assert workers.ask(hostile_functions.process) == first
    start = time.process_time()
    with pytest.raises(WorkLimitError):
        workers.ask(hostile_functions.compute_for_ever)
    assert time.process_time() - start < CPU_SECONDS  # it was not this process that computed
    assert workers.ask(hostile_functions.process) != first


def test_memory_is_limited(workers: Workers) -> None:
    with pytest.raises(WorkLimitError):
        workers.ask(hostile_functions.allocate)
    assert workers.ask(hostile_functions.process)


def test_a_worker_that_uses_no_processor_time_is_given_up() -> None:
    workers = Workers(1, wall_seconds=0.5)
    workers.prepare(hostile_functions.warm_up)
    workers.start()
    with pytest.raises(WorkLimitError):
        workers.ask(hostile_functions.sleep)
    workers.close()


def test_a_failing_function_is_an_error_of_ours(workers: Workers) -> None:
    with pytest.raises(WorkerError, match="ZeroDivisionError"):
        workers.ask(hostile_functions.fail)


@pytest.mark.parametrize(
    "deed", ["write_file", "delete_file", "start_program", "open_socket", "evaluate", "parse_expression", "use_ctypes"]
)
def test_a_worker_is_refused_what_a_text_must_not_do(workers: Workers, deed: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("here")
    with pytest.raises(WorkerError, match="RefusedError"):
        workers.ask(getattr(hostile_functions, deed), str(path))
    assert path.read_text() == "here"


def test_threads_share_the_workers(workers: Workers) -> None:
    with ThreadPoolExecutor(6) as threads:
        numbers = list(threads.map(lambda number: workers.ask(hostile_functions.double, number), range(60)))
    assert numbers == [2 * number for number in range(60)]


def test_a_forked_process_has_workers_of_its_own(workers: Workers) -> None:
    mine = workers.ask(hostile_functions.process)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(workers.ask(hostile_functions.process)).encode())
        workers.close()
        os._exit(0)
    os.close(writing)
    assert int(os.read(reading, 100)) != mine
    os.waitpid(child, 0)
    os.close(reading)
    assert workers.ask(hostile_functions.process) == mine


def test_a_fork_server_that_was_ended_is_replaced(workers: Workers) -> None:
    fork_server = int(
        Path(f"/proc/{workers.ask(hostile_functions.process)}/stat").read_text().rpartition(")")[2].split()[1]
    )
    os.kill(fork_server, signal.SIGKILL)
    with pytest.raises(WorkLimitError):
        workers.ask(hostile_functions.compute_for_ever)
    assert workers.ask(hostile_functions.double, 4) == 8


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_judged_or_named_a_timeout(bomb: str, workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WORKERS, "ask", workers.ask)  # with a lower limit, so that the test is quick
    judgement = judge_answer(f"<answer>{bomb}</answer>", answer=r"\frac{1}{2}+x", kind="expression")
    assert judgement.state in ("scored", "timeout")
    assert not judgement.correct


def test_a_timeout_is_a_state_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def pass_limit(*_: object) -> None:
        raise WorkLimitError

    monkeypatch.setattr(WORKERS, "ask", pass_limit)
    expression._ask_same.cache_clear()  # another test may have asked the same, and its answer would be remembered
    judgement = judge_answer("<answer>x^2+2x+1</answer>", answer="(x+1)^2", kind="expression")
    assert (judgement.state, judgement.extracted, judgement.correct) == ("timeout", "x^2+2x+1", False)


def test_a_hundred_kilobytes_of_latex_are_compared_by_spelling() -> None:
    bomb = r"\frac{1}{" * 11_000 + "2" + "}" * 11_000
    assert not expression_equal(bomb, "2")
    assert expression_equal(bomb, bomb)
