"""Many questions under way at a time, for backends that answer in whatever order they finish."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any

from avar_eval.models.backend import BackendError, Generation, Prompt, Refusal

Ask = Callable[[int, Prompt], Coroutine[Any, Any, Generation | Refusal]]


def answer_as_they_finish(
    runner: asyncio.Runner,
    prompts: Iterable[Prompt],
    ask: Ask,
    at_most: int,
    may_refuse: int,
) -> Iterator[tuple[int, Generation | Refusal]]:
    """Number and response of each prompt; `at_most` are under way at a time, so that not all images are in memory.

    A BackendError of one prompt lets no more begin; so does the first refusal beyond `may_refuse`. It is raised when
    all that is under way has finished.
    """
    waiting = iter(enumerate(prompts))
    running: dict[asyncio.Task[Generation | Refusal], int] = {}
    problem: BackendError | None = None
    refused = 0
    while True:
        while problem is None and len(running) < at_most:
            if (upcoming := next(waiting, None)) is None:
                break
            running[runner.get_loop().create_task(ask(*upcoming))] = upcoming[0]
        if not running:
            break
        for task in runner.run(_first_completed(running)):
            number = running.pop(task)
            try:
                answer = task.result()
            except BackendError as error:
                problem = problem or error
                continue
            if isinstance(answer, Refusal):
                refused += 1
                if refused > may_refuse:
                    problem = problem or too_many_refused(refused, answer.reason)
                    continue
            yield number, answer
    if problem is not None:
        raise problem


def too_many_refused(refused: int, last: str) -> BackendError:
    """More questions are refused than a run may leave out; last: the reason of the last one."""
    those = "" if refused == 1 else f"{refused} questions are refused, the last one: "
    return BackendError(f"{those}{last}; what is answered is kept, run the same command again to go on")


async def _first_completed(
    tasks: dict[asyncio.Task[Generation | Refusal], int],
) -> set[asyncio.Task[Generation | Refusal]]:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    return done
