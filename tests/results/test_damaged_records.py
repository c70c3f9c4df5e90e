"""A line of records.jsonl that is damaged is named in words by whatever reads a finished run."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from avar_eval.cli import app
from avar_eval.records.book import RecordBookError

EARLIER = Path(__file__).with_name("run_of_an_earlier_version")
DAMAGES: list[tuple[dict[str, Any] | str, str]] = [
    ('{"key": ', "it is no JSON object"),
    ("[1]", "it is no JSON object"),
    ("null", "it is no JSON object"),
    ("[" * 100_000, "it is no JSON object"),
    ({"key": 5}, "key is not a text"),
    ({"row_id": [1]}, "row_id is not a text"),
    ({"response": None}, "response is not a text"),
    ({"sample": "0"}, "sample is not a whole number"),
    ({"finish_reason": "bored"}, "finish_reason is neither stop nor length"),
    ({"judgement": "right"}, "judgement is no object"),
    ({"judgement": {"correct": True}}, "judgement has no state"),
    ({"causal": [1]}, "causal is no object"),
    ({"causal": {"dependence": "much"}}, "causal has no numbers"),
    ({"attention": {"user": {"vas": "wide"}}}, "attention.user has no numbers"),
]


@pytest.mark.parametrize(("damage", "said"), DAMAGES, ids=[said for _, said in DAMAGES])
def test_it_is_named_in_words(damage: dict[str, Any] | str, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("results.json", "asked.json"):
        (folder / name).write_bytes((EARLIER / name).read_bytes())
    first, second, *others = (EARLIER / "records.jsonl").read_text(encoding="utf-8").splitlines()
    line = damage if isinstance(damage, str) else json.dumps(json.loads(second) | damage)
    (folder / "records.jsonl").write_text("\n".join([first, line, *others]) + "\n", encoding="utf-8")
    for command in (["score", folder], ["compare", EARLIER, folder], ["view", folder, "--output", tmp_path / "page"]):
        done = CliRunner().invoke(app, [str(word) for word in command])
        assert isinstance(done.exception, RecordBookError), command
        assert f"records.jsonl, line 2 is not a record ({said}" in str(done.exception)
