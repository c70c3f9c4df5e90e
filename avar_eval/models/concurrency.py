"""Many questions under way at a time, for backends that answer in whatever order they finish."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from avar_eval.models.backend import BackendError, Generation, Prompt

Ask = Callable[[int, Prompt], Coroutine[Any, Any, Generation]]


def answer_as_they_finish(
    runner: asyncio.Runner,
    prompts: Sequence[Prompt],
    ask: Ask,
    at_most: int,
    refusal: Callable[[], BackendError | None] = lambda: None,
) -> Iterator[tuple[int, Generation]]:
    """Number and response of each prompt; `at_most` are under way at a time, so that not all images are in memory.

    A BackendError of one prompt, or of `refusal`, which is asked before each is begun, lets no more begin; it is raised
    when all that is under way has finished.
    """
    waiting = iter(enumerate(prompts))
    running: dict[asyncio.Task[Generation], int] = {}
    problem: BackendError | None = None
    while True:
        while problem is None and len(running) < at_most:
            if (problem := refusal()) is not None or (upcoming := next(waiting, None)) is None:
                break
            running[runner.get_loop().create_task(ask(*upcoming))] = upcoming[0]
        if not running:
            break
        for task in runner.run(_first_of(running)):
            number = running.pop(task)
            try:
                generation = task.result()
            except BackendError as error:
                problem = problem or error
            else:
                yield number, generation
    if problem is not None:
        raise problem


async def _first_of(tasks: dict[asyncio.Task[Generation], int]) -> set[asyncio.Task[Generation]]:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    return done
