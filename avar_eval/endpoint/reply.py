"""What a chat completion says: read of any shape that servers give it, and never taken for more than it is."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from avar_eval.endpoint.exchange import RawReply
from avar_eval.endpoint.failure import RequestError, failure_kind, http_status, one_line
from avar_eval.keys import masked

_CUT: Final = {
    "length",
    "max_length",
    "max_tokens",
    "max_new_tokens",
    "max_output_tokens",
    "max_completion_tokens",
    "model_length",
    "model_context_window_exceeded",
    "token_limit",
    "truncated",
}
_FILTERED: Final = {
    "content_filter",
    "content_filtered",
    "content_filter_error",
    "blocked",
    "blocklist",
    "guardrail_intervened",
    "image_safety",
    "prohibited_content",
    "recitation",
    "refusal",
    "safety",
    "sensitive",
    "spii",
}
_FAILED: Final = {
    "abort",
    "aborted",
    "cancelled",
    "error",
    "failed",
    "insufficient_system_resource",
    "malformed_function_call",
    "network_error",
    "overloaded",
    "server_error",
    "timeout",
}
"""Names of the ends of a response, in lower case: OpenAI's, and those that others put into the same place."""

_MOST_TOKENS: Final = 10**9
"""Of one request; a server that counts more does not count."""

_READ: Final = 2**16
"""Bytes of what is shown: far more than is shown, so that no key is cut before it is masked."""

_HALF: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Completion:
    """A response. thoughts: where a server has cut them off; text is None where it holds thoughts alone.

    tokens: of the prompt and of the response, where the server counts both.
    """

    text: str | None
    thoughts: str
    finish_reason: Literal["stop", "length"]
    tokens: tuple[int, int] | None


def read_reply(url: str, reply: RawReply) -> Completion:
    """The response in a reply. Raises RequestError, which says what else it is."""
    content = _content(reply.body)
    if not 200 <= reply.status < 300:
        raise _refusal(url, reply, content)
    if isinstance(content, dict):
        try:
            if error := content.get("error"):
                raise _error_inside(url, error)
            completion = _completion(url, content)
        except RequestError as failure:
            failure.tokens = _tokens(content.get("usage"))
            raise
        if completion is not None:
            return completion
    said = one_line(reply.body[:_READ].decode(errors="replace")) or "nothing"
    raise RequestError("unanswered", f"{url} sent no chat completion but {said}: is it OpenAI-compatible?", sent=True)


def _content(body: bytes) -> Any:
    """A body as JSON, None if it is none; halves of surrogate pairs are replaced where a text is read."""
    try:
        return json.loads(body.decode("utf-8-sig", errors="replace"))
    except (ValueError, RecursionError):
        return None


def _refusal(url: str, reply: RawReply, content: Any) -> RequestError:
    """A reply of another status than 200."""
    if 300 <= reply.status < 400:
        place = one_line(reply.location or "nowhere")
        return RequestError(
            "stopped",
            f"{url} redirects to {place}: nothing is sent there. If that is the endpoint, give its URL up to and with "
            "/v1",
            status=reply.status,
        )
    error = content.get("error", content) if isinstance(content, dict) else None
    message, code, parameter = _error_parts(error)
    said = one_line(message or reply.body[:_READ].decode(errors="replace")) or f"status {reply.status}"
    kind = failure_kind(reply.status, code)
    # A gateway refuses what its moderation flags with the status of a wrong key.
    if reply.status == 403 and re.search(r"moderation|flagged", message, re.IGNORECASE):
        kind = "refused"
    return RequestError(
        kind,
        f"{url} refuses a request: {said}",
        status=reply.status,
        wait=reply.wait,
        parameter=parameter,
    )


def _error_inside(url: str, error: Any) -> RequestError:
    """An error that came with the status 200: as if with the one that it names, else as a failing provider's 502."""
    message, code, parameter = _error_parts(error)
    status = http_status(code) or 502
    said = one_line(message) or "an error without words"
    return RequestError(
        failure_kind(status, code), f"{url} refuses a request: {said}", status=status, sent=True, parameter=parameter
    )


