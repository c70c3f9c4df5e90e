"""Ask a model behind an OpenAI-compatible endpoint: many requests at a time, patient with a busy server, in budget.

What such an endpoint does not tell is not made up: there are no token ids, so attention cannot be measured.
"""

import asyncio
import base64
import io
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import openai
from PIL.Image import Image
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from avar_eval.endpoint import check_url, requested_wait
from avar_eval.errors import UsageError
from avar_eval.models.backend import BackendError, Generation, Prompt, Refusal
from avar_eval.models.concurrency import answer_as_they_finish
from avar_eval.models.decoding import Decoding
from avar_eval.models.registry import ModelEntry
from avar_eval.records import Usage

_PENDING_STATUSES = (408, 409, 429)
_SECONDS_TO_CONNECT = 30.0
_SECONDS_BETWEEN_NOTES = 10.0
"""Many requests wait at a time: one of them says so."""
_REFUSED_STATUSES = (400, 413, 422)
"""Of a request that is at fault itself: too long, or of content that the server does not accept."""


class CostLimitError(BackendError):
    """The money that a run may cost is spent."""


def _prices(given: object) -> object:
    """`PROMPT,RESPONSE` as the command line writes it."""
    if not isinstance(given, str):
        return given
    try:
        prices = tuple(map(float, given.split(",")))
    except ValueError:
        prices = ()
    if len(prices) != 2 or not all(0 <= price < math.inf for price in prices):
        raise ValueError(f"give PROMPT,RESPONSE in dollars a million tokens, such as 2.5,10, not {given!r}")
    return prices


class ApiOptions(BaseModel):
    """How to reach an endpoint, and how hard to press it.

    url: up to and with `/v1`. key_env: the environment variable with the key. concurrency: requests at a time.
    requests_per_minute: at most so many are begun. price: US dollars a million tokens of prompt and of response.
    cost_limit: US dollars after which no request is begun, what the record book holds already counted; requests in
    flight are still paid for. retries: after a busy or failing server; the waits double, from `first_wait` seconds.
    timeout: seconds for one response; a server that asks for a longer wait than this is not waited for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    key_env: str | None = None
    concurrency: int = Field(16, ge=1)
    requests_per_minute: float | None = Field(None, gt=0)
    price: Annotated[tuple[float, float] | None, BeforeValidator(_prices)] = None
    cost_limit: float | None = Field(None, gt=0)
    retries: int = Field(6, ge=0)
    first_wait: float = Field(1.0, gt=0)
    timeout: float = Field(600.0, gt=0)

    @model_validator(mode="after")
    def _sensible(self) -> "ApiOptions":
        check_url(self.url)
        if self.cost_limit is not None and self.price is None:
            raise ValueError("a cost limit needs the prices: --api-price PROMPT,RESPONSE in dollars a million tokens")
        return self


class _Message(BaseModel):
    """What a model said. Thoughts that a server has cut off stand in a field of their own, which has two names."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Counts(BaseModel):
    """Tokens, as far as a server counts them."""

    prompt_tokens: int | None = Field(None, ge=0)
    completion_tokens: int | None = Field(None, ge=0)


class _Completion(BaseModel):
    """What is read of a chat completion: OpenAI's client itself takes whatever a server sends for one."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Counts | None = None


@dataclass(frozen=True)
class ServedModel:
    """A model that an endpoint serves. name: as it stands in tables. model: as the endpoint knows it."""

    name: str
    model: str
    entry: ModelEntry | None
    revision: None = None


def served_model(model: str, entry: ModelEntry | None) -> ServedModel:
    """The served model of a registered name; any other name is taken as the endpoint's own."""
    if entry is None:
        return ServedModel(model, model, None)
    return ServedModel(entry.name, entry.api.model if entry.api else str(entry.repository or entry.name), entry)


