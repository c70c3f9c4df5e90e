"""Endpoints that misbehave, in each stage: bounded tries, a named state for each row, and never a wrong row."""

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from actors import Actors, playing, recipe

sys.path.append(str(Path(__file__).parents[1] / "hostile"))

from hostile_server import KEY, HostileServer, serving

from avar_eval.models.backend import BackendError
from avar_eval.recipes.synthesis.pipeline import synthesize
from avar_eval.recipes.synthesis.recipe import parse_recipe
from avar_eval.tasks.shapes.dataset import rows as shapes_rows

TABLE: dict[str, dict[str, Any]] = {
    case["name"]: case
    for case in json.loads((Path(__file__).parents[1] / "hostile" / "replies.json").read_text(encoding="utf-8"))
}
FRIENDLY = 4
HOSTILE = {
    "describe": (
        "content null, filtered", "error object", "choices empty", "HTML with a 200", "500", "an event stream",
        "closed without a word", "a reply without an end", "an empty text", "cut: length", "content as texts",
    ),
    "reason": (
        "content null and nothing else", "choices a text", "cut JSON", "503 with the key", "a length too long",
        "a byte now and then", "the call of a tool", "thoughts alone, cut", "the key in the text", "no usage",
    ),
    "anchor": (
        "declined in a field of its own", "message a text", "nothing", "529", "chunks without an end",
        "a bomb of zeros",
        "silence", "cut within hidden thoughts", "unicode escapes", "tokens below zero",
    ),
}  # fmt: skip


class Mixed(HostileServer):
    """The first requests get the replies of a table, each always the same one, all others those of the actors."""

    def __init__(self, actors: Actors, replies: list[dict[str, Any]]) -> None:
        super().__init__({}, "", "")
        self.actors, self.replies = actors, replies
        self.seen: dict[str, int] = {}
        self.tries: Counter[int] = Counter()

    def send(self, connection: Any, reply: dict[str, Any]) -> None:
        body = self.bodies[-1]
        number = self.seen.setdefault(hashlib.sha256(json.dumps(body).encode()).hexdigest(), len(self.seen))
        self.tries[number] += 1
        if number < len(self.replies):
            super().send(connection, self.replies[number])
        else:
            super().send(connection, {"json": self.actors.reply(body)})


def content(actors: Actors, stage: str, url: str, count: int) -> dict[str, Any]:
    """One request at a time of the stage that is hostile, so that the server knows which is which."""
    made = recipe(actors.url, count)
    made["stages"]["reason"]["samples"] = 1
    made["stages"][stage] |= {"url": url, "concurrency": 1, "timeout": 2, "key_env": "TEST_KEY"}
    return made


@pytest.mark.parametrize("stage", HOSTILE)
def test_each_row_gets_a_state_and_the_others_are_finished(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    cases = [TABLE[name] for name in HOSTILE[stage]]
    count = len(cases) + FRIENDLY
    answers = {f"shapes/{number}": row["answer"] for number, row in enumerate(shapes_rows("train", count, seed=0))}
    with playing(Actors(count=count)) as actors:
        with serving(Mixed(actors, [case["reply"] for case in cases])) as server:
            report = synthesize(
                parse_recipe(content(actors, stage, server.url, count), "x"), tmp_path / "out", shown=False
            )
        unanswered = [case for case in cases if case["state"] == "refused"]
        rejected = report["stages"][stage]["rejected"]
        assert rejected.pop("no_reply") == len(unanswered)
        assert sum(rejected.values()) == len(cases) - len(unanswered)
        assert report["sources"]["shapes"]["kept"] == FRIENDLY
        for number, case in enumerate(cases):
            assert server.tries[number] == (case.get("tries") or 1), case["name"]
        page = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
        assert all(
            part in page for part in (f"### {stage}: no_reply, {len(unanswered)}", *(f": {name}," for name in rejected))
        )
        # those that got no reply are asked again when the endpoint is well
        report = synthesize(parse_recipe(content(actors, stage, actors.url, count), "x"), tmp_path / "out", shown=False)
    assert report["stages"][stage]["rejected"] == rejected
    assert report["sources"]["shapes"]["kept"] == FRIENDLY + len(unanswered)
    for line in (tmp_path / "out" / "rows.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        assert row["messages"][1]["content"][0]["text"].endswith(f"<answer>{answers[row['id']]}</answer>")
    for path in (tmp_path / "out").rglob("*.*"):
        if path.suffix in (".jsonl", ".json", ".md"):
            text = path.read_text(encoding="utf-8")
            assert KEY not in text
            assert not set(text) & set("\x1b\x07\x9b")


@pytest.mark.parametrize("name", ["401 with the key", "404", "429 with no end", "402", "redirect to another host"])
def test_what_can_never_be_answered_stops_the_stage_and_the_run_goes_on_later(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    with playing(Actors(count=4)) as actors:
        with (
            serving(Mixed(actors, [TABLE[name]["reply"]] * 4)) as server,
            pytest.raises(BackendError, match="the stage reason stops") as stopped,
        ):
            synthesize(parse_recipe(content(actors, "reason", server.url, 4), "x"), tmp_path, shown=False)
        assert KEY not in str(stopped.value)
        assert sum(server.tries.values()) == 1
        report = synthesize(parse_recipe(content(actors, "reason", actors.url, 4), "x"), tmp_path, shown=False)
        assert actors.stages["describer"] == 4
    assert report["sources"]["shapes"]["kept"] == 4


def test_an_endpoint_that_answers_nobody_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    with playing(Actors(count=20)) as actors:
        made = content(actors, "describe", "", 20)
        with serving(Mixed(actors, [TABLE["413"]["reply"]] * 20)) as server:
            made["stages"]["describe"]["url"] = server.url
            with pytest.raises(BackendError, match="12 questions are refused"):
                synthesize(parse_recipe(made, "x"), tmp_path, shown=False)
            assert sum(server.tries.values()) == 12
