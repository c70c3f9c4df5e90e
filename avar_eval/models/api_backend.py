"""Ask a model behind an OpenAI-compatible endpoint: many requests at a time, patient with a busy server, in budget.

What such an endpoint does not tell is not made up. vLLM tells the token ids, so that attention can be measured where
the weights are at hand (`served_observer`), and with our plugin it steers, which it must say (`served_steering`).
"""

import asyncio
import base64
import io
import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from PIL.Image import Image
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from avar_eval.attention.steering import Steering
from avar_eval.endpoint.exchange import Exchange
from avar_eval.endpoint.failure import RequestError
from avar_eval.endpoint.parameters import Parameters
from avar_eval.endpoint.reply import Completion, read_reply
from avar_eval.endpoint.url import DEFAULT_KEY_ENV, key_for, token_limit_name
from avar_eval.models.backend import BackendError, Generation, Prompt, Refusal
from avar_eval.models.backend_options import ApiOptions
from avar_eval.models.concurrency import answer_as_they_finish
from avar_eval.models.decoding import Decoding
from avar_eval.models.image_limits import ImageLimits
from avar_eval.models.registry import ModelEntry
from avar_eval.models.served_steering import ServedSteering
from avar_eval.models.spending import Spending
from avar_eval.records.record import Usage
from avar_eval.terminal import note