def _error_parts(error: Any) -> tuple[str, object, str | None]:
    """Message, code and parameter of an error: OpenAI's form, FastAPI's `detail`, a text, or any JSON."""
    if isinstance(error, Mapping):
        message = next((error[name] for name in ("message", "detail", "msg", "error") if error.get(name)), error)
        code = next((error[name] for name in ("code", "type", "status") if http_status(error.get(name))), None)
        parameter = error.get("param")
        return _words(message), code, parameter if isinstance(parameter, str) else None
    return ("" if error is None else _words(error)), None, None


def _words(said: Any) -> str:
    if isinstance(said, str):
        return said
    try:
        return json.dumps(said, ensure_ascii=False)[:_READ]
    except (ValueError, RecursionError):
        return ""


def _completion(url: str, content: Mapping[str, Any]) -> Completion | None:
    """The first choice's response; None for what is no completion. Raises RequestError for an end that is none."""
    choices = content.get("choices")
    found = [one for one in choices if isinstance(one, dict)] if isinstance(choices, list) else []
    if not found:
        return None
    choice = min(found, key=lambda one: one["index"] if isinstance(one.get("index"), int) else 0)
    end = choice.get("finish_reason")
    end = end.strip().lower() if isinstance(end, str) else ""
    given = choice.get("message")
    message: Mapping[str, Any] = given if isinstance(given, dict) else {}
    text, inner, declined = _parse_content(message.get("content"))
    thoughts = inner or next(
        (_clean(of) for name in ("reasoning_content", "reasoning") if isinstance(of := message.get(name), str)), ""
    )
    declined = declined or (message["refusal"] if isinstance(message.get("refusal"), str) else "")
    if end in _FILTERED:
        raise RequestError("refused", f"{url} refuses a request: its filter ended the response ({end})", sent=True)
    if declined and not text:
        raise RequestError("refused", f"{url} refuses a request: {one_line(declined)}", sent=True)
    if error := choice.get("error"):
        raise _error_inside(url, error)
    if end in _FAILED:
        raise RequestError("unanswered", f"{url} failed within a response ({end})", status=502, sent=True)
    if given is not message:
        return None
    tokens = _tokens(content.get("usage"))
    called = bool(message.get("tool_calls") or message.get("function_call"))
    missing = text is None and end not in _CUT
    # An empty text is a response, of a model that has nothing to say; one of no token is none.
    if not text and not thoughts and (missing or called or (tokens is not None and tokens[1] == 0)):
        what = "the call of a tool" if called else "a message without a text"
        raise RequestError("unanswered", f"{url} sent {what} in the place of a response", sent=True)
    return Completion(text, thoughts, "length" if end in _CUT else "stop", tokens)


def _parse_content(content: Any) -> tuple[str | None, str, str]:
    """Text, thoughts and refusal of a message's content: a text, parts, or one part; the text is None if none is."""
    if isinstance(content, str):
        return _clean(content), "", ""
    text: str | None = None
    thoughts = declined = ""
    for kind, said in _parts(content):
        if kind == "text":
            text = (text or "") + said
        elif kind == "thinking":
            thoughts += said
        else:
            declined += said
    return text, thoughts, declined


def _parts(content: Any) -> Iterator[tuple[str, str]]:
    """Kind (text, thinking, refusal) and text of each part; of those of another kind nothing is read."""
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            yield "text", _clean(part)
        elif isinstance(part, dict):
            kind = part.get("type", "text")
            if kind in ("text", "output_text") and isinstance(part.get("text"), str):
                yield "text", _clean(part["text"])
            elif kind in ("thinking", "reasoning", "reasoning_text"):
                yield "thinking", "".join(_texts(part.get("thinking") or part.get("reasoning") or part.get("text")))
            elif kind == "refusal" and isinstance(part.get("refusal"), str):
                yield "refusal", _clean(part["refusal"])


def _texts(thought: Any) -> Iterator[str]:
    """The texts of a thought, which is one, or parts that have one."""
    for part in thought if isinstance(thought, list) else [thought]:
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            yield _clean(text)


def _clean(text: str) -> str:
    """A text as it is kept: without keys, halves of surrogate pairs replaced."""
    return masked(_HALF.sub("\ufffd", text))


def _tokens(usage: Any) -> tuple[int, int] | None:
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else []
    found = [
        int(count)
        for count in counts
        if isinstance(count, int | float) and not isinstance(count, bool) and 0 <= count <= _MOST_TOKENS
    ]
    return (found[0], found[1]) if len(found) == 2 else None
