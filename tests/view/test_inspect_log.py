"""Logs for inspect_ai, read back with it; without it a message says what to install."""

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invented_run import invented_data, invented_run
from runs import Finished

from avar_eval.errors import UsageError
from avar_eval.view.inspect_log import write_inspect_logs


def test_logs_are_read_back(tmp_path: Path) -> None:
    log = pytest.importorskip("inspect_ai.log", reason='needs inspect_ai: pip install -e ".[inspect]"')
    judged = {"state": "truncated", "extracted": None, "correct": False, "grader": "g", "official": None}
    attention = {"user": {"tokens": 3, "vas": 1.5, "share_by_layer": {"image": [0.2, 0.4]}}, "response": None}
    changes = {
        1: {"judgement": judged, "finish_reason": "length", "reference": None},
        2: {"attention": attention, "causal": {"information": 0.25}, "sample": 1, "row_id": "1"},
    }
    run = invented_run(tmp_path / "run", ["<think>seven jars</think>7", "<think>", "7"], changes=changes)
    (file,), problems = write_inspect_logs([run], tmp_path / "logs", invented_data(tmp_path / "data", 3))
    assert problems == []
    read = log.read_eval_log(str(file), resolve_attachments=True)
    assert (read.status, read.eval.task, read.eval.model, read.eval.run_id) == (
        "success", "mathvista", "avar/invented", "00aa11bb22cc33dd",
    )  # fmt: skip
    first, cut, again = read.samples
    assert [(one.id, one.epoch, one.target) for one in read.samples] == [("1", 1, "7"), ("2", 1, "7"), ("1", 2, "7")]
    assert first.input[0].content[0].image.startswith("data:image/png;base64,")
    reasoning, text = first.output.choices[0].message.content
    assert (reasoning.reasoning, text.text) == ("<think>seven jars</think>", "7")
    assert {name: score.value for name, score in first.scores.items()} == {"strict": "C", "official": "C"}
    assert (cut.scores["strict"].value, cut.scores["strict"].explanation) == ("I", "truncated")
    assert cut.output.choices[0].stop_reason == "max_tokens"
    assert (again.scores["vas"].value, again.scores["information"].value) == (1.5, 0.25)
    assert again.metadata["shares"] == {"user": {"image": pytest.approx(0.3)}}
    assert read.results.scores[0].metrics["accuracy"].value == pytest.approx(2 / 3)


def test_without_the_extra_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "inspect_ai":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return imported(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'avar-eval\[inspect\]'"):
        write_inspect_logs([invented_run(tmp_path / "run", ["7"])], tmp_path / "logs")


def test_logs_need_a_place(avar_eval: Callable[..., Finished], tmp_path: Path) -> None:
    done = avar_eval("view", str(invented_run(tmp_path / "run", ["7"])), "--format", "inspect")
    assert (done.code, done.stdout) == (2, "")
    assert "give --output DIR" in done.stderr
