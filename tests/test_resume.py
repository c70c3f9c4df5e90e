"""A run killed at any moment and started again ends as if nothing had happened; what was changed is asked anew."""

import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import MODEL, Finished, Server, records_of, wait_for_records
from safetensors.torch import load_file, save_file

from avar_eval.records.book import RecordBook

QUESTIONS = 12
GREEDY = ("--max-new-tokens", "16", "--batch-size", "3")
SAMPLED = (*GREEDY, "--temperature", "4", "--top-p", "0.95", "--samples", "2")
MODES = {"greedy": GREEDY, "sampled": SAMPLED}

Run = Callable[..., Finished]


def command(output: Path, *options: str) -> tuple[str, ...]:
    """The same questions to the same model, into another folder or with other options."""
    return ("--model", MODEL, "--tasks", "shapes", "--limit", str(QUESTIONS), "--output", str(output), *options)


def texts(folder: Path) -> dict[tuple[str, int], str]:
    """The responses of a run by row and sample."""
    return {(record["row_id"], record["sample"]): record["response"] for record in records_of(folder)}


def metrics(folder: Path) -> dict[str, Any]:
    """The numbers of a run's task."""
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())["tasks"]["shapes"]["metrics"]
    return found


def succeeded(finished: Finished) -> None:
    assert finished.code == 0, finished.stderr