_SECONDS_BETWEEN_NOTES: Final = 10.0
"""Many requests wait at a time: one of them says so."""
_TIMED_OUT_TWICE: Final = 2
"""Attempts after which a request that takes too long is not made again: each has had the whole of its time."""
_TOKENS_OF_A_TURN: Final = 16
_TOKENS_OF_A_PICTURE: Final = 1500
_PIXELS_OF_A_TOKEN: Final = 28 * 28
"""Of the models that see the most of a picture; those that count a picture otherwise are learnt from their replies."""


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
    """A client of one endpoint. Its key is read from the environment and stands in no file and no message.

    steering: what a vLLM with our plugin steers each response by. placeholders: tokens that stand for an image, where
    `options.weights` are to measure responses. image_limits: pictures are resized to them before they are sent.
    """

    name: Literal["api"] = "api"
    dtype: None = None

    def __init__(
        self,
        served: ServedModel,
        options: ApiOptions,
        steering: Steering | None = None,
        placeholders: Sequence[int] = (),
        image_limits: ImageLimits | None = None,
    ) -> None:
        self.served = served
        self.options = options
        self.steering = steering
        self.image_limits = image_limits or ImageLimits()
        self._terms = ServedSteering(options.url, steering, options.weights is not None, placeholders)
        self._key = key_for(options.url, options.key_env, "--api-key-env")
        self._spending = Spending(options.price, options.cost_limit)
        self._parameters = Parameters()
        self._told_uncounted = False
        self._next_start = 0.0
        self._last_note = -math.inf

    def identity(self) -> dict[str, str]:
        """Endpoint, model and limits of pictures: what is behind them can change all the same, and cannot be seen."""
        place = {"backend": "api", "url": self.options.url.rstrip("/"), "model": self.served.model}
        return place | self.image_limits.identity()

    def load(self) -> None:
        """Nothing to load."""

    def release(self) -> None:
        """Nothing to give back."""

    def recall(self, usages: Iterable[Usage]) -> None:
        """Count what earlier runs of the same record book have cost."""
        for usage in usages:
            self._spending.recall(usage)

    def render(self, messages: Sequence[dict[str, Any]]) -> str:
        """The messages as JSON, with {"type": "image"} where a picture is sent."""
        return json.dumps(
            [{"role": m["role"], "content": _written(m["content"])} for m in messages], ensure_ascii=False
        )

    def answer(
        self, prompts: Iterable[Prompt], decoding: Decoding, may_refuse: int = 0
    ) -> Iterator[tuple[int, Generation | Refusal]]:
        """Number and response of each prompt, as they arrive; at most `concurrency` are under way.

        A question that this server refuses, or does not answer in all attempts, is a Refusal. Raises BackendError,
        after all that was under way has arrived, if the server cannot be reached, refuses the key or more than
        `may_refuse` questions, or stays busy through all retries, and CostLimitError if the money is spent.
        """
        with asyncio.Runner() as runner:
            self._spending.begin()
            exchange = Exchange(self.options.url, self._key, self.options.timeout)
            try:
                yield from answer_as_they_finish(
                    runner,
                    prompts,
                    lambda _, prompt: self._ask(exchange, prompt, decoding),
                    self.options.concurrency,
                    may_refuse,
                )
            finally:
                runner.run(exchange.close())

    async def _ask(self, exchange: Exchange, prompt: Prompt, decoding: Decoding) -> Generation | Refusal:
        """One response. Raises BackendError with what to do about it."""
        images = [self.image_limits.resized(image) for image in prompt.images()]
        request = self._request(prompt, images, decoding)
        worst = Usage(prompt_tokens=_most_tokens(prompt.prompt, images), completion_tokens=decoding.max_new_tokens)
        retrying = AsyncRetrying(
            retry=retry_if_exception(self._passes),
            stop=self._enough,
            wait=self._wait,
            before_sleep=self._note_wait,
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    made = await self._attempt(exchange, request, worst)
                    return replace(made, attempts=attempt.retry_state.attempt_number)
        except RequestError as failure:
            if failure.kind in ("refused", "unanswered"):
                return Refusal(failure.reason)
            raise self._explained(failure) from failure
        raise AssertionError("tenacity re-raises the last error")

    async def _attempt(self, exchange: Exchange, request: dict[str, Any], worst: Usage) -> Generation:
        """One request, or several where the server does not take a parameter. Raises RequestError."""
        parameters = self._parameters
        while True:
            await self._turn()
            sent = parameters.fitted(request)
            async with self._spending.reserved(worst) as reservation:
                try:
                    reply = await exchange.post(sent)
                    completion = read_reply(self.options.url, reply)
                except RequestError as failure:
                    if failure.tokens is not None:
                        reservation.cost = self._spending.cost(_counted(failure.tokens))
                    elif failure.sent:  # what was lost may have been written, and is paid for then
                        reservation.cost = reservation.most
                    other = parameters.otherwise(sent, failure)
                    if other is None:
                        raise
                    parameters = other
                    continue
                usage = self._usage(completion, worst)
                reservation.cost = None if usage is None else self._spending.cost(usage)
            for name in parameters.names.keys() - self._parameters.names.keys():
                note(f"note: {self.options.url}: {name} is {parameters.changed[name]}")
            self._parameters = self._parameters.merged_with(parameters)
            changed = {name: how for name, how in parameters.changed.items() if name in request}
            token_ids = self._terms.token_ids(reply)
            return Generation(*token_ids, _text(completion), completion.finish_reason, usage, changed or None)

    def _request(self, prompt: Prompt, images: Sequence[Image], decoding: Decoding) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": self.served.model,
            "messages": _with_images(json.loads(prompt.prompt), images),
            "temperature": decoding.temperature,
            token_limit_name(self.options.url): decoding.max_new_tokens,
        }
        if not decoding.greedy:
            request |= {"top_p": decoding.top_p, "seed": int(prompt.key[:7], 16)}
        if decoding.stop:
            request["stop"] = list(decoding.stop)
        # Most of these are not in OpenAI's interface, but in those of vLLM and SGLang.
        return request | decoding.sampling() | self._terms.parameters()

    async def _turn(self) -> None:
        """Wait until one more request may be begun this minute."""
        if self.options.requests_per_minute is not None:
            now = time.monotonic()
            start = max(now, self._next_start)
            self._next_start = start + 60 / self.options.requests_per_minute
            await asyncio.sleep(start - now)

    def _passes(self, error: BaseException) -> bool:
        """Whether the same request may succeed soon: a busy or failing server, a lost connection; no spent account."""
        if not isinstance(error, RequestError) or error.wait > self.options.timeout:
            return False
        return error.kind in ("busy", "unanswered")

    def _enough(self, state: RetryCallState) -> bool:
        """Whether a request has been made as often as it may, or has waited as long as a response may take."""
        error = state.outcome.exception() if state.outcome else None
        late = isinstance(error, RequestError) and error.timed_out and state.attempt_number >= _TIMED_OUT_TWICE
        return late or state.idle_for >= self.options.timeout or stop_after_attempt(1 + self.options.retries)(state)

    def _wait(self, state: RetryCallState) -> float:
        """Twice as long after each failure, with jitter, and no shorter than the server asks for."""
        error = state.outcome.exception() if state.outcome else None
        patience = wait_random_exponential(multiplier=self.options.first_wait, max=60)(state)
        return max(patience, error.wait if isinstance(error, RequestError) else 0.0)

    def _note_wait(self, state: RetryCallState) -> None:
        """Say on standard error, now and then, that and why a request waits: it may be for minutes."""
        now = time.monotonic()
        error = state.outcome.exception() if state.outcome else None
        if now - self._last_note >= _SECONDS_BETWEEN_NOTES and isinstance(error, RequestError):
            self._last_note = now
            note(
                f"{error.reason}: attempt {state.attempt_number + 1} of {1 + self.options.retries} in "
                f"{state.upcoming_sleep:.0f} s"
            )

    def _usage(self, completion: Completion, worst: Usage) -> Usage | None:
        """What the server counts, else, where it is priced, an estimate from above, which is said once."""
        if completion.tokens is not None:
            return _counted(completion.tokens)
        if self.options.price is None:
            return None
        if not self._told_uncounted:
            self._told_uncounted = True
            note(
                f"{self.options.url} does not count tokens: what it costs is estimated from above, a token for each "
                "byte of text and 784 pixels"
            )
        written = len((completion.thoughts + (completion.text or "")).encode())
        return Usage(
            prompt_tokens=worst.prompt_tokens,
            completion_tokens=min(written, worst.completion_tokens),
            estimated=True,
        )

    def _explained(self, failure: RequestError) -> BackendError:
        """What ends the run, and how to go on."""
        said, again = failure.reason, "; what is answered is kept, run the same command again to go on"
        named = f"the key in ${self.options.key_env or DEFAULT_KEY_ENV}"
        if failure.status in (401, 403):
            said = said.replace("refuses a request", f"refuses {named}", 1)
        elif failure.status == 404:
            model = f"has no model {self.served.model!r}, or is not the endpoint"
            known = self.served.entry.api.not_found if self.served.entry and self.served.entry.api else None
            return BackendError(said.replace("refuses a request", model, 1) + (f"; {known}" if known else ""))
        elif failure.wait > self.options.timeout:
            said = said.replace("refuses a request", f"asks to be left alone for {failure.wait:.0f} s", 1)
        return BackendError(f"{said}{again}")


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


def _text(completion: Completion) -> str:
    """What a model said; thoughts that a server has cut off are put back into their tags."""
    if not completion.thoughts:
        return completion.text or ""
    return f"<think>{completion.thoughts}" + ("" if completion.text is None else f"</think>{completion.text}")


def _counted(tokens: tuple[int, int]) -> Usage:
    return Usage(prompt_tokens=tokens[0], completion_tokens=tokens[1])


def _most_tokens(prompt: str, images: Sequence[Image]) -> int:
    """Tokens that a prompt has at most: one for each byte, as no tokenizer makes more, and those of its pictures."""
    pictures = sum(max(_TOKENS_OF_A_PICTURE, image.width * image.height // _PIXELS_OF_A_TOKEN) for image in images)
    return len(prompt.encode("utf-8", "replace")) + _TOKENS_OF_A_TURN + pictures
