"""A line of records.jsonl that is damaged is named in words by whatever reads a finished run."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from avar_eval.cli import app
from avar_eval.records.book import RecordBookError
from avar_eval.results.schema import ResultsError, read_task_records

EARLIER = Path(__file__).with_name("run_of_an_earlier_version")
LOOK = {"tokens": 3, "vas": 0.5, "share_by_layer": {"image": [0.5], "system": [0.5]}}
DAMAGES: list[tuple[dict[str, Any] | str, str]] = [
    ('{"key": ', "it is no JSON: it breaks off"),
    ("[1]", "it is a list of 1, not an object"),
    ("null", "it is null, not an object"),
    ("[" * 100_000, "its brackets are nested too deeply"),
    ({"key": 5}, "key is 5, not a text"),
    ({"row_id": [1]}, "row_id is a list of 1, not a text"),
    ({"response": None}, "response is null, not a text"),
    ({"sample": "0"}, 'sample is "0", not a whole number'),
    ({"finish_reason": "bored"}, 'finish_reason is "bored", neither stop nor length'),
    ({"judgement": "right"}, 'judgement is "right", not an object'),
    ({"judgement": {"correct": True}}, "judgement has no state"),
    ({"causal": [1]}, "causal is a list of 1, not an object"),
    ({"causal": {"dependence": "much"}}, 'causal.dependence is "much", not a number'),
    ({"attention": {"user": {"vas": "wide"}}}, "attention.user has no tokens"),
    ({"attention": {"user": LOOK | {"vas": float("nan")}}}, "attention.user.vas is NaN, not a number"),
    ({"attention": {"user": LOOK | {"vas": float("inf")}}}, "attention.user.vas is Infinity, not a number"),
    ({"attention": {"user": LOOK | {"vas": "0.5"}}}, 'attention.user.vas is "0.5", not a number'),
    ({"attention": {"user": LOOK | {"ratio_of_sums": -1.0}}}, "attention.user.ratio_of_sums is -1.0, not 0 or more"),
    ({"causal": {"dependence": float("nan")}}, "causal.dependence is NaN, not a number"),
    ({"causal": {"blind": {"correct": "yes"}}}, 'causal.blind.correct is "yes", not true or false'),
    ({"judgement": {"state": "scored", "correct": True, "official": 1}}, "judgement.official is 1, not true or false"),
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


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "it is empty"),
        ('{"shapes": {', "it is no JSON: it breaks off"),
        ("[]", "it is an empty list, not an object"),
        ("{}", "it has no shapes"),
        ('{"shapes": []}', "shapes is an empty list, not an object"),
        ('{"shapes": {"keys": [3], "clusters": []}}', "shapes.keys.0 is 3, not a text"),
        ('{"shapes": {"keys": ["a"], "clusters": []}}', "shapes: clusters has 0 entries, and keys 1"),
    ],
)
def test_what_the_run_asked_is_named_in_words_too(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "asked.json").write_text(content, encoding="utf-8")
    with pytest.raises(ResultsError) as raised:
        read_task_records(tmp_path, ["shapes"])
    assert f"asked.json, which says what the run asked, cannot be read ({said}): run the evaluation again" in str(
        raised.value
    )
