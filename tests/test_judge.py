"""A judge model: its verdicts, its failures as states of their own, and that nothing is asked twice."""

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from judge_server import JudgeServer, Reply, sensible, serving
from local_server import nobody
from runs import wait_until

from avar_eval.errors import UsageError
from avar_eval.judge.model import JudgeModel, judge_from_options
from avar_eval.judge.prompts import UnusableReplyError, read_comparison, read_extraction
from avar_eval.judge.replies import JudgeReplies, RepliesError
from avar_eval.judge.verdict import Question, judge_responses
from avar_eval.outcomes import JudgeOutcome

RIGHT = Question("How many jars?", "7", "There are 7", cut=False)
WRONG = Question("How many jars?", "7", "There are 8", cut=False)
SPELT = Question("How many jars?", "7", "There are 7.", cut=False)


def model(server: JudgeServer, **patience: float) -> JudgeModel:
    return JudgeModel("judge", server.url, **{"rate": 1000.0, "wait": 0.01, "timeout": 5.0, **patience})  # type: ignore[arg-type]


@pytest.fixture
def replies(tmp_path: Path) -> Path:
    return tmp_path / "judge.jsonl"


def test_right_wrong_and_no_answer(replies: Path) -> None:
    silent = Question("How many jars?", "7", "", cut=False)
    cut = Question("How many jars?", "7", "<think> 7", cut=True)
    with serving() as server:
        outcomes = judge_responses([RIGHT, WRONG, SPELT, silent, cut], model(server), replies)
        assert outcomes == [
            JudgeOutcome("scored", "7", True),
            JudgeOutcome("scored", "8", False),
            JudgeOutcome("scored", "7.", True),
            JudgeOutcome("unparsed", None, False),
            JudgeOutcome("truncated", None, False),
        ]
        assert not any("<think>" in prompt for prompt in server.asked), "a cut thought is not shown to the judge"
        assert server.keys == {"Bearer none"}


def test_the_extraction_does_not_see_the_gold_answer(replies: Path) -> None:
    with serving() as server:
        judge_responses([Question("How many?", "4711", "It is 9", cut=False)], model(server), replies)
        (extraction,) = (prompt for prompt in server.asked if "Final answer: " in prompt)
        assert "4711" not in extraction


def test_the_same_questions_again_are_not_asked(replies: Path) -> None:
    with serving() as server:
        first = judge_responses([RIGHT, WRONG], model(server), replies)
        asked = server.asked.total()
        assert judge_responses([WRONG, RIGHT], model(server), replies) == first[::-1]
        assert server.asked.total() == asked
        judge_responses([RIGHT], JudgeModel("another", server.url, wait=0.01), replies)
        assert server.asked.total() == asked + 1, "another judge's replies are its own"


@pytest.mark.parametrize(
    "garbage",
    ["", "I think it is fine.", "Final answer:", "Final answer: " + "so " * 400, "MAYBE"],
    ids=["empty", "chat", "no answer", "reasoning", "maybe"],
)
def test_garbage_is_no_verdict(replies: Path, capsys: pytest.CaptureFixture[str], garbage: str) -> None:
    with serving(lambda prompt, count: garbage) as server:
        (outcome,) = judge_responses([RIGHT], model(server), replies)
        assert outcome == JudgeOutcome("judge_error", None, None)
        assert server.asked.total() == 2, "asked once more for a reply of the right form"
    assert "no verdict on 1 of 1 responses (judge_error)" in capsys.readouterr().err
    with serving() as server:
        assert judge_responses([RIGHT], model(server), replies) == [JudgeOutcome("scored", "7", True)]


@pytest.mark.parametrize(
    "body", ["<html>gateway</html>", "{", "null", '{"choices": []}', '{"choices": [{"message": null}]}']
)
def test_what_is_no_completion_is_a_judge_error(replies: Path, body: str) -> None:
    with serving(lambda prompt, count: (200, body, {})) as server:
        assert judge_responses([RIGHT], model(server), replies)[0].state == "judge_error"
    with serving(lambda prompt, count: (200, body, {"Content-Type": "text/html"})) as server:
        assert judge_responses([RIGHT], model(server), replies)[0].state == "judge_error"


def test_a_busy_server_is_asked_again_when_it_says(replies: Path) -> None:
    def busy_at_first(prompt: str, count: int) -> Reply:
        return (429, "{}", {"Retry-After": "0.3"}) if count == 1 else sensible(prompt, count)

    with serving(busy_at_first) as server:
        start = time.monotonic()
        assert judge_responses([RIGHT], model(server), replies) == [JudgeOutcome("scored", "7", True)]
        assert time.monotonic() - start >= 0.3
        assert set(server.asked.values()) == {2}


def test_a_failing_server_is_asked_a_bounded_number_of_times(replies: Path) -> None:
    with serving(lambda prompt, count: (500, "{}", {})) as server:
        (outcome,) = judge_responses([RIGHT], model(server, attempts=3), replies)
        assert (outcome.state, outcome.correct) == ("judge_error", None)
        assert server.asked.total() == 3


def test_a_wrong_key_is_not_tried_again(replies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda prompt, count: (401, '{"error": {"message": "no such key"}}', {})) as server:
        assert judge_responses([RIGHT], model(server), replies)[0].state == "judge_error"
        assert server.asked.total() == 1
    assert "no such key" in capsys.readouterr().err


