"""What an api run may cost holds at any concurrency, whatever a server counts or does not count."""

import contextlib
import json
import math
import threading
import time
from typing import Any

import pytest
from asking import DECODING, Question, backend
from hostile_server import HostileServer, serving

from avar_eval.models.backend import BackendError, Generation
from avar_eval.models.backend_options import ApiOptions
from avar_eval.models.decoding import Decoding
from avar_eval.models.spending import CostLimitError
from avar_eval.records.record import Usage

QUESTIONS = [Question(json.dumps([{"role": "user", "content": f"question {n:03}"}])) for n in range(64)]


class Counting(HostileServer):
    """Counts the tokens that it is told to, one request after the other, and is slow enough for many at a time.

    together: so many requests wait for one another before any is answered, but for the first one, which comes alone.
    """

    def __init__(self, *tokens: tuple[int, int] | None, together: int = 1) -> None:
        super().__init__({}, "", "never")
        self.tokens, self.spent, self._lock = tokens, 0.0, threading.Lock()
        self.asked, self._meeting = 0, threading.Barrier(together, timeout=60)

    def send(self, connection: Any, reply: dict[str, Any]) -> None:
        with self._lock:
            counted = self.tokens[self.asked % len(self.tokens)]
            self.asked += 1
            alone = self.asked == 1
            if counted is not None:
                self.spent += counted[0] / 1e6 + 10 * counted[1] / 1e6
        time.sleep(0.02)
        if not alone:
            self._meeting.wait()
        usage = {} if counted is None else {"usage": {"prompt_tokens": counted[0], "completion_tokens": counted[1]}}
        choice = {"message": {"content": "<answer>4</answer>"}, "finish_reason": "stop"}
        super().send(connection, {"json": {"choices": [choice]} | usage})


@pytest.mark.parametrize("concurrency", [1, 4, 16, 64])
@pytest.mark.parametrize(
    "tokens",
    [
        [(40, 50)],  # what was estimated at most
        [(10, 5)],  # less
        [(100_000, 5)],  # far more: pictures that are counted otherwise
        [(40, 20_000)],  # far more: thoughts that are not shown
        [(10_000, 50), (20, 5), (5_000, 500)],
    ],
)
def test_the_limit_holds_at_any_concurrency(tokens: list[tuple[int, int] | None], concurrency: int) -> None:
    most = max(prompt / 1e6 + 10 * response / 1e6 for prompt, response in filter(None, tokens))
    limit = 9.5 * max(most, 0.0006)
    with serving(Counting(*tokens)) as server:
        api = backend(server.url, price="1,10", cost_limit=limit, concurrency=concurrency)
        answers = []
        with contextlib.suppress(CostLimitError):
            answers += api.answer(QUESTIONS, DECODING)
        assert isinstance(server, Counting)
        assert 0 < server.spent <= limit
        assert len(answers) < len(QUESTIONS) or tokens == [(10, 5)]
        assert len(answers) >= min(5, len(QUESTIONS)), "and yet most of it is spent"


def test_many_are_under_way_as_long_as_there_is_room() -> None:
    with serving(Counting((40, 50), together=16)) as server:
        api = backend(server.url, price="1,10", cost_limit=100, concurrency=16)
        assert len(list(api.answer(QUESTIONS[: 1 + 3 * 16], DECODING))) == 1 + 3 * 16


def test_replies_without_usage_are_kept_and_priced_from_above(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Counting(None)) as server:
        api = backend(server.url, price="1,10", cost_limit=1, concurrency=8)
        answers = dict(api.answer(QUESTIONS[:8], DECODING))
        assert len(answers) == 8
        for number, answer in answers.items():
            assert isinstance(answer, Generation)
            assert answer.usage is not None
            assert answer.usage.estimated
            assert answer.usage.prompt_tokens >= len(QUESTIONS[number].prompt)
            assert answer.usage.completion_tokens == len("<answer>4</answer>")
        assert capsys.readouterr().err.count("does not count tokens: what it costs is estimated from above") == 1
        tight = backend(server.url, price="1,10", cost_limit=0.002, concurrency=8)
        with pytest.raises(CostLimitError):
            list(tight.answer(QUESTIONS, DECODING))
        assert server.asked < 8 + 12  # type: ignore[attr-defined]
        unpriced = dict(backend(server.url).answer(QUESTIONS[:1], DECODING))
        assert unpriced[0].usage is None  # type: ignore[union-attr]


def test_a_request_that_is_dearer_than_the_limit_is_not_made() -> None:
    with serving(Counting((40, 50))) as server:
        api = backend(server.url, price="1,10", cost_limit=0.01)
        with pytest.raises(
            CostLimitError, match=r"0\.01 dollars is reached \(0 spent\): one more request may cost 0\.04"
        ):
            list(api.answer(QUESTIONS, Decoding(max_new_tokens=4096)))
        assert server.asked == 0  # type: ignore[attr-defined]


def test_what_was_lost_on_the_way_is_taken_for_paid() -> None:
    broken = {"raw": "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"}
    with serving(HostileServer(broken, "", "question")) as server:
        api = backend(server.url, price="1,10", cost_limit=0.0029, retries=9)
        with pytest.raises(BackendError):
            list(api.answer(QUESTIONS[:1], DECODING))
        assert 2 <= len(server.bodies) <= 5


def test_an_earlier_runs_spending_counts() -> None:
    with serving(Counting((40, 50))) as server:
        api = backend(server.url, price="1,10", cost_limit=0.01)
        api.recall([Usage(prompt_tokens=9_900, completion_tokens=0, estimated=True)])
        with pytest.raises(CostLimitError, match=r"0\.0099 spent"):
            list(api.answer(QUESTIONS, DECODING))
        assert server.asked == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "price", ["nan,1", "1,inf", "1e400,1", "-0.01,1", "1,2,3", "1", "", ",", "1e9,1", (1.0,), (1, "x")]
)
def test_prices_that_can_be_none_are_refused(price: object) -> None:
    with pytest.raises(ValueError, match="give PROMPT,RESPONSE in dollars a million tokens"):
        ApiOptions(url="http://localhost/v1", price=price)


@pytest.mark.parametrize("limit", [0, -1, math.nan, math.inf])
def test_a_limit_is_a_sum_of_money(limit: float) -> None:
    with pytest.raises(ValueError, match="cost_limit"):
        ApiOptions(url="http://localhost/v1", price="1,1", cost_limit=limit)


def test_what_a_refused_reply_counts_is_spent() -> None:
    choice = {"message": {"content": None}, "finish_reason": "content_filter"}
    filtered = {"json": {"choices": [choice], "usage": {"prompt_tokens": 9_000, "completion_tokens": 0}}}
    with serving(HostileServer(filtered, "", "question")) as server:
        api = backend(server.url, price="1,10", cost_limit=0.03)
        with pytest.raises(CostLimitError, match=r"\(0\.027 spent\)"):
            list(api.answer(QUESTIONS, DECODING, may_refuse=64))
        assert len(server.bodies) == 3
