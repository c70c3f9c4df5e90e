"""The api backend against an endpoint on this machine: what it sends, how patient it is, what it never does twice."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from endpoint import KEY, Endpoint, pictures, served
from local_server import nobody
from PIL import Image, ImageChops
from rendered import Question
from runs import Finished, Server, records_of, wait_for_records, wait_until

from avar_eval.errors import AvarError, UsageError
from avar_eval.models.api_backend import ApiBackend, served_model
from avar_eval.models.backend import BackendError, Generation, Refusal
from avar_eval.models.backend_options import ApiOptions
from avar_eval.models.decoding import Decoding
from avar_eval.models.registry import get_model
from avar_eval.models.spending import CostLimitError
from avar_eval.records.record import Usage

QUESTIONS = 24
GREEDY = Decoding(max_new_tokens=50)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """A friendly endpoint; its key is in the environment."""
    monkeypatch.setenv("TEST_KEY", KEY)
    with served(Endpoint()) as endpoint:
        yield endpoint


def backend(endpoint: Endpoint, **options: object) -> ApiBackend:
    given = {"url": endpoint.url, "key_env": "TEST_KEY", "first_wait": 0.01} | options
    return ApiBackend(served_model("served", None), ApiOptions(**given))


def asked(endpoint: Endpoint, n: int) -> list[Question]:
    return [Question(backend(endpoint).render([{"role": "user", "content": f"question {i}"}])) for i in range(n)]


def test_pictures_arrive_as_they_are_and_in_their_place(endpoint: Endpoint) -> None:
    first, second = Image.new("RGB", (31, 17), "teal"), Image.effect_noise((8, 8), 90).convert("RGB")
    content = [
        {"type": "image", "image": first},
        {"type": "text", "text": "and"},
        {"type": "image", "image": second},
        {"type": "text", "text": "differ how?"},
    ]
    system = {"role": "system", "content": [{"type": "text", "text": "Grüße."}]}
    api = backend(endpoint)
    prompt = api.render([system, {"role": "user", "content": content}])
    ((number, generation),) = api.answer([Question(prompt, pictures=[first, second])], GREEDY)
    assert number == 0
    (body,) = endpoint.bodies
    assert body["messages"][0] == {"role": "system", "content": "Grüße."}
    assert [part["type"] for part in body["messages"][1]["content"]] == ["image_url", "text", "image_url", "text"]
    for sent, original in zip(pictures(body), (first, second), strict=True):
        assert ImageChops.difference(sent, original).getbbox() is None
    assert generation.text.startswith("<think>hm</think>")
    assert (generation.prompt_token_ids, generation.token_ids) == ([], [])
    assert generation.usage == Usage(prompt_tokens=1000, completion_tokens=100)


def test_the_decoding_specification_arrives(endpoint: Endpoint) -> None:
    decoding = Decoding(
        temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.1, max_new_tokens=9, seed=3, stop=("</answer>",)
    )
    one, other = asked(endpoint, 1)[0], Question("[]", key="ab" * 32)
    list(backend(endpoint).answer([one], GREEDY))
    list(backend(endpoint).answer([one, other, one], decoding))
    greedy, *drawn = endpoint.bodies
    assert greedy.keys() == {"model", "messages", "temperature", "max_tokens"}
    assert (greedy["temperature"], greedy["max_tokens"]) == (0.0, 50)
    for body in drawn:
        assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.7, 0.8, 9)
        assert (body["top_k"], body["repetition_penalty"], body["stop"]) == (20, 1.1, ["</answer>"])
    assert len({body["seed"] for body in drawn}) == 2, "each question has a stream of its own"


@pytest.mark.parametrize(("finish_reason", "expected"), [("stop", "stop"), ("length", "length")])
def test_why_a_response_ended_is_kept(endpoint: Endpoint, finish_reason: str, expected: str) -> None:
    endpoint.finish_reason = finish_reason
    ((_, generation),) = backend(endpoint).answer(asked(endpoint, 1), GREEDY)
    assert generation.finish_reason == expected


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thoughts_in_a_field_of_their_own_are_put_back(endpoint: Endpoint, name: str) -> None:
    endpoint.thoughts = {name: "two and two"}
    ((_, generation),) = backend(endpoint).answer(asked(endpoint, 1), GREEDY)
    assert generation.text == "<think>two and two</think><answer>4</answer>"


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"<html>502 Bad Gateway</html>",
        b"null",
        b"[]",
        b'{"choices": []}',
        b'{"choices": "text"}',
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": "text"}]}',
        b'{"choices": [{"message": {"content": "cut of',
    ],
)
def test_what_is_no_chat_completion_is_one_message_that_shows_it(endpoint: Endpoint, reply: bytes) -> None:
    endpoint.garbage = reply
    with pytest.raises(BackendError, match="is it OpenAI-compatible") as caught:
        list(backend(endpoint).answer(asked(endpoint, 1), GREEDY))
    assert (reply[:20].decode(errors="replace") or "sent no chat completion but nothing") in str(caught.value)


def test_usage_without_numbers_is_not_counted(endpoint: Endpoint) -> None:
    endpoint.garbage = b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": null}}'
    ((_, generation),) = backend(endpoint).answer(asked(endpoint, 1), GREEDY)
    assert (generation.text, generation.usage) == ("x", None)


def test_many_are_under_way_and_no_more_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    with served(Endpoint(together=5)) as endpoint:
        answers = dict(backend(endpoint, concurrency=5).answer(asked(endpoint, 20), GREEDY))
    assert sorted(answers) == list(range(20))
    assert endpoint.most_at_once == 5


def test_a_rate_limit_is_kept(endpoint: Endpoint) -> None:
    start = time.monotonic()
    list(backend(endpoint, requests_per_minute=600).answer(asked(endpoint, 6), GREEDY))
    assert endpoint.begun[-1] - start >= 0.5, "six requests at ten a second"


def test_a_busy_server_is_asked_again_until_it_answers(endpoint: Endpoint) -> None:
    endpoint.busy = 7
    answers = dict(backend(endpoint, concurrency=4).answer(asked(endpoint, 4), GREEDY))
    assert sorted(answers) == [0, 1, 2, 3]
    assert len(endpoint.bodies) == 4 + 7


def test_the_wait_is_no_shorter_than_the_server_says(endpoint: Endpoint) -> None:
    endpoint.busy, endpoint.retry_after = 1, "1"
    start = time.monotonic()
    list(backend(endpoint).answer(asked(endpoint, 1), GREEDY))
    assert time.monotonic() - start >= 1


def test_a_server_that_wants_a_long_rest_is_not_waited_for(endpoint: Endpoint) -> None:
    endpoint.busy, endpoint.retry_after = 9, "3600"
    start = time.monotonic()
    with pytest.raises(BackendError, match="asks to be left alone for 3600 s: Rate limit reached"):
        list(backend(endpoint).answer(asked(endpoint, 1), GREEDY))
    assert time.monotonic() - start < 10


def test_waits_that_a_server_asks_for_again_and_again_have_an_end(endpoint: Endpoint) -> None:
    endpoint.busy, endpoint.retry_after = 99, "0.4"
    start = time.monotonic()
    with pytest.raises(BackendError, match="Rate limit reached; what is answered is kept"):
        list(backend(endpoint, timeout=1, retries=50).answer(asked(endpoint, 1), GREEDY))
    assert time.monotonic() - start < 10
    assert len(endpoint.bodies) == 4


@pytest.mark.parametrize("status", [500, 503])
def test_a_failing_server_is_given_up_after_the_retries_and_the_answers_are_kept(
    endpoint: Endpoint, status: int
) -> None:
    endpoint.broken, endpoint.broken_from = status, 3
    kept = []
    with pytest.raises(BackendError, match=r"refuses a request: out of order; what is answered is kept"):
        kept.extend(backend(endpoint, concurrency=1, retries=2).answer(asked(endpoint, 9), GREEDY))
    assert [number for number, _ in kept] == [0, 1, 2]
    assert len(endpoint.bodies) == 3 + 3, "one question more, three times, and none after it"


def test_a_refusal_is_not_repeated(endpoint: Endpoint) -> None:
    endpoint.broken = 400
    with pytest.raises(BackendError, match="refuses a request: out of order"):
        list(backend(endpoint, concurrency=1).answer(asked(endpoint, 5), GREEDY))
    assert len(endpoint.bodies) == 1


def test_refused_questions_do_not_keep_the_others_from_being_answered(endpoint: Endpoint) -> None:
    endpoint.refused = {2, 5}
    answers = dict(backend(endpoint, concurrency=1).answer(asked(endpoint, 6), GREEDY, may_refuse=2))
    refused = Refusal(f"{endpoint.url} refuses a request: not this one")
    assert {number for number, answer in answers.items() if answer == refused} == {1, 4}
    assert sum(isinstance(answer, Generation) for answer in answers.values()) == 4


def test_more_refusals_than_may_be_stop_the_run_and_are_counted(endpoint: Endpoint) -> None:
    endpoint.refused = {1, 2, 3}
    with pytest.raises(BackendError, match=r"2 questions are refused, the last one: .*not this one; what is answered"):
        list(backend(endpoint, concurrency=1).answer(asked(endpoint, 6), GREEDY, may_refuse=1))
    assert len(endpoint.bodies) == 2


def test_a_bad_key_is_one_message_without_the_key(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "wrong-secret")
    with pytest.raises(BackendError, match=r"refuses the key in \$TEST_KEY: Incorrect API key") as caught:
        list(backend(endpoint).answer(asked(endpoint, 5), GREEDY))
    assert "wrong-secret" not in str(caught.value)


def test_a_server_that_is_not_there_is_one_message() -> None:
    with nobody() as address:
        url = f"http://{address}/v1"
        dead = ApiBackend(served_model("served", None), ApiOptions(url=url, retries=2, first_wait=0.01))
        with pytest.raises(BackendError, match=rf"{url} cannot be reached: .*; what is answered is kept"):
            list(dead.answer([Question("[]")], GREEDY))


def test_a_slow_answer_is_given_up(endpoint: Endpoint) -> None:
    endpoint.delay = 2
    with pytest.raises(BackendError, match=r"did not answer within 0\.2 s"):
        list(backend(endpoint, timeout=0.2, retries=1).answer(asked(endpoint, 1), GREEDY))


def test_another_path_is_not_the_endpoint(endpoint: Endpoint) -> None:
    endpoint.url = endpoint.url.removesuffix("/v1")
    with pytest.raises(BackendError, match="has no model 'served', or is not the endpoint"):
        list(backend(endpoint).answer([Question("[]")], GREEDY))


def test_a_model_that_may_be_retired_is_said_to_be_where_it_is_not_found(endpoint: Endpoint) -> None:
    claude = get_model("claude-3.7-sonnet")
    endpoint.url = endpoint.url.removesuffix("/v1")
    gone = ApiBackend(served_model(claude.name, claude), ApiOptions(url=endpoint.url, retries=0))
    retired = (
        r"has no model 'claude-3-7-sonnet-20250219', or .*; Anthropic retires models, and may have retired this one"
    )
    with pytest.raises(BackendError, match=retired):
        list(gone.answer([Question("[]")], GREEDY))


def test_no_more_is_spent_than_the_limit_and_what_is_under_way(endpoint: Endpoint) -> None:
    # 1,000 tokens at 1 dollar and 100 at 10 dollars a million: 0.002 dollars a question
    api = backend(endpoint, price="1,10", cost_limit=0.01, concurrency=1)
    api.recall([Usage(prompt_tokens=1000, completion_tokens=100)] * 2)
    kept = []
    with pytest.raises(CostLimitError, match=r"0\.01 dollars is reached \(0\.01 spent\)"):
        kept.extend(api.answer(asked(endpoint, 9), GREEDY))
    assert len(kept) == len(endpoint.bodies) == 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "--backend api needs --api-url"),
        ({"url": "localhost:8000"}, "must begin with http"),
        ({"url": "http://user:password@localhost/v1"}, "must not hold a key or a password"),
        ({"url": "http://localhost/v1", "cost_limit": 5}, "needs the prices"),
        (
            {"url": "http://localhost/v1", "price": "5"},
            r"option price: give PROMPT,RESPONSE in dollars a million tokens, such as 2\.5,10, not '5'",
        ),
        ({"url": "http://localhost/v1", "price": "-1,2"}, "option price: give PROMPT,RESPONSE"),
        ({"url": "http://localhost/v1", "price": "1,much"}, "option price: give PROMPT,RESPONSE"),
        ({"url": "http://localhost/v1", "tensor_parallel": 2}, "--tensor-parallel is an option of --backend vllm"),
        ({"url": "http://localhost/v1", "key_env": "NO_SUCH_KEY"}, "NO_SUCH_KEY holds no key"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], expected: str, tmp_path: Path) -> None:
    from avar_eval.run.session import Session

    with pytest.raises(UsageError, match=expected) as caught:
        Session.of("served", tmp_path, backend="api", backend_options=options)
    assert isinstance(caught.value, AvarError)
    assert "password@" not in str(caught.value)


Run = Callable[..., Finished]


def command(endpoint: Endpoint, output: Path, *options: str) -> tuple[str, ...]:
    asked = ("--model", "served", "--backend", "api", "--api-url", endpoint.url, "--api-key-env", "TEST_KEY")
    return (*asked, "--tasks", "shapes", "--limit", str(QUESTIONS), "--output", str(output), *options)


def test_a_killed_run_asks_no_question_twice(server: Server, endpoint: Endpoint, tmp_path: Path) -> None:
    output = tmp_path / "run"
    for answered, recorded in ((4, 4), (8, 12)):
        endpoint.silent_from = whole = len(endpoint.bodies) + answered
        run = server.start(*command(endpoint, output, "--api-concurrency", "2"), TEST_KEY=KEY)
        wait_for_records(output, recorded)
        wait_until(lambda: len(endpoint.bodies) == whole + 2, "two requests under way")  # noqa: B023
        run.kill()
    before = records_of(output)
    assert len(before) == 12
    sent, endpoint.silent_from = len(endpoint.bodies), None
    finished = server.start(*command(endpoint, output), TEST_KEY=KEY).wait()
    assert finished.code == 0, finished.stderr
    records = records_of(output)
    assert records[: len(before)] == before
    assert len({record["key"] for record in records}) == len(records) == QUESTIONS
    assert len(endpoint.bodies) - sent == QUESTIONS - len(before), "what is recorded is not asked again"
    results = json.loads((output / "results.json").read_text())
    assert results["tasks"]["shapes"]["metrics"]["accuracy"]["n"] == QUESTIONS
    assert results["tasks"]["shapes"]["metrics"]["vas"] == {"value": None, "ci95": None, "n": 0}
    assert results["protocol"]["backend"] == {"backend": "api", "url": endpoint.url, "model": "served"}
    assert results["protocol"]["weights_sha256"] is None
    assert "VAS is not available through an API" in finished.stdout
    assert KEY not in (output / "results.json").read_text() + (output / "records.jsonl").read_text()


def test_what_was_answered_before_the_server_broke_is_kept(avar_eval: Run, endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.broken, endpoint.broken_from = 401, 5
    stopped = avar_eval(*command(endpoint, tmp_path, "--api-concurrency", "1"), TEST_KEY=KEY)
    assert stopped.code == 1
    assert "refuses the key in $TEST_KEY" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert len(records_of(tmp_path)) == 5


def test_a_refused_question_is_left_out_and_asked_again(avar_eval: Run, endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.refused = {3}
    for _ in range(2):
        done = avar_eval(*command(endpoint, tmp_path, "--api-concurrency", "1"), TEST_KEY=KEY)
        assert done.code == 0, done.stderr
        task = json.loads((tmp_path / "results.json").read_text())["tasks"]["shapes"]
        if not endpoint.refused:
            break
        assert task["metrics"]["accuracy"]["n"] == len(records_of(tmp_path)) == QUESTIONS - 1
        assert task["left_out"]["n"] == 1
        assert task["left_out"]["reason"] == f"{endpoint.url} refuses a request: not this one"
        assert "shapes: 1 row left out: http" in done.stdout
        assert f"warning: 1 of {QUESTIONS} questions are refused" in done.stderr
        endpoint.refused = set()
    assert task["left_out"]["n"] == 0
    assert task["metrics"]["accuracy"]["n"] == len(endpoint.bodies) - 1 == QUESTIONS
