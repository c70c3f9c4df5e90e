"""A judge model's outcomes for responses: what it says their final answer is, and whether that is the gold answer."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from avar_eval.errors import AvarError
from avar_eval.folder_lock import FolderLock
from avar_eval.judge.client import JudgeCallError, JudgeClient
from avar_eval.judge.model import JudgeModel
from avar_eval.judge.prompts import (
    UnusableReplyError,
    comparison_prompt,
    extraction_prompt,
    read_comparison,
    read_extraction,
)
from avar_eval.judge.replies import JudgeReplies
from avar_eval.outcomes import JudgeOutcome
from avar_eval.progress import Bar
from avar_eval.tasks.catalog import question_and_target
from avar_eval.terminal import note

T = TypeVar("T")

_ATTEMPTS_AT_FORM = 2
"""How often a judge is asked for a reply of the right form."""


@dataclass(frozen=True)
class Question:
    """A response for the judge, with its row's question and gold answer. cut: it ended before any answer."""

    question: str
    target: str
    response: str
    cut: bool

    @classmethod
    def of(cls, task: str, row: Mapping[str, Any], response: str, state: str) -> "Question":
        """From a row of a task and the state of our own judgement."""
        question, target = question_and_target(task, row)
        return cls(_encodable(question), _encodable(target), _encodable(response), state == "truncated")


def judge_responses(questions: Sequence[Question], judge: JudgeModel, replies: Path) -> list[JudgeOutcome]:
    """The outcomes of `judge_questions` alone."""
    return judge_questions(questions, judge, replies)[0]


def judge_questions(
    questions: Sequence[Question], judge: JudgeModel, replies: Path, lock: FolderLock | None = None
) -> tuple[list[JudgeOutcome], dict[str, str]]:
    """The judge's outcomes, in order; what the file of replies holds is not asked again.

    lock: of the folder of that file, where the caller holds it.

    With them what became of parameters that the judge does not take (name -> how), for the protocol.

    A response that was cut before its answer is `truncated` and never shown to the judge. `judge_error`: no reply, or
    none of the right form, after bounded attempts; such a response is asked about again in the next run. A warning says
    how many there were and why.
    """
    with JudgeReplies(replies, judge.model, lock) as known:
        outcomes, last_error = asyncio.run(_outcomes(questions, judge, known))
    failed = sum(outcome.state == "judge_error" for outcome in outcomes)
    if failed:
        note(
            f"warning: the judge {judge.model} has no verdict on {failed} of {len(outcomes)} responses "
            f"(judge_error); the last reason: {last_error}. Run the same command again to ask about those only"
        )
    return outcomes, known.changed


async def _outcomes(
    questions: Sequence[Question], judge: JudgeModel, known: JudgeReplies
) -> tuple[list[JudgeOutcome], str]:
    """The outcomes, in order, and the last reason why one is a judge_error; `judge.workers` are asked at a time."""
    bench = _Bench(JudgeClient(judge), known)
    waiting = iter(enumerate(questions))
    outcomes: dict[int, JudgeOutcome] = {}

    with Bar("judge", len(questions)) as bar:

        async def work() -> None:
            for number, question in waiting:
                outcomes[number] = await bench.outcome(question)
                bar.advance(1)

        try:
            # An error that is no judge_error, such as a full disk, stops the rest.
            async with asyncio.TaskGroup() as workers:
                for _ in range(judge.workers):
                    workers.create_task(work())
        except* AvarError as errors:
            raise errors.exceptions[0] from None
        finally:
            await bench.close()
    return [outcomes[number] for number in range(len(questions))], bench.last_error


class _Bench:
    """A judge and its replies so far."""

    def __init__(self, client: JudgeClient, replies: JudgeReplies) -> None:
        self._client, self._replies = client, replies
        self.last_error = ""

    async def close(self) -> None:
        await self._client.close()

    async def outcome(self, asked: Question) -> JudgeOutcome:
        if asked.cut:
            return JudgeOutcome("truncated", None, False)
        answer = None
        try:
            answer = await self._ask(extraction_prompt(asked.question, asked.response), read_extraction)
            if answer is None:
                return JudgeOutcome("unparsed", None, False)
            same = answer == asked.target or await self._ask(
                comparison_prompt(asked.question, asked.target, answer), read_comparison
            )
        except (JudgeCallError, UnusableReplyError) as error:
            self.last_error = str(error)
            return JudgeOutcome("judge_error", answer, None)
        return JudgeOutcome("scored", answer, same)

    async def _ask(self, prompt: str, read: Callable[[str], T]) -> T:
        """The judge's reply as read; one of the wrong form is not kept, and asked for anew."""
        known = self._replies.get(prompt)
        if known is not None:
            return read(known)
        for _ in range(_ATTEMPTS_AT_FORM - 1):
            try:
                return await self._request(prompt, read)
            except UnusableReplyError:
                continue
        return await self._request(prompt, read)

    async def _request(self, prompt: str, read: Callable[[str], T]) -> T:
        reply, changed = await self._client.ask(prompt)
        found = read(reply)
        self._replies.add(prompt, reply, changed)
        return found


def _encodable(text: str) -> str:
    """Without halves of surrogate pairs, which no request can carry."""
    return text.encode("utf-8", "replace").decode()