@pytest.fixture(scope="module")
def uninterrupted(avar_eval: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of runs that nothing disturbed; never to be changed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    for mode, options in MODES.items():
        succeeded(avar_eval(*command(folder / mode, *options)))
    assert len(records_of(folder / "greedy")) == QUESTIONS
    assert len(records_of(folder / "sampled")) == 2 * QUESTIONS
    return {mode: folder / mode for mode in MODES}


@pytest.fixture
def finished(uninterrupted: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the undisturbed greedy run, to go on from."""
    return Path(shutil.copytree(uninterrupted["greedy"], tmp_path / "finished"))


@pytest.mark.parametrize("mode", MODES)
def test_killed_again_and_again_ends_like_an_uninterrupted_run(
    server: Server, uninterrupted: dict[str, Path], tmp_path: Path, mode: str
) -> None:
    output = tmp_path / "run"
    book = output / "records.jsonl"
    n = len(records_of(uninterrupted[mode]))
    moments = random.Random(mode)
    before, inode = b"", None
    for least in (0, 1, n // 2, n - 4):  # records in the book before the kill
        run = server.start(*command(output, *MODES[mode]))
        wait_for_records(output, least)
        time.sleep(moments.uniform(0, 0.3))
        run.kill()
        if book.exists():
            data = book.read_bytes()
            assert data.startswith(before), "what is recorded stays as it is"
            assert inode in (None, book.stat().st_ino)
            before, inode = data[: data.rfind(b"\n") + 1], book.stat().st_ino
    assert before.count(b"\n") > 0
    succeeded(server.start(*command(output, *MODES[mode])).wait())
    assert book.read_bytes().startswith(before)
    assert book.stat().st_ino == inode, "a line was appended again and the book compacted"
    keys = [record["key"] for record in records_of(output)]
    assert len(keys) == len(set(keys)) == n
    assert (output / "results.json").read_bytes() == (uninterrupted[mode] / "results.json").read_bytes()
    assert sorted(book.read_bytes().split(b"\n")) == sorted(
        (uninterrupted[mode] / "records.jsonl").read_bytes().split(b"\n")
    )


@pytest.mark.parametrize(("mode", "share"), [("greedy", 0.12), ("greedy", 0.64), ("sampled", 0.43)])
def test_a_book_torn_inside_a_batch_ends_in_the_same_results(
    avar_eval: Run, uninterrupted: dict[str, Path], tmp_path: Path, mode: str, share: float
) -> None:
    whole = (uninterrupted[mode] / "records.jsonl").read_bytes()
    begun = whole[: int(len(whole) * share)]
    assert begun.count(b"\n") % 3, "the cut is to be inside a batch"
    (tmp_path / "records.jsonl").write_bytes(begun)
    succeeded(avar_eval(*command(tmp_path, *MODES[mode])))
    assert (tmp_path / "records.jsonl").read_bytes() == whole
    assert (tmp_path / "results.json").read_bytes() == (uninterrupted[mode] / "results.json").read_bytes()


def test_a_corrupt_line_stops_the_run_and_stays(avar_eval: Run, finished: Path) -> None:
    book = finished / "records.jsonl"
    lines = book.read_bytes().split(b"\n")
    lines[6] = lines[6][:-1]
    book.write_bytes(b"\n".join(lines))
    before = book.read_bytes()
    stopped = avar_eval(*command(finished, *GREEDY))
    assert stopped.code == 1
    assert f"{book}, line 7 is not a record" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert book.read_bytes() == before


def test_a_finished_run_asks_nothing_again(avar_eval: Run, finished: Path) -> None:
    book = finished / "records.jsonl"
    before = (book.read_bytes(), book.stat().st_ino, book.stat().st_mtime_ns)
    results = (finished / "results.json").read_bytes()
    succeeded(avar_eval(*command(finished, *GREEDY)))
    assert (finished / "results.json").read_bytes() == results
    assert (book.read_bytes(), book.stat().st_ino, book.stat().st_mtime_ns) == before


@pytest.mark.parametrize(
    "change",
    [
        ("--system-prompt", "Look closely."),
        ("--max-new-tokens", "15"),
        ("--temperature", "0.8"),
        ("--dtype", "bfloat16"),
        ("--attn-implementation", "eager"),
    ],
    ids=lambda change: change[0],
)
def test_a_changed_setting_never_reuses_a_response(avar_eval: Run, finished: Path, change: tuple[str, str]) -> None:
    before = records_of(finished)
    succeeded(avar_eval(*command(finished, *GREEDY, *change)))
    after = records_of(finished)
    assert after[:QUESTIONS] == before
    assert len({record["key"] for record in after}) == len(after) == 2 * QUESTIONS


@pytest.mark.parametrize("change", [("--seed", "1"), ("--top-p", "0.5")])
def test_changed_sampling_draws_anew(
    avar_eval: Run, uninterrupted: dict[str, Path], tmp_path: Path, change: tuple[str, str]
) -> None:
    output = Path(shutil.copytree(uninterrupted["sampled"], tmp_path / "run"))
    succeeded(avar_eval(*command(output, *SAMPLED, *change)))
    assert len({record["key"] for record in records_of(output)}) == 4 * QUESTIONS


def test_more_samples_keep_those_drawn_before(avar_eval: Run, uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    options = (*GREEDY, "--temperature", "4", "--top-p", "0.95", "--samples")
    succeeded(avar_eval(*command(tmp_path, *options, "1")))
    first = (tmp_path / "records.jsonl").read_bytes()
    succeeded(avar_eval(*command(tmp_path, *options, "2")))
    assert (tmp_path / "records.jsonl").read_bytes().startswith(first)
    drawn = texts(tmp_path)
    assert drawn == texts(uninterrupted["sampled"])
    assert any(drawn[row, 0] != drawn[row, 1] for row, _ in drawn), "samples of a question differ"


def test_other_weights_never_reuse_a_response(avar_eval: Run, finished: Path, tmp_path: Path, model: Path) -> None:
    succeeded(avar_eval("--model", str(model), *command(finished, *GREEDY)[2:]))
    assert len(records_of(finished)) == QUESTIONS, "the same weights by another name are the same model"
    weights = load_file(model / "model.safetensors")
    name = min(name for name in weights if "norm" in name)
    save_file(weights | {name: weights[name] * 1.5}, model / "model.safetensors", metadata={"format": "pt"})
    succeeded(avar_eval("--model", str(model), *command(finished, *GREEDY)[2:]))
    assert len(records_of(finished)) == 2 * QUESTIONS


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the model, to change."""
    from avar_eval.models.checkpoint import resolve_checkpoint

    return Path(shutil.copytree(resolve_checkpoint(MODEL).path, tmp_path / "model"))


def test_attention_turned_on_later_measures_without_asking_again(
    avar_eval: Run, uninterrupted: dict[str, Path], tmp_path: Path
) -> None:
    succeeded(avar_eval(*command(tmp_path, *GREEDY, "--attention", "off")))
    off = records_of(tmp_path)
    assert all(record["attention"] is None for record in off)
    assert metrics(tmp_path)["vas"] == {"value": None, "ci95": None, "n": 0}
    on = avar_eval(*command(tmp_path, *GREEDY))
    succeeded(on)
    assert f"attention of earlier responses: {QUESTIONS}/{QUESTIONS}" in on.stderr
    assert texts(tmp_path) == texts(uninterrupted["greedy"]), "measuring does not change the text"
    assert len(records_of(tmp_path)) == QUESTIONS
    # one pass over a response rounds otherwise than the passes that generated it
    for name, wanted in metrics(uninterrupted["greedy"]).items():
        found = metrics(tmp_path)[name]
        assert found["n"] == wanted["n"]
        assert found["value"] == (wanted["value"] and pytest.approx(wanted["value"], rel=1e-4)), name


def test_results_hold_only_the_attention_that_was_asked_for(avar_eval: Run, finished: Path) -> None:
    succeeded(avar_eval(*command(finished, *GREEDY, "--attention-samples", "3")))
    assert metrics(finished)["vas"]["n"] == 3
    succeeded(avar_eval(*command(finished, *GREEDY, "--attention", "off")))
    assert metrics(finished)["vas"]["n"] == 0
    assert all(record["attention"] for record in records_of(finished)), "what was measured stays in the book"


@pytest.mark.parametrize("batch_size", ["1", "7", "64"])
def test_batches_change_nothing_but_the_order(
    avar_eval: Run, uninterrupted: dict[str, Path], tmp_path: Path, batch_size: str
) -> None:
    succeeded(avar_eval(*command(tmp_path, *GREEDY, "--batch-size", batch_size)))
    ours = {record["key"]: record for record in records_of(tmp_path)}
    theirs = {record["key"]: record for record in records_of(uninterrupted["greedy"])}
    assert ours.keys() == theirs.keys()
    for key, record in ours.items():
        expected = theirs[key]
        assert {**record, "attention": None, "causal": None} == {**expected, "attention": None, "causal": None}
        for name, value in expected["causal"].items():
            assert record["causal"][name] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value)
        for queries in ("user", "response"):
            assert record["attention"][queries]["vas"] == pytest.approx(expected["attention"][queries]["vas"], rel=1e-4)


def test_a_second_run_on_the_folder_is_refused(avar_eval: Run, tmp_path: Path) -> None:
    with RecordBook(tmp_path):  # what a first run holds as long as it goes on
        second = avar_eval(*command(tmp_path, *GREEDY))
    assert second.code == 1
    assert f"another run is writing to {tmp_path}" in second.stderr
    assert "Traceback" not in second.stderr
    succeeded(avar_eval(*command(tmp_path, *GREEDY)))
    assert len(records_of(tmp_path)) == QUESTIONS


def test_a_full_disk_in_mid_run_can_be_resumed(avar_eval: Run, uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    room = (uninterrupted["greedy"] / "records.jsonl").stat().st_size // 2
    full = avar_eval(*command(tmp_path, *GREEDY), largest_file=room)
    assert full.code == 1
    assert f"cannot append to {tmp_path}" in full.stderr
    assert "Traceback" not in full.stderr
    kept = len(records_of(tmp_path))
    assert 0 < kept < QUESTIONS
    assert f"the {kept} records so far are intact" in full.stderr
    succeeded(avar_eval(*command(tmp_path, *GREEDY)))
    assert (tmp_path / "results.json").read_bytes() == (uninterrupted["greedy"] / "results.json").read_bytes()
