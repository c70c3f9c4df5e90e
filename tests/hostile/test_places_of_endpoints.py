"""Where questions go and where not: redirects, proxies, environment variables, URLs that hold secrets."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from asking import DECODING, GOOD, QUESTIONS, backend
from hostile_server import KEY, HostileServer, friendly, serving

from avar_eval.endpoint.url import check_url, key_for, token_limit_name
from avar_eval.errors import UsageError
from avar_eval.judge.model import JudgeModel
from avar_eval.judge.verdict import Question as Judged
from avar_eval.judge.verdict import judge_responses
from avar_eval.models.backend import BackendError
from avar_eval.models.registry import ApiSource


@pytest.fixture
def elsewhere() -> Iterator[HostileServer]:
    """A server that nobody has named."""
    with serving(HostileServer({}, friendly(GOOD), "never")) as server:
        yield server


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nothing_is_sent_where_a_redirect_leads(status: int, elsewhere: HostileServer, tmp_path: Path) -> None:
    moved = {"status": status, "headers": {"Location": elsewhere.url + "/chat/completions"}, "body": ""}
    with serving(HostileServer(moved, "", "")) as server:
        with pytest.raises(BackendError, match=f"redirects to {elsewhere.url}/chat/completions: nothing is sent there"):
            list(backend(server.url).answer(QUESTIONS, DECODING))
        judge = JudgeModel("judge", server.url, KEY, rate=1000, wait=0.01)
        (outcome,) = judge_responses([Judged("How many?", "4", "It is 4", cut=False)], judge, tmp_path / "judge.jsonl")
        assert outcome.state == "judge_error"
        assert len(server.bodies) == 2
    assert elsewhere.bodies == []


ENVIRONMENT = (
    ("OPENAI_BASE_URL", "{url}"),
    ("OPENAI_API_BASE", "{url}"),
    ("OPENAI_ORG_ID", "org-of-somebody"),
    ("OPENAI_PROJECT_ID", "project-of-somebody"),
    ("OPENAI_CUSTOM_HEADERS", "X-Secret: org-of-somebody"),
    ("OPENAI_API_KEY", "sk-of-another-place"),
    ("HTTP_PROXY", "{host}"),
    ("http_proxy", "{host}"),
    ("ALL_PROXY", "{host}"),
)


def test_no_variable_of_the_environment_sends_anything_elsewhere(
    elsewhere: HostileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRONMENT:
        monkeypatch.setenv(name, value.format(url=elsewhere.url, host=elsewhere.url.removesuffix("/v1")))
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password org-of-somebody")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with serving(HostileServer({}, friendly(GOOD), "never")) as server:
        assert len(list(backend(server.url).answer(QUESTIONS, DECODING))) == 3
        judge_responses(
            [Judged("How many?", "4", "It is 4", cut=False)],
            JudgeModel("judge", server.url, KEY, rate=1000, wait=0.01),
            tmp_path / "judge.jsonl",
        )
        assert len(server.heads) == 3 + 2
        for head in server.heads:
            assert f"Bearer {KEY}" in head
            assert "somebody" not in head
            assert "another-place" not in head
    assert elsewhere.bodies == []


def test_a_proxy_that_cannot_be_used_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://proxy.invalid")
    with pytest.raises(UsageError, match="the proxy that the environment names cannot be used"):
        list(backend("http://served.invalid/v1").answer(QUESTIONS, DECODING))


def test_cookies_are_not_kept() -> None:
    cookie = {"headers": {"Set-Cookie": "who=me; Path=/"}, "body": friendly(GOOD)}
    with serving(HostileServer(cookie, friendly(GOOD), "")) as server:
        assert len(list(backend(server.url).answer(QUESTIONS, DECODING))) == 3
        assert not [head for head in server.heads if "cookie" in head.lower()]


BAD_URLS = [
    "http://host/v1?api_key=sk-secret",
    "http://host/v1?",
    "http://host/v1#sk-secret",
    "http://user:sk-secret@host/v1",
    "http://sk-secret@host/v1",
    "http://@host/v1",
    "http://host:99999/v1",
    "http://host:port/v1",
    "http:///v1",
    "http://ho st/v1",
    "http://host/v1\n",
    "http://host/\x1b[2J",
    "ftp://host/v1",
    "file:///etc/passwd",
    "//host/v1",
    "host",
    "http://[",
    "",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_holds_a_place_and_nothing_else(url: str) -> None:
    with pytest.raises(ValueError, match="the URL must") as caught:
        check_url(url)
    assert "sk-secret" not in str(caught.value)
    with pytest.raises(ValueError, match="the URL must"):
        ApiSource(url=url, model="m")


@pytest.mark.parametrize(
    "url", ["http://localhost:8000/v1", "https://api.openai.com/v1/", "http://[::1]:80/v1", "http://a"]
)
def test_the_usual_urls_are_taken(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("sk-secret-key", None, "not the key itself"),
        ("AIzaSecretKeyOfSomebody", None, "names a variable, and that environment variable is not set"),
        ("NO_SUCH", None, "names NO_SUCH, and that"),
        ("SOME_KEY", "two words", "holds characters that no key has"),
        ("SOME_KEY", "sk-\u00fc", "holds characters that no key has"),
        ("SOME_KEY", "sk-line\nsk-secret", "holds characters that no key has"),
        ("SOME_KEY", "path-with-sk-secret", "the URL holds the key"),
    ],
)
def test_a_key_is_named_and_never_shown(
    name: str, value: str | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is not None:
        monkeypatch.setenv("SOME_KEY", value)
    with pytest.raises(UsageError, match=says) as caught:
        key_for("http://host/path-with-sk-secret/v1", name, "--api-key-env")
    assert "secret" not in str(caught.value).lower()


def test_a_judge_is_printed_without_its_key() -> None:
    judge = JudgeModel("judge", "http://host/v1", KEY)
    assert KEY not in repr(judge) + json.dumps(judge.identity())


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://API.openai.com:443/v1/", "max_completion_tokens"),
        ("https://api.openai.com.evil.example/v1", "max_tokens"),
        ("http://localhost:8000/v1", "max_tokens"),
    ],
)
def test_the_limit_of_tokens_has_the_name_that_a_place_takes(url: str, name: str) -> None:
    assert token_limit_name(url) == name
