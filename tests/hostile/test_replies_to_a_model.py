"""The api backend against a server that sends anything: what is read, left out or stops the run, for a table of it."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asking import DECODING, GOOD, QUESTIONS, backend
from hostile_server import KEY, WRITTEN, HostileServer, friendly, serving

from avar_eval.models.backend import BackendError, Generation, Refusal

TABLE: list[dict[str, Any]] = json.loads(Path(__file__).with_name("replies.json").read_text(encoding="utf-8"))


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[HostileServer]:
    """Sends the reply of the case to the question with `trouble` in it."""
    with serving(HostileServer(request.param["reply"], friendly(GOOD), "trouble")) as server:
        yield server


def check_hidden(*texts: str) -> None:
    for text in texts:
        assert not [form for form in WRITTEN.values() if form in text]
        assert KEY.removeprefix("sk-") not in text


@pytest.mark.parametrize(
    ("case", "server"), [(case, case) for case in TABLE], ids=[case["name"] for case in TABLE], indirect=["server"]
)
def test_a_reply_is_read_left_out_or_stops_the_run(
    case: dict[str, Any], server: HostileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    late = "did not answer" in case.get("says", "")
    api, answers, problem = backend(server.url, timeout=1 if late else 30), {}, ""
    try:
        answers |= api.answer(QUESTIONS, DECODING, may_refuse=1)
    except BackendError as error:
        problem = str(error)
    asked = sum("trouble" in json.dumps(body["messages"]) for body in server.bodies)
    troubled = answers.get(1)
    says = case.get("says", "").replace("{other}", server.other)
    if case["state"] == "stopped":
        assert troubled is None
        assert says in problem
    else:
        assert problem == ""
        for number in (0, 2):
            assert isinstance(answers[number], Generation), "other questions are answered all the same"
            assert answers[number].text == GOOD
    if case["state"] == "refused":
        assert isinstance(troubled, Refusal), troubled
        assert says in troubled.reason
        assert len(troubled.reason) < 500
        assert "\n" not in troubled.reason
    if case["state"] == "answered":
        assert isinstance(troubled, Generation), troubled
        assert (troubled.text, troubled.finish_reason) == (case["text"], case["finish_reason"])
        if "usage" in case:
            assert troubled.usage == case["usage"]
        troubled.text.encode()
    assert asked == case.get("tries", asked)
    check_hidden(problem, repr(answers), *capsys.readouterr())


def test_the_table_has_every_end() -> None:
    assert {case["state"] for case in TABLE} == {"answered", "refused", "stopped"}
    assert len({case["name"] for case in TABLE}) == len(TABLE)


def test_a_body_comes_at_once_but_for_the_spaces_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avar_eval.endpoint.exchange._SECONDS_OF_A_BODY", 0.4)
    with serving(HostileServer({"made": "spaces_first", "body": friendly(GOOD)}, friendly(GOOD), "trouble")) as server:
        answers = dict(backend(server.url).answer(QUESTIONS, DECODING))
        assert [answer.text for answer in answers.values() if isinstance(answer, Generation)] == [GOOD] * 3
    with serving(HostileServer({"made": "drip"}, friendly(GOOD), "trouble")) as server:
        start = time.monotonic()
        answers = dict(backend(server.url, retries=9).answer(QUESTIONS, DECODING, may_refuse=1))
        assert isinstance(answers[1], Refusal)
        assert "took more than 0.4 s for the bytes of a reply" in answers[1].reason
        assert time.monotonic() - start < 10, "what takes too long is asked twice, not ten times"
