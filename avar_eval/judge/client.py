"""Asks a judge model: paced, timed, tried again a bounded number of times, given up when it is plainly not there."""

import asyncio
import time
from typing import Final

import tenacity

from avar_eval.endpoint.exchange import Exchange
from avar_eval.endpoint.failure import RequestError
from avar_eval.endpoint.parameters import Parameters
from avar_eval.endpoint.reply import read_reply
from avar_eval.endpoint.url import token_limit_name
from avar_eval.judge.model import JudgeModel
from avar_eval.terminal import note

GIVE_UP_AFTER: Final = 5
"""Failed questions in a row after which the judge is taken to be gone: the rest is not waited for."""

LONGEST_WAIT: Final = 30.0
"""Seconds between two attempts, whatever the server asks for."""

REPLY_TOKENS: Final = 2048


class JudgeCallError(Exception):
    """A question got no reply."""


class JudgeClient:
    """A judge, for one event loop. last_error: the newest failure, for the user."""

    def __init__(self, judge: JudgeModel) -> None:
        self._judge = judge
        self._exchange = Exchange(judge.url, judge.key, judge.timeout)
        self._parameters = Parameters()
        self._next_start = 0.0
        self._failed_in_a_row = 0
        self.last_error = ""

    async def close(self) -> None:
        """Close the connections."""
        await self._exchange.close()

    async def ask(self, prompt: str) -> tuple[str, dict[str, str]]:
        """The reply to a prompt, and what became of parameters that the judge does not take.

        Raises JudgeCallError after the last attempt, and at once when the judge is gone.
        """
        if self._failed_in_a_row >= GIVE_UP_AFTER:
            raise JudgeCallError(f"the judge is not asked any more: {self.last_error}")
        attempts = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_passes),
            stop=self._enough,
            wait=self._wait,
            reraise=True,
        )
        try:
            async for attempt in attempts:
                with attempt:
                    reply = await self._attempt(prompt)
        except RequestError as error:
            if error.kind != "refused":  # which says something of this question alone
                self._failed_in_a_row += 1
            self.last_error = error.reason
            raise JudgeCallError(self.last_error) from error
        self._failed_in_a_row = 0
        return reply

    async def _attempt(self, prompt: str) -> tuple[str, dict[str, str]]:
        request = {
            "model": self._judge.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            token_limit_name(self._judge.url): REPLY_TOKENS,
        }
        parameters = self._parameters
        while True:
            await self._pace()
            sent = parameters.fitted(request)
            try:
                completion = read_reply(self._judge.url, await self._exchange.post(sent))
            except RequestError as error:
                other = parameters.otherwise(sent, error)
                if other is None:
                    raise
                parameters = other
                continue
            for name in parameters.names.keys() - self._parameters.names.keys():
                note(f"note: the judge {self._judge.model}: {name} is {parameters.changed[name]}")
            self._parameters = self._parameters.merged_with(parameters)
            return completion.text or "", parameters.changed

    async def _pace(self) -> None:
        """Wait for this request's turn: their starts are at least 1 / rate seconds apart."""
        start = max(self._next_start, time.monotonic())
        self._next_start = start + 1 / self._judge.rate
        await asyncio.sleep(max(0.0, start - time.monotonic()))

    def _enough(self, state: tenacity.RetryCallState) -> bool:
        """Whether a question has been asked as often as it may; one that takes too long is asked twice."""
        error = state.outcome.exception() if state.outcome else None
        late = isinstance(error, RequestError) and error.timed_out and state.attempt_number >= 2
        return late or state.attempt_number >= self._judge.attempts

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds before the next attempt: what the server asks for, else doubled each time."""
        error = state.outcome.exception() if state.outcome else None
        own = self._judge.wait * 2.0 ** (state.attempt_number - 1)
        return min(LONGEST_WAIT, max(own, error.wait if isinstance(error, RequestError) else 0.0))


def _passes(error: BaseException) -> bool:
    """Whether the same question may be answered soon."""
    return isinstance(error, RequestError) and error.kind in ("busy", "unanswered")
