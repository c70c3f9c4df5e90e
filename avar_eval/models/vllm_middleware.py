"""Beside a server of vLLM: `vllm serve … --middleware avar_eval.models.vllm_middleware.SteeringPerRequest`.

It reads the strengths of a request before the server does, refuses those that cannot be with status 400 (also where the
response is a stream, whose status would long be sent), keeps the number of different strengths within what an engine
can hold, and says in a header of each response with which strengths it was computed: a client that asks a server
without our plugin would otherwise take unsteered answers for steered ones.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from avar_eval.attention.steering import Steering
from avar_eval.errors import AvarError, UsageError
from avar_eval.models.request_steering import (
    HEADER,
    REQUEST_KEY,
    TooManyStrengthsError,
    check_words,
    in_flight,
    read_strengths,
)
from avar_eval.models.steered_engine import check_engine_takes
from avar_eval.models.steering_rows import ROWS

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
"""Of the ASGI specification, https://asgi.readthedocs.io/en/latest/specs/main.html."""

_MOST_AT_ONCE: Final = ROWS // 2
"""Different strengths: half of what an engine holds, for a request that a client has given up may still be in it."""


class SteeringPerRequest:
    """The ASGI application around vLLM's."""

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, with its strengths noted if it has any."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        messages, body = await _read_body(receive)
        whole = iter(messages)

        async def again() -> Message:
            return next(whole, None) or await receive()

        state = scope["app"].state
        try:
            steering = _strengths(body)
            if steering is None:
                await self.app(scope, again, send)
                return
            check_engine_takes(state.vllm_config, steering)
            with in_flight.of(steering, _MOST_AT_ONCE // (state.args.api_server_count or 1)):
                await self.app(scope, again, _naming(steering, send))
        except TooManyStrengthsError as error:
            await _refuse(send, 429, error)
        except AvarError as error:
            await _refuse(send, 400, error)


async def _read_body(receive: Receive) -> tuple[list[Message], bytes]:
    """A request's messages up to the end of its body, and the body."""
    messages = [await receive()]
    while messages[-1]["type"] == "http.request" and messages[-1].get("more_body", False):
        messages.append(await receive())
    return messages, b"".join(message.get("body", b"") for message in messages)


def _strengths(body: bytes) -> Steering | None:
    """What a request's body asks for. Raises UsageError for what would be steered otherwise than asked, or not."""
    if b"avar" not in body.lower():  # spares the parsing of pictures; written with escapes it lacks the header alone
        return None
    try:
        request = json.loads(body)
    except ValueError:  # the server says what it thinks of it
        return None
    if not isinstance(request, dict):
        return None
    for word in request:
        if word.lower().startswith("avar"):
            raise UsageError(f'{word}: strengths stand in vllm_xargs, as in "vllm_xargs": {{"{REQUEST_KEY}": "…"}}')
    extra = request.get("vllm_xargs")
    if not isinstance(extra, dict):
        return None
    check_words(extra)
    if REQUEST_KEY not in extra:
        return None
    if request.get("use_beam_search"):
        raise UsageError(f"{REQUEST_KEY}: beam search drops it; ask without use_beam_search")
    return read_strengths(extra[REQUEST_KEY])


def _naming(steering: Steering, send: Send) -> Send:
    """A `send` that adds the header to a successful response."""

    async def named(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            headers = [*message.get("headers", []), (HEADER.encode(), str(steering).encode())]
            message = {**message, "headers": headers}
        await send(message)

    return named


async def _refuse(send: Send, status: int, error: Exception) -> None:
    """The error in the form of OpenAI's interface."""
    said: dict[str, Any] = {"message": str(error), "param": REQUEST_KEY, "code": status}
    said["type"] = "BadRequestError" if status == 400 else "RateLimitError"
    body = json.dumps({"error": said}, ensure_ascii=False).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