class ApiBackend:
    """A client of one endpoint. Its key is read from the environment and stands in no file and no message."""

    name: Literal["api"] = "api"
    dtype: None = None

    def __init__(self, served: ServedModel, options: ApiOptions) -> None:
        self.served = served
        self.options = options
        self._key_env = options.key_env or "OPENAI_API_KEY"
        self._key = os.environ.get(self._key_env)
        if options.key_env is not None and not self._key:
            raise UsageError(f"the environment variable {options.key_env} holds no key")
        self._spent = 0.0
        self._next_start = 0.0
        self._last_note = -math.inf

    def identity(self) -> dict[str, str]:
        """Endpoint and model: what is behind them can change all the same, and cannot be seen."""
        return {"backend": "api", "url": self.options.url.rstrip("/"), "model": self.served.model}

    def load(self) -> None:
        """Nothing to load."""

    def release(self) -> None:
        """Nothing to give back."""

    def recall(self, usages: Iterable[Usage]) -> None:
        """Count what earlier runs of the same record book have cost."""
        for usage in usages:
            self._spend(usage)

    def render(self, messages: Sequence[dict[str, Any]]) -> str:
        """The messages as JSON, with {"type": "image"} where a picture is sent."""
        return json.dumps(
            [{"role": m["role"], "content": _written(m["content"])} for m in messages], ensure_ascii=False
        )

    def answer(
        self, prompts: Sequence[Prompt], decoding: Decoding, may_refuse: int = 0
    ) -> Iterator[tuple[int, Generation | Refusal]]:
        """Number and response of each prompt, as they arrive; at most `concurrency` are under way.

        Raises BackendError, after all that was under way has arrived, if the server cannot be reached, refuses the key
        or more than `may_refuse` questions, or stays busy through all retries, and CostLimitError if the money is
        spent.
        """
        with asyncio.Runner() as runner:
            client = self._client()
            yield from answer_as_they_finish(
                runner,
                prompts,
                lambda _, prompt: self._ask(client, prompt, decoding),
                self.options.concurrency,
                may_refuse,
                self._over_budget,
            )
            runner.run(client.close())

    def _client(self) -> openai.AsyncOpenAI:
        timeout = openai.Timeout(self.options.timeout, connect=min(_SECONDS_TO_CONNECT, self.options.timeout))
        return openai.AsyncOpenAI(
            base_url=self.options.url, api_key=self._key or "none", timeout=timeout, max_retries=0
        )

    def _over_budget(self) -> CostLimitError | None:
        limit = self.options.cost_limit
        if limit is None or self._spent < limit:
            return None
        return CostLimitError(
            f"the cost limit of {limit:g} dollars is reached ({self._spent:.4g} spent); what is answered is kept, "
            "raise --api-cost-limit to go on"
        )

    async def _ask(self, client: openai.AsyncOpenAI, prompt: Prompt, decoding: Decoding) -> Generation | Refusal:
        """One response. Raises BackendError with what to do about it."""
        request = self._request(prompt, decoding)
        retrying = AsyncRetrying(
            retry=retry_if_exception(self._passes),
            stop=stop_after_attempt(1 + self.options.retries),
            wait=self._wait,
            before_sleep=self._note_wait,
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    await self._turn()
                    reply = await client.chat.completions.with_raw_response.create(**request)
                    return self._generation(reply.content)
        except openai.OpenAIError as error:
            if isinstance(error, openai.APIStatusError) and error.status_code in _REFUSED_STATUSES:
                return Refusal(f"{self.options.url} refuses a request: {_said(error)}")
            raise self._explained(error) from error
        raise AssertionError("tenacity re-raises the last error")

    def _request(self, prompt: Prompt, decoding: Decoding) -> dict[str, Any]:
        official = urlsplit(self.options.url).hostname == "api.openai.com"  # its newer models refuse `max_tokens`
        request: dict[str, Any] = {
            "model": self.served.model,
            "messages": _with_images(json.loads(prompt.prompt), prompt.images()),
            "temperature": decoding.temperature,
            "max_completion_tokens" if official else "max_tokens": decoding.max_new_tokens,
        }
        if not decoding.greedy:
            request |= {"top_p": decoding.top_p, "seed": int(prompt.key[:7], 16)}
        if decoding.stop:
            request["stop"] = list(decoding.stop)
        extra: dict[str, float] = {}  # not in OpenAI's interface, but in those of vLLM and SGLang
        if decoding.top_k and not decoding.greedy:
            extra["top_k"] = decoding.top_k
        if decoding.repetition_penalty != 1:
            extra["repetition_penalty"] = decoding.repetition_penalty
        return request | ({"extra_body": extra} if extra else {})

    async def _turn(self) -> None:
        """Wait until one more request may be begun this minute."""
        if self.options.requests_per_minute is not None:
            now = time.monotonic()
            start = max(now, self._next_start)
            self._next_start = start + 60 / self.options.requests_per_minute
            await asyncio.sleep(start - now)

    def _passes(self, error: BaseException) -> bool:
        """Whether the same request may succeed soon: a busy or failing server, a lost connection; no spent account."""
        if isinstance(error, openai.APIStatusError):
            busy = error.status_code in _PENDING_STATUSES or error.status_code >= 500
            return busy and error.code != "insufficient_quota" and requested_wait(error) <= self.options.timeout
        return isinstance(error, openai.APIConnectionError)

    def _wait(self, state: RetryCallState) -> float:
        """Twice as long after each failure, with jitter, and no shorter than the server asks for."""
        error = state.outcome.exception() if state.outcome else None
        patience = wait_random_exponential(multiplier=self.options.first_wait, max=60)(state)
        return max(patience, requested_wait(error))

    def _note_wait(self, state: RetryCallState) -> None:
        """Say on standard error, now and then, that and why a request waits: it may be for minutes."""
        now = time.monotonic()
        error = state.outcome.exception() if state.outcome else None
        if now - self._last_note >= _SECONDS_BETWEEN_NOTES and isinstance(error, openai.OpenAIError):
            self._last_note = now
            print(
                f"{self.options.url}: {_said(error)}: attempt {state.attempt_number + 1} of {1 + self.options.retries} "
                f"in {state.upcoming_sleep:.0f} s",
                file=sys.stderr,
            )

    def _generation(self, reply: bytes) -> Generation:
        """The response that a server's reply holds. Raises BackendError, with the reply, if it is something else."""
        try:
            completion = _Completion.model_validate_json(reply)
        except ValidationError as error:
            said = " ".join(reply[:300].decode(errors="replace").split()) or "nothing"
            raise BackendError(
                f"{self.options.url} sent no chat completion but {said}: is it OpenAI-compatible? What is answered is "
                "kept, run the same command again to go on"
            ) from error
        usage = _usage(completion.usage)
        if usage is not None:
            self._spend(usage)
        elif self.options.cost_limit is not None:
            raise BackendError(f"{self.options.url} does not count tokens: --api-cost-limit cannot be kept there")
        choice = completion.choices[0]
        reason: Literal["stop", "length"] = "length" if choice.finish_reason == "length" else "stop"
        return Generation([], [], _text(choice.message), reason, usage)

    def _spend(self, usage: Usage) -> None:
        if self.options.price is not None:
            per_prompt, per_response = self.options.price
            self._spent += (usage.prompt_tokens * per_prompt + usage.completion_tokens * per_response) / 1e6

    def _explained(self, error: openai.OpenAIError) -> BackendError:
        url, again = self.options.url, "; what is answered is kept, run the same command again to go on"
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return BackendError(f"{url} refuses the key in ${self._key_env}: {_said(error)}{again}")
        if isinstance(error, openai.NotFoundError):
            return BackendError(f"{url} has no model {self.served.model!r}, or is not the endpoint: {_said(error)}")
        if isinstance(error, openai.APITimeoutError):
            return BackendError(
                f"{url} did not answer within {self.options.timeout:g} s, or could not be connected to within "
                f"{min(_SECONDS_TO_CONNECT, self.options.timeout):g} s{again}"
            )
        if isinstance(error, openai.APIConnectionError):
            return BackendError(f"{url} cannot be reached: {error.__cause__ or error}{again}")
        if (wait := requested_wait(error)) > self.options.timeout:
            return BackendError(f"{url} asks to be left alone for {wait:g} s: {_said(error)}{again}")
        return BackendError(f"{url} refuses a request: {_said(error)}{again}")


def _written(content: str | Sequence[dict[str, Any]]) -> str | list[dict[str, str]]:
    """A message's content without its pictures; text that stands alone as a plain string, which every server takes."""
    if isinstance(content, str):
        return content
    parts = [{"type": "image"} if p["type"] == "image" else {"type": "text", "text": p["text"]} for p in content]
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _with_images(messages: list[dict[str, Any]], images: Sequence[Image]) -> list[dict[str, Any]]:
    """Rendered messages with their pictures, in order, as PNG data URLs."""
    pictures = iter(images)
    for message in messages:
        if not isinstance(message["content"], str):
            message["content"] = [
                {"type": "image_url", "image_url": {"url": _data_url(next(pictures))}} if p["type"] == "image" else p
                for p in message["content"]
            ]
    return messages


def _data_url(image: Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _text(message: _Message) -> str:
    """What a model said; thoughts that a server has cut off are put back into their tags."""
    thoughts = message.reasoning_content or message.reasoning
    if not thoughts:
        return message.content or message.refusal or ""
    return f"<think>{thoughts}" + ("" if message.content is None else f"</think>{message.content}")


def _usage(counts: _Counts | None) -> Usage | None:
    if counts is None or counts.prompt_tokens is None or counts.completion_tokens is None:
        return None
    return Usage(prompt_tokens=counts.prompt_tokens, completion_tokens=counts.completion_tokens)


def _said(error: openai.OpenAIError) -> str:
    """The server's own words, on one line."""
    body = error.body if isinstance(error, openai.APIError) else None
    said = body.get("message") if isinstance(body, dict) else None
    return " ".join(str(said or error).split())[:300]
