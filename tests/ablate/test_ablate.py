"""Causal columns and curves of a finished run: what is recorded is not asked again, and a killed ablation goes on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import MODEL, Finished, Server, records_of, wait_for_lines

from avar_eval.ablate.reopen import reopened
from avar_eval.ablate.run import BLUR_LEVELS
from avar_eval.causal.cutoff import SHARES
from avar_eval.leaderboard.store import Store, StoreError
from avar_eval.results.schema import read_results

RUN = ("--model", MODEL, "--tasks", "shapes", "--limit", "8", "--batch-size", "3", "--causal", "off")
ABLATE = ("--causal", "full", "--causal-samples", "5", "--batch-size", "3", "--blur", "--cutoff", "--format", "svg")

Run = Callable[..., Finished]


@pytest.fixture(scope="module")
def finished(avar_eval: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without causal columns; never to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    done = avar_eval(*RUN, "--output", str(folder))
    assert done.code == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def ablated(avar_eval: Run, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it, ablated without a disturbance; never to be changed."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("ablated") / "run"))
    done = avar_eval("ablate", str(folder), *ABLATE)
    assert done.code == 0, done.stderr
    assert "blur.svg" in done.stdout
    return folder


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def test_columns_are_those_of_a_run_that_had_them_from_the_start(avar_eval: Run, ablated: Path, tmp_path: Path) -> None:
    done = avar_eval(*RUN[:-1], "full", "--causal-samples", "5", "--output", str(tmp_path))
    assert done.code == 0, done.stderr
    whole, found = results(tmp_path)["tasks"]["shapes"], results(ablated)["tasks"]["shapes"]
    assert found["metrics"].keys() == whole["metrics"].keys()
    for name, metric in whole["metrics"].items():
        assert found["metrics"][name]["n"] == metric["n"], name
        assert found["metrics"][name]["value"] == (metric["value"] and pytest.approx(metric["value"], rel=1e-4)), name
    assert found["causal"]["rows"] == 5


def test_nothing_is_asked_again_and_the_run_stays_the_run_that_it_is(finished: Path, ablated: Path) -> None:
    before, after = records_of(finished), {record["key"]: record for record in records_of(ablated)}
    assert {record["key"] for record in before} == after.keys()
    for record in before:
        assert {**after[record["key"]], "causal": None} == {**record, "causal": None}
    assert results(ablated)["run_id"] == results(finished)["run_id"]
    for name, metric in results(finished)["tasks"]["shapes"]["metrics"].items():
        assert results(ablated)["tasks"]["shapes"]["metrics"][name] == metric


def test_curves_are_of_the_same_rows_at_each_point(ablated: Path) -> None:
    found = json.loads((ablated / "ablation.json").read_text())
    blur, cutoff = found["blur"]["shapes"], found["cutoff"]["shapes"]
    assert [of["at"] for of in blur] == [0.0, *BLUR_LEVELS]
    assert {of["n"] for of in blur} == {5}
    assert [of["at"] for of in cutoff] == list(SHARES)
    assert cutoff[0]["value"] < -0.5, "without the image from the start the answer is less sure"
    assert abs(cutoff[-1]["value"]) < abs(cutoff[0]["value"]) / 2, "when it is about to be said, it is in the words"
    assert (ablated / "cutoff.svg").read_bytes().startswith(b"<?xml")


def test_a_killed_ablation_goes_on(server: Server, finished: Path, ablated: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    for file in ("altered.jsonl", "causal.jsonl", "cutoff.jsonl"):
        run = server.start("ablate", str(folder), *ABLATE, stands_at={file: 1})
        wait_for_lines(folder / file, 1)
        run.kill()
    done = server.start("ablate", str(folder), *ABLATE).wait()
    assert done.code == 0, done.stderr
    for name in ("results.json", "ablation.json", "blur.svg", "cutoff.svg"):
        assert (folder / name).read_bytes() == (ablated / name).read_bytes(), name
    for name in ("records.jsonl", "altered.jsonl", "causal.jsonl", "cutoff.jsonl"):
        lines = [sorted((of / name).read_bytes().splitlines()) for of in (folder, ablated)]
        assert lines[0] == lines[1], name


def test_another_model_or_no_run_is_refused(avar_eval: Run, finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    card = results(folder)
    card["protocol"]["system_prompt"] = "Look closely."
    (folder / "results.json").write_text(json.dumps(card))
    other = avar_eval("ablate", str(folder))
    assert (other.code, "has no record of 8 questions as they are asked here" in other.stderr) == (2, True)
    assert (folder / "records.jsonl").read_bytes() == (finished / "records.jsonl").read_bytes()
    nothing = avar_eval("ablate", str(tmp_path))
    assert nothing.code == 1
    assert "Traceback" not in other.stderr + nothing.stderr
    off = avar_eval("ablate", str(folder), "--causal", "off")
    assert (off.code, "--causal fast or full" in off.stderr) == (2, True)


def test_a_run_of_a_notebook_is_reopened_as_it_was_asked(finished: Path) -> None:
    found = read_results(finished)
    card = found.protocol | {
        "command": "avar_eval.evaluate('avar-tiny', ['shapes'], temperature=0.5)",
        "model": "mine",
        "prompt_style": "direct",
        "steering": {"image": 0.2, "system": 0.0, "mode": "prob", "rows": "all", "layers": None, "heads": None},
        "decoding": found.protocol["decoding"] | {"temperature": 0.5, "samples": 2},
    }
    model = reopened(found.model_copy(update={"protocol": card}), {"causal": "full"})
    assert (model.source.name, model.name, model.prompt_style) == ("avar-tiny", "mine", "direct")
    assert (model.decoding.temperature, model.decoding.samples) == (0.5, 2)
    assert (model.asking.causal, model.asking.limit) == ("full", 8)
    assert str(model.asking.steering) == "image=0.2,system=0,mode=prob,rows=all"


def test_a_leaderboard_takes_a_run_s_columns_and_nothing_else_for_granted(
    finished: Path, ablated: Path, tmp_path: Path
) -> None:
    store = Store(tmp_path / "board")
    store.add(finished / "results.json")
    assert store.add(ablated / "results.json").event == "extended"
    with pytest.raises(StoreError, match="with other content, which stays"):
        store.add(finished / "results.json")
    changed = Path(shutil.copytree(ablated, tmp_path / "changed")) / "results.json"
    found = json.loads(changed.read_text())
    found["tasks"]["shapes"]["metrics"]["vas"]["value"] *= 1.01
    changed.write_text(json.dumps(found))
    with pytest.raises(StoreError, match="with other content, which stays"):
        store.add(changed)


def test_a_narrower_ablation_takes_nothing_away(avar_eval: Run, ablated: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ablated, tmp_path / "run"))
    done = avar_eval("ablate", str(folder), "--causal-samples", "2", "--cutoff")
    assert done.code == 0, done.stderr
    assert results(folder) == results(ablated)
    assert Store(tmp_path / "board").add(folder).verified == {"shapes"}


def test_an_ablated_run_is_verified(avar_eval: Run, finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    store = Store(tmp_path / "board")
    store.add(folder)
    done = avar_eval("ablate", str(folder))
    assert done.code == 0, done.stderr
    assert results(folder)["tasks"]["shapes"]["metrics"]["visual_dependence"]["n"] == 8
    added = store.add(folder)
    assert (added.event, added.verified) == ("extended", {"shapes"})


def test_a_leaderboard_takes_columns_of_more_rows(avar_eval: Run, ablated: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ablated, tmp_path / "run"))
    store = Store(tmp_path / "board")
    store.add(folder)
    done = avar_eval("ablate", str(folder), "--batch-size", "3", "--knockout-windows", "2")
    assert done.code == 0, done.stderr
    assert results(folder)["tasks"]["shapes"]["causal"]["rows"] == 8
    windows = results(folder)["tasks"]["shapes"]["knockout_windows"]
    assert [(of["layers"], of["answer"]["n"]) for of in windows] == [([0, 1], 8), ([2, 4], 8)]
    assert results(folder)["tasks"]["shapes"]["causal"]["visual_gain_p"] is not None
    with pytest.raises(StoreError, match="with other content, which stays"):
        store.add(folder / "results.json")
    added = store.add(folder)
    assert (added.event, added.verified) == ("extended", {"shapes"})
