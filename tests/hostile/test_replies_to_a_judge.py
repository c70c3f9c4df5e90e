"""A judge that sends anything: a verdict or a judge_error, never a traceback, never the key, never for ever."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hostile_server import KEY, WRITTEN, HostileServer, friendly, serving

from avar_eval.judge.model import JudgeModel
from avar_eval.judge.prompts import UnusableReplyError, read_comparison, read_extraction
from avar_eval.judge.verdict import Question, judge_questions, judge_responses
from avar_eval.outcomes import JudgeOutcome

TABLE: list[dict[str, Any]] = json.loads(Path(__file__).with_name("replies.json").read_text(encoding="utf-8"))
READ: list[dict[str, Any]] = json.loads(Path(__file__).with_name("judge_replies.json").read_text(encoding="utf-8"))
RIGHT, TROUBLE = Question("How many?", "4", "It is 4", cut=False), Question("Any trouble?", "4", "It is 4", cut=False)
NUMBER = Question("How many?", "4", "It is four", cut=False)


def model(server: HostileServer, **more: Any) -> JudgeModel:
    return JudgeModel("judge", server.url, KEY, **{"rate": 1000, "wait": 0.01, "attempts": 2, "timeout": 30} | more)


@pytest.mark.parametrize("case", TABLE, ids=[case["name"] for case in TABLE])
def test_no_reply_ends_the_scoring(case: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    late = "did not answer" in case.get("says", "")
    replies = tmp_path / "judge.jsonl"
    with serving(HostileServer(case["reply"], friendly("Final answer: 4"), "trouble")) as server:
        judge = model(server, workers=1, **({"timeout": 1} if late else {}))
        trouble, right = judge_responses([TROUBLE, RIGHT], judge, replies)
    assert right == JudgeOutcome("scored", "4", True)
    assert trouble.state == "judge_error"
    shown = "".join(capsys.readouterr()) + replies.read_text()
    assert not [form for form in (KEY, *WRITTEN.values()) if form in shown]
    assert not set(shown) & set("\x1b\x07")
    assert replies.read_text().count("\n") == 1, "what is no verdict is asked again"


@pytest.mark.parametrize("case", READ, ids=[case["name"] for case in READ])
def test_a_verdict_of_any_shape_is_read(case: dict[str, Any], tmp_path: Path) -> None:
    reply = {"json": {"choices": [{"message": {"content": case["content"]}, "finish_reason": "stop"}]}}
    with serving(HostileServer(reply, friendly("Final answer: four"), case["of"])) as server:
        (outcome,) = judge_responses([NUMBER], model(server), tmp_path / "judge.jsonl")
    assert [outcome.state, outcome.extracted, outcome.correct] == case["right"]


LONG = ["\n" * 10**6, " " * 10**6, "*_" * 500_000, "final answer" * 80_000, "</think>" * 120_000, "\n#" * 500_000]


@pytest.mark.parametrize("filling", LONG, ids=["lines", "spaces", "marks", "labels", "thoughts", "headings"])
@pytest.mark.parametrize("end", ["", "Final answer: 4", "SAME"])
def test_a_megabyte_is_read_within_a_second(filling: str, end: str) -> None:
    start = time.thread_time()
    for read in (read_extraction, read_comparison):
        try:
            read(f"{filling}\n{end}")
        except UnusableReplyError as error:
            said = str(error)
            assert len(said) < 500
    assert time.thread_time() - start < 1


def test_a_judge_that_takes_no_limit_and_no_temperature_is_asked_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Newer(HostileServer):
        def send(self, connection: Any, reply: dict[str, Any]) -> None:
            for name in ("max_tokens", "temperature"):
                if name in self.bodies[-1]:
                    said = f"Unsupported parameter: '{name}' is not supported with this model."
                    reply = {"status": 400, "body": json.dumps({"error": {"message": said, "param": name}})}
            super().send(connection, reply)

    questions = [Question(f"How many of {n}?", "4", "It is 4", cut=False) for n in range(4)]
    with serving(Newer({}, friendly("Final answer: 4"), "never")) as server:
        _, changed = judge_questions(questions, model(server, workers=1), tmp_path / "judge.jsonl")
        assert len(server.bodies) == 2 + 4
        again = judge_questions(questions, model(server, workers=1), tmp_path / "judge.jsonl")[1]
        assert len(server.bodies) == 2 + 4
    refused = [body for body in server.bodies if {"max_tokens", "temperature"} & body.keys()]
    assert len(refused) == 2, "each is refused once, then remembered"
    assert server.bodies[-1].keys() == {"model", "messages", "max_completion_tokens"}
    assert changed == {
        "max_tokens": "sent as max_completion_tokens",
        "temperature": "left out: the server does not take it",
    }
    assert again == changed, "as the replies say that were not asked for again"
    assert model(server).identity(changed)["changed"] == changed


def test_a_dripping_judge_cannot_hold_the_scoring(tmp_path: Path) -> None:
    with serving(HostileServer({"made": "drip"}, "", "")) as server:
        start = time.monotonic()
        (outcome,) = judge_responses([RIGHT], model(server, timeout=0.5), tmp_path / "judge.jsonl")
        assert outcome.state == "judge_error"
        assert time.monotonic() - start < 10
