"""Whole runs against hostile servers: what stands in files and streams afterwards, and what is never published."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asking import GOOD
from hostile_server import KEY, WRITTEN, HostileServer, friendly, serving
from runs import Finished, records_of

Run = Callable[..., Finished]
QUESTIONS = 24
TABLE: list[dict[str, Any]] = json.loads(Path(__file__).with_name("replies.json").read_text(encoding="utf-8"))
COMMANDS = "\x1b]0;renamed\x07\x1b[2J\x9b31m"
ECHO = "".join(f" {name}" for name in WRITTEN) + COMMANDS


def command(url: str, output: Path, *more: str) -> tuple[str, ...]:
    asked = ("--model", "served", "--backend", "api", "--api-url", url, "--api-key-env", "TEST_KEY")
    return (*asked, "--tasks", "shapes", "--limit", str(QUESTIONS), "--output", str(output), *more)


def check_nothing_is_shown(finished: Finished, *folders: Path) -> None:
    """No form of the key in any file or stream, and nothing that a terminal obeys but in the index, which is binary."""
    files = {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}
    for name, content in {"stdout": finished.stdout.encode(), "stderr": finished.stderr.encode(), **files}.items():
        for form in (KEY, *WRITTEN.values()):
            assert form.encode() not in content, name
        if not content.startswith(b"SQLite"):
            assert not set(content.decode()) & set("\x1b\x07"), name
    assert "\x9b" not in finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr


def message(text: str, **more: Any) -> dict[str, Any]:
    return {"json": {"choices": [{"message": {"content": text} | more, "finish_reason": "stop"}]}}


def error(status: int) -> dict[str, Any]:
    return {"status": status, "body": json.dumps({"error": {"message": f"no, {ECHO}", "code": ECHO, "param": ECHO}})}


ECHOES: dict[str, dict[str, Any]] = {
    "text": message(f"<answer>4</answer> {ECHO}"),
    "thoughts": message("4", reasoning_content=ECHO),
    "400": error(400),
    "401": error(401),
    "redirect": {"status": 307, "headers": {"Location": "http://x.invalid/{key}?{keyurl}"}, "body": ""},
}


@pytest.mark.parametrize("name", ECHOES)
def test_a_key_that_a_server_repeats_stands_nowhere(avar_eval: Run, tmp_path: Path, name: str) -> None:
    run, board = tmp_path / "run", tmp_path / "board"
    for trigger in ("circle", ""):  # some questions, then all
        with serving(HostileServer(ECHOES[name], friendly(GOOD), trigger)) as server:
            of = command(server.url, run / (trigger or "all"), "--json")
            done = avar_eval(*of, TEST_KEY=KEY, AVAR_LEADERBOARD=str(board))
            assert done.code in (0, 1)
            check_nothing_is_shown(done, run, board)
            assert len(server.bodies) > 0


def test_failures_alone_are_no_result(avar_eval: Run, tmp_path: Path) -> None:
    (filtered,) = (case["reply"] for case in TABLE if case["name"] == "content null, filtered")
    with serving(HostileServer(filtered, "", "")) as server:
        done = avar_eval(*command(server.url, tmp_path / "run"), TEST_KEY=KEY)
        assert done.code == 1
        assert "questions are refused" in done.stderr
        assert records_of(tmp_path / "run") == []
        assert not (tmp_path / "run" / "results.json").exists()


def test_a_parameter_that_a_server_does_not_take_is_said(avar_eval: Run, tmp_path: Path) -> None:
    class Newer(HostileServer):
        def send(self, connection: Any, reply: dict[str, Any]) -> None:
            body = self.bodies[-1]
            if "max_tokens" in body:
                said = (
                    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
                )
                reply = {"status": 400, "body": json.dumps({"error": {"message": said}})}
            elif "temperature" in body:
                said = "Unsupported value: 'temperature' does not support 0 with this model."
                reply = {"status": 400, "body": json.dumps({"error": {"message": said, "param": "temperature"}})}
            super().send(connection, reply)

    with serving(Newer({}, friendly(GOOD), "never")) as server:
        for asked in (QUESTIONS + 2, 0):  # the second time nothing is asked, and the results say the same
            server.bodies.clear()
            done = avar_eval(*command(server.url, tmp_path, "--api-concurrency", "1"), TEST_KEY=KEY)
            assert done.code == 0, done.stderr
            assert len(server.bodies) == asked
            assert done.stderr.count("note: ") == (2 if asked else 0)
            results = json.loads((tmp_path / "results.json").read_text())
            assert results["protocol"]["backend"]["changed"] == {
                "max_tokens": "sent as max_completion_tokens",
                "temperature": "left out: the server does not take it",
            }
