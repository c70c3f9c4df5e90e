"""Asks a judge model: paced, timed, tried again a bounded number of times, given up when it is plainly not there."""

import threading
import time
from typing import Final

import openai
import tenacity
from openai.types.chat import ChatCompletion

from avar_eval.endpoint import requested_wait
from avar_eval.judge.model import JudgeModel

GIVE_UP_AFTER: Final = 5
"""Failed questions in a row after which the judge is taken to be gone: the rest is not waited for."""

LONGEST_WAIT: Final = 30.0
"""Seconds between two attempts, whatever the server asks for."""

REPLY_TOKENS: Final = 2048

_PASSING: Final = (
    openai.APIConnectionError,  # and its subclass, the time-out
    openai.RateLimitError,
    openai.InternalServerError,
    openai.ConflictError,
)


class JudgeCallError(Exception):
    """A question got no reply."""


class NoCompletionError(openai.OpenAIError):
    """The server replied with something else."""


class JudgeClient:
    """A judge that several threads may ask. last_error: the newest failure, for the user."""

    def __init__(self, judge: JudgeModel) -> None:
        self._judge = judge
        self._client = openai.OpenAI(base_url=judge.url, api_key=judge.key, timeout=judge.timeout, max_retries=0)
        self._lock = threading.Lock()
        self._next_start = 0.0
        self._failed_in_a_row = 0
        self.last_error = ""

    def ask(self, prompt: str) -> str:
        """The reply to a prompt. Raises JudgeCallError after the last attempt, and at once when the judge is gone."""
        if self._failed_in_a_row >= GIVE_UP_AFTER:
            raise JudgeCallError(f"the judge is not asked any more: {self.last_error}")
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_PASSING),
            stop=tenacity.stop_after_attempt(self._judge.attempts),
            wait=self._wait,
            reraise=True,
        )
        try:
            reply = attempts(self._attempt, prompt)
        except (openai.OpenAIError, ValueError) as error:  # ValueError: a body that is not JSON
            with self._lock:
                self._failed_in_a_row += 1
                self.last_error = " ".join(str(error).split())[:300]
            raise JudgeCallError(self.last_error) from error
        with self._lock:
            self._failed_in_a_row = 0
        return reply

    def _attempt(self, prompt: str) -> str:
        self._pace()
        completion = self._client.chat.completions.create(
            model=self._judge.model,
            messages=[{"role": "user", "content": prompt}],
            temperature=0,
            max_tokens=REPLY_TOKENS,
        )
        # The client checks nothing: of a server that is no chat model it may be text, None or without any choice.
        if not isinstance(completion, ChatCompletion) or not completion.choices or not completion.choices[0].message:
            raise NoCompletionError(f"{self._judge.url} gave no chat completion: is it an OpenAI-compatible endpoint?")
        return completion.choices[0].message.content or ""

    def _pace(self) -> None:
        """Wait for this request's turn: their starts are at least 1 / rate seconds apart."""
        with self._lock:
            start = max(self._next_start, time.monotonic())
            self._next_start = start + 1 / self._judge.rate
        time.sleep(max(0.0, start - time.monotonic()))

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds before the next attempt: what the server asks for, else doubled each time."""
        error = state.outcome.exception() if state.outcome else None
        own = self._judge.wait * 2.0 ** (state.attempt_number - 1)
        return min(LONGEST_WAIT, max(own, requested_wait(error)))
