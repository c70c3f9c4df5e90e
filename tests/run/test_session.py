"""A session without any benchmark: questions of one's own, judged once, measured, refused, asked again."""

import doctest
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from runs import records_of

from avar_eval import evaluate
from avar_eval.answers import GRADER, FinishReason, Judgement, judge_answer
from avar_eval.errors import UsageError
from avar_eval.models.backend import BackendError
from avar_eval.records.book import RecordBook
from avar_eval.run import session as session_module
from avar_eval.run.questions import Judging, Question, user_turn
from avar_eval.run.session import Session
from avar_eval.tasks.catalog import task_hooks

COLOURS = ("red", "green", "blue", "white")


def test_the_docstring_s_example_runs(tmp_path: Path) -> None:
    (example,) = [test for test in doctest.DocTestFinder().find(session_module) if test.examples]
    example.globs["folder"] = tmp_path
    result = doctest.DocTestRunner().run(example)
    assert result.attempted > 5
    assert result.failed == 0


class Judge:
    """Judges by one rule, and keeps count of what it has judged."""

    def __init__(self) -> None:
        self.judged: list[tuple[str, str]] = []

    def __call__(self, row: Mapping[str, Any], response: str, finish_reason: FinishReason | None) -> Judgement:
        self.judged.append((row["answer"], response))
        return judge_answer(response, answer=row["answer"], kind="text", finish_reason=finish_reason)


def questions(judge: Judge | None = None, grader: str | None = GRADER, **more: Any) -> list[Question]:
    """Which colour each of some squares has."""
    return [
        Question(
            colour,
            partial(user_turn, "Which colour is the square?", Image.new("RGB", (56, 56), colour)),
            judging=None if judge is None else Judging(judge, partial(dict, answer=colour), grader),
            **more,
        )
        for colour in COLOURS
    ]


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Session]:
    return partial(Session.of, "avar-tiny", tmp_path, max_new_tokens=12, batch_size=3)


def test_a_response_is_judged_once_and_again_by_another_grader_only(
    opened: Callable[..., Session], tmp_path: Path
) -> None:
    judge = Judge()
    with opened() as session:
        first = session.ask(questions(judge))
    assert judge.judged == [(record.row_id, record.response) for record in sorted_by_book(tmp_path, first.records)]
    assert len(judge.judged) == 4
    with opened() as session:
        assert session.ask(questions(judge)) == first
    assert len(judge.judged) == 4, "recorded judgements of today's grader stay"
    before = (tmp_path / "records.jsonl").read_bytes()
    with opened() as session:
        assert session.ask(questions(judge, "strict-of-tomorrow")).records == first.records
        assert session.ask(questions(judge, None)).records == first.records
    assert len(judge.judged) == 12, "one pass for another version, one for an unknown one"
    assert (tmp_path / "records.jsonl").read_bytes() == before, "the same judgement is not written again"


def test_what_a_session_cannot_do_is_refused_with_what_to_do(opened: Callable[..., Session]) -> None:
    with pytest.raises(UsageError, match=r"limit: a session asks the questions that it is given, `avar_eval\.ev"):
        opened(limit=3)
    with opened() as session:
        pass
    with pytest.raises(UsageError, match="this session is closed: open another one"):
        session.ask(questions())


def sorted_by_book(folder: Path, records: Sequence[Any]) -> list[Any]:
    order = [record["key"] for record in records_of(folder)]
    return sorted(records, key=lambda record: order.index(record.key))


def test_a_run_judges_each_response_once_and_a_resumed_one_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVAR_LEADERBOARD", str(tmp_path / "board"))
    hooks = task_hooks("shapes")
    rule, judged = hooks.judge, []

    def counted(row: Mapping[str, Any], response: str, finish_reason: FinishReason | None = None) -> Judgement:
        judged.append(response)
        found: Judgement = rule(row, response, finish_reason)
        return found

    monkeypatch.setattr(hooks, "judge", counted)
    asked: dict[str, Any] = {"limit": 5, "samples": 2, "temperature": 2.0, "max_new_tokens": 12}
    results = evaluate("avar-tiny", "shapes", output=tmp_path, **asked)
    assert sorted(judged) == sorted(record["response"] for record in records_of(tmp_path))
    assert len(judged) == 10
    book = tmp_path / "records.jsonl"
    assert evaluate("avar-tiny", "shapes", output=tmp_path, **asked).tasks == results.tasks
    assert len(judged) == 10
    older = book.read_text().replace(f'"grader":"{GRADER}"', '"grader":"strict-0"', 3)
    book.write_text(older)
    assert evaluate("avar-tiny", "shapes", output=tmp_path, **asked).tasks == results.tasks
    assert len(judged) == 13


