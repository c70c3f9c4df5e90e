"""Whatever bytes come, in whatever JSON: a completion that can be written down, or one named failure."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from avar_eval.endpoint.exchange import RawReply
from avar_eval.endpoint.failure import RequestError
from avar_eval.endpoint.reply import Completion, read_reply

OUTER = ["choices", "message", "finish_reason", "index", "usage", "prompt_tokens", "completion_tokens"]
INNER = ["content", "text", "type", "thinking", "reasoning", "reasoning_content", "refusal", "tool_calls"]
FAULTS = ["error", "code", "message", "status", "detail", "param"]
NAMES = [*OUTER, *INNER, *FAULTS]
WORDS = st.sampled_from(
    ["stop", "length", "content_filter", "error", "text", "thinking", "refusal", "502", "MAX_TOKENS", "\ud800", "", "0"]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=8)
VALUES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner),
    max_leaves=12,
)
MESSAGES = st.fixed_dictionaries({}, optional=dict.fromkeys(INNER, VALUES))
CHOICES = st.fixed_dictionaries({}, optional={"message": MESSAGES | VALUES, "finish_reason": VALUES, "index": VALUES})
COMPLETIONS = st.fixed_dictionaries(
    {"choices": st.lists(CHOICES | VALUES, max_size=3) | VALUES}, optional={"usage": VALUES, "error": VALUES}
)


def check(body: bytes, status: int) -> None:
    found: Completion | None = None
    failure: RequestError | None = None
    try:
        found = read_reply("http://x/v1", RawReply(status, body, 0.0, None))
    except RequestError as error:
        failure = error
    if failure is not None:
        assert failure.kind in ("busy", "unanswered", "refused", "stopped")
        assert 0 < len(failure.reason) < 500
        assert "\n" not in failure.reason
        return
    assert isinstance(found, Completion)
    assert 200 <= status < 300
    (found.thoughts + (found.text or "")).encode()
    assert found.finish_reason in ("stop", "length")
    assert found.tokens is None or all(type(count) is int and 0 <= count <= 10**9 for count in found.tokens)


@settings(max_examples=1500)
@given(COMPLETIONS | VALUES, st.sampled_from([200, 200, 200, 201, 302, 400, 401, 403, 404, 422, 429, 500, 503, 599]))
def test_json_of_any_shape(content: Any, status: int) -> None:
    check(json.dumps(content).encode(), status)


@given(st.binary(max_size=200), st.integers(200, 599))
def test_bytes_of_any_kind(body: bytes, status: int) -> None:
    check(body, status)