def test_a_dead_server_is_given_up(replies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions = [Question("How many?", "7", f"There are {n}", cut=False) for n in range(300)]
    with nobody() as address:
        judge = JudgeModel("judge", f"http://{address}/v1", rate=1000.0, wait=0.01, attempts=2)
        start = time.monotonic()
        outcomes = judge_responses(questions, judge, replies)
    assert {outcome.state for outcome in outcomes} == {"judge_error"}
    assert time.monotonic() - start < 30
    assert "300 of 300" in capsys.readouterr().err


def test_a_server_that_never_answers_is_timed_out(replies: Path) -> None:
    def asleep(prompt: str, count: int) -> Reply:
        time.sleep(1)
        return "SAME"

    with serving(asleep) as server:
        (outcome,) = judge_responses([RIGHT], model(server, timeout=0.1, attempts=1), replies)
        assert outcome.state == "judge_error"


def test_requests_are_paced(replies: Path) -> None:
    questions = [Question("How many?", str(n), f"There are {n}", cut=False) for n in range(6)]
    with serving() as server:
        start = time.monotonic()
        judge_responses(questions, model(server, rate=10.0), replies)
        assert time.monotonic() - start >= 0.5, "six requests start at 0, 0.1, … 0.5 seconds"


PROGRAM = """
import sys
from pathlib import Path
from avar_eval.judge.model import JudgeModel
from avar_eval.judge.verdict import Question, judge_responses
questions = [Question("How many?", str(n), f"There are {n}", cut=False) for n in range(40)]
judge_responses(questions, JudgeModel("judge", sys.argv[1], rate=1000.0, workers=2), Path(sys.argv[2]))
"""


def test_killed_and_resumed_asks_nothing_twice(replies: Path) -> None:
    killed = threading.Event()

    def silent_after_twelve(prompt: str, count: int) -> Reply:
        if len(server.asked) > 12:
            killed.wait(900)  # longer than the test waits for the twelve
        return sensible(prompt, count)

    with serving(silent_after_twelve) as server:
        running = subprocess.Popen([sys.executable, "-c", PROGRAM, server.url, str(replies)], cwd=replies.parent)
        wait_until(lambda: replies.exists() and replies.read_bytes().count(b"\n") >= 12, "twelve replies are kept")
        running.send_signal(signal.SIGKILL)
        running.wait()
        killed.set()
        kept = replies.read_bytes()
        assert kept.count(b"\n") == 12
        replies.write_bytes(kept + b'{"key": "torn')
        questions = [Question("How many?", str(n), f"There are {n}", cut=False) for n in range(40)]
        outcomes = judge_responses(questions, model(server, workers=2), replies)
        assert outcomes == [JudgeOutcome("scored", str(n), True) for n in range(40)]
        assert replies.read_bytes().startswith(kept)
        twice = [prompt for prompt, count in server.asked.items() if count > 1]
        assert len(twice) <= 2, "only what was on its way when the run was killed"


def test_a_damaged_file_of_replies_is_named_and_stays(replies: Path) -> None:
    replies.write_text('{"key": "a", "reply": "b"}\nnonsense\n')
    with pytest.raises(RepliesError, match=r"judge\.jsonl, line 2 is not a judge's reply"):
        JudgeReplies(replies, "judge")
    assert replies.read_text() == '{"key": "a", "reply": "b"}\nnonsense\n'


def test_what_no_request_can_carry_is_replaced(replies: Path) -> None:
    row = {"question": "How many?", "query": "Hint: h\nQuestion: \ud800?", "answer": "7"}
    with serving() as server:
        question = Question.of("mathvista", row, "It is \ud800 7", "scored")
        assert judge_responses([question], model(server), replies) == [JudgeOutcome("scored", "7", True)]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("Final answer: 7 cm", "7 cm"),
        ("**Final answer:** (B) blue", "(B) blue"),
        ("<think>Final answer: 3</think>\nFinal answer: 4", "4"),
        ("final answer: None.", None),
        ("Final answer: [NONE]", None),
    ],
)
def test_replies_are_read(reply: str, expected: str | None) -> None:
    assert read_extraction(reply) == expected


@pytest.mark.parametrize(
    ("reply", "expected"), [("SAME", True), ("**Different**.", False), ("<think></think>same", True)]
)
def test_comparisons_are_read(reply: str, expected: bool) -> None:
    assert read_comparison(reply) is expected


@pytest.mark.parametrize("reply", ["NOT THE SAME", "SAME or DIFFERENT", "", "yes"])
def test_a_comparison_of_another_form_is_none(reply: str) -> None:
    with pytest.raises(UnusableReplyError):
        read_comparison(reply)


@pytest.fixture
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.mark.usefixtures("_no_key")
def test_options_make_a_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge_from_options(None, None, None, 10) is None
    judge = judge_from_options("m", "http://localhost:1/v1", None, 10)
    assert judge is not None
    assert judge.key == "none"
    monkeypatch.setenv("MY_KEY", "secret")
    judge = judge_from_options("m", "http://localhost:1/v1", "MY_KEY", 10)
    assert judge is not None
    assert judge.key == "secret"
    assert "secret" not in json.dumps(judge.identity())


@pytest.mark.usefixtures("_no_key")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("m", None, None), "both --judge MODEL and --judge-url"),
        ((None, "http://x", None), "both --judge MODEL and --judge-url"),
        (("m", "localhost:8000", None), "--judge-url: the URL must begin with http"),
        (("m", "http://user:secret@host/v1", None), "--judge-url: the URL must not hold a key or a password"),
        (("m", "http://x", "NOT_SET"), "NOT_SET, and that environment variable is not set"),
    ],
)
def test_options_that_do_not_fit(options: tuple[str | None, str | None, str | None], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        judge_from_options(*options, 10)