def test_a_corrected_gold_answer_judges_recorded_responses_anew(opened: Callable[..., Session], tmp_path: Path) -> None:
    judge = Judge()

    def corrected(to: str) -> list[Question]:
        return [
            replace(one, judging=Judging(judge, partial(dict, answer=to), GRADER), reference=lambda: to)
            if one.row_id == "green"
            else replace(one, reference=partial(str, one.row_id))
            for one in questions(judge)
        ]

    with opened() as session:
        first = session.ask(corrected("green"))
        assert [record.reference for record in first.records] == list(COLOURS)
        second = session.ask(corrected("a circle"))
    assert judge.judged[4:] == [("a circle", first.records[1].response)]
    assert [record.reference for record in second.records] == ["red", "a circle", "blue", "white"]
    with opened() as session:
        assert session.ask(corrected("a circle")).records == second.records
    assert len(judge.judged) == 5
    assert len(records_of(tmp_path)) == 4


def test_a_batch_that_was_begun_judges_the_rest_of_it_only(opened: Callable[..., Session], tmp_path: Path) -> None:
    judge = Judge()
    with opened() as session:
        first = session.ask(questions(judge))
    whole = (tmp_path / "records.jsonl").read_bytes()
    (tmp_path / "records.jsonl").write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    judge.judged.clear()
    with opened() as session:
        assert session.ask(questions(judge)) == first
    assert len(judge.judged) == 2
    assert (tmp_path / "records.jsonl").read_bytes() == whole


def test_without_a_judge_nothing_is_judged_and_what_was_judged_is_not_told(opened: Callable[..., Session]) -> None:
    with opened() as session:
        assert all(record.judgement for record in session.ask(questions(Judge())).records)
        assert not any(record.judgement for record in session.ask(questions()).records)


def test_samples_are_drawn_apart_and_attention_is_measured_when_it_is_asked_for(
    opened: Callable[..., Session],
) -> None:
    with opened(temperature=4.0) as session:
        drawn = session.ask([*questions(measured=False), *questions(sample=1, measured=False)])
        assert [record.sample for record in drawn.records] == [0] * 4 + [1] * 4
        assert len({record.response for record in drawn.records}) > 4
        assert not any(record.attention for record in drawn.records)
        measured = session.ask(questions())
    assert [record.response for record in measured.records] == [record.response for record in drawn.records[:4]]
    assert all(record.attention and record.attention.user for record in measured.records)


def test_what_cannot_be_read_is_refused_by_name_and_the_rest_answered(opened: Callable[..., Session]) -> None:
    video = [{"role": "user", "content": [{"type": "video", "video": "a.mp4"}]}]
    markup = user_turn("<|im_end|>", Image.new("RGB", (56, 56)))
    bad = Question("7", lambda: video, task="mine")
    with opened() as session:
        found = session.ask([*questions(task="mine"), bad])
        assert [record is None for record in found.by_question] == [False] * 4 + [True]
        assert found.refused == {
            "mine": {"7": "row 7 of mine has a video, a sound or a picture's address: not a picture"}
        }
        assert found.of_task("mine") == found.records
        assert session.ask(questions(task="mine")).refused == {}, "refusals are those of one call"
        with pytest.raises(BackendError, match="2 questions are refused, the last one: its text holds"):
            session.ask([*questions(), bad, Question("8", lambda: markup)])


def test_steering_changes_between_questions_and_with_it_the_record(opened: Callable[..., Session]) -> None:
    from avar_eval.attention.steering import parse_steering

    with opened() as session:
        plain = session.ask(questions())
        session.steer(parse_steering("avar"))
        steered = session.ask(questions())
        session.steer(None)
        assert session.ask(questions()) == plain
    assert {record.key for record in plain.records}.isdisjoint(record.key for record in steered.records)


def test_only_a_backend_of_ours_changes_its_steering(tmp_path: Path) -> None:
    options = {"url": "http://127.0.0.1:9/v1"}
    with (
        Session.of("served", tmp_path, backend="api", backend_options=options) as session,
        pytest.raises(UsageError, match="api cannot change how it steers"),
    ):
        session.steer(None)


def test_a_session_holds_its_folder_until_it_is_closed(opened: Callable[..., Session], tmp_path: Path) -> None:
    session = opened()
    with pytest.raises(Exception, match="another run is writing"):
        RecordBook(tmp_path)
    session.close()
    RecordBook(tmp_path).close()
