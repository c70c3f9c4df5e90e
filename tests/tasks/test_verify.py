"""Published verdicts beside ours: what is compared, what is left out, and what the command prints."""

import json
import sys
from pathlib import Path

import pytest

from avar_eval.tasks import verify
from avar_eval.tasks.catalog import catalog
from avar_eval.tasks.files import DataError

ENTRY = catalog()["mathvista"]

LINES = [
    {"id": "1", "response": "<answer>7</answer>", "verdict": True},
    {"id": "2", "response": "<answer>7</answer>", "verdict": False},
    {"id": "3", "response": "<answer>8</answer>", "verdict": False, "random_fallback": True},
    {"id": "4", "verdict": True},
    {"id": "99", "response": "<answer>7</answer>", "verdict": True},
]


@pytest.fixture
def published(mathvista: Path) -> Path:
    """A data folder with five published lines of one model."""
    folder = mathvista / "mathvista" / "responses"
    folder.mkdir()
    (folder / "some_model.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES), encoding="utf-8")
    return mathvista


def test_lines_are_judged_and_compared(published: Path) -> None:
    (found,) = verify.compute_agreement(ENTRY, published)
    assert (found.name, len(found.lines), found.left_out) == ("some_model", 4, 1)
    # Row 4 has no response, and of row 3 the official rule has no verdict.
    assert [(line.row["pid"], said) for line, said in found.compared("strict")] == [
        ("1", True),
        ("2", True),
        ("3", False),
    ]
    assert [line.row["pid"] for line in found.differing("strict")] == ["2"]
    assert [(line.row["pid"], said) for line, said in found.compared("official")] == [("1", True), ("2", True)]


def test_the_command_prints_agreement_and_differences(
    published: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["verify", str(published), "mathvista", "--list", "--tagged"])
    verify.main()
    printed = capsys.readouterr().out
    assert "published: 50.00 % (2/4)" in printed
    assert "agreement 66.67 % of 3" in printed
    assert '"id": "2"' in printed
    # Two of four: row 4 has no response, row 3 a wrong one.
    assert "the same answers in tags: official 50.0 %, strict 50.0 %" in printed


def test_a_folder_without_responses_is_named(mathvista: Path) -> None:
    with pytest.raises(DataError, match="no responses"):
        list(verify.compute_agreement(ENTRY, mathvista))
