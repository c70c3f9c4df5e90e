"""`avar-eval suite`: killed at any moment it ends as if undisturbed; what fails leaves the rest; one at a time."""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from runs import Running, Server, wait_until
from safetensors.torch import load_file, save_file
from suites import Suites, books, state

from avar_eval.atomic import WriteError
from avar_eval.folder_lock import FolderLock
from avar_eval.leaderboard.store import Store
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.records.record import Record
from avar_eval.suite.process import SECONDS_TO_END
from avar_eval.suite.run import LOCK_NAME
from avar_eval.suite.timings import add_timing, seconds_a_response

TASKS = ("shapes", "shapes_prior")
LIMIT, BATCH, MODELS = 5, 2, 3
SUITE = f"""
tasks: [shapes, shapes_prior]
limit: {LIMIT}
batch-size: {BATCH}
max-new-tokens: 20
attention-samples: 3
causal-samples: 2
models:
  - avar-tiny
  - model: avar-tiny
    steer: image=0.5
  - {{model: avar-tiny, name: hot, temperature: 1.5, seed: 3}}
"""
KILLS = 10


@pytest.fixture
def suites(forking_server: Server, tmp_path: Path) -> Suites:
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    return Suites(forking_server, tmp_path / "suite.yaml", tmp_path / "asked")


@pytest.fixture(scope="module")
def undisturbed(forking_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished suite, never to be changed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "suite.yaml").write_text(SUITE, encoding="utf-8")
    done = Suites(forking_server, folder / "suite.yaml", folder / "asked").run(folder / "runs")
    assert done.code == 0, done.stderr
    return folder / "runs"


def count(output: Path) -> int:
    """Whole lines of all record books."""
    return sum(path.read_bytes().count(b"\n") for path in output.glob("*/records.jsonl"))


def same(output: Path, undisturbed: Path) -> None:
    """That two suites have the same files of results, bytes for bytes, and the same records."""
    for path in sorted(undisturbed.rglob("*.json")):
        assert (output / path.relative_to(undisturbed)).read_bytes() == path.read_bytes(), path
    assert len(list(undisturbed.rglob("results.json"))) == MODELS
    for path in sorted(undisturbed.glob("*/records.jsonl")):
        there = (output / path.relative_to(undisturbed)).read_bytes()
        assert sorted(there.split(b"\n")) == sorted(path.read_bytes().split(b"\n")), path


def test_a_suite_is_its_runs(undisturbed: Path, suites: Suites, tmp_path: Path) -> None:
    runs = state(undisturbed)
    assert [(run["model"], run["tasks"], run["status"], run["steering"], run["seed"]) for run in runs] == [
        ("avar-tiny", [*TASKS], "finished", None, None),
        ("avar-tiny", [*TASKS], "finished", "image=0.5,system=0", None),
        ("hot", [*TASKS], "finished", None, 3),
    ]
    assert {len(records) for records in books(undisturbed).values()} == {LIMIT * len(TASKS)}
    for number, run in enumerate(runs[:2]):  # a name is nothing that `avar-eval run` could give
        results = undisturbed / run["results"]
        _, *words = shlex.split(json.loads(results.read_text())["protocol"]["command"])
        alone = suites.server.start(*words, "--output", str(tmp_path / str(number)), ASKED=os.devnull).wait()
        assert alone.code == 0, alone.stderr
        assert (tmp_path / str(number) / "results.json").read_bytes() == results.read_bytes()


def test_killed_at_ten_random_moments_it_ends_as_undisturbed(suites: Suites, undisturbed: Path, tmp_path: Path) -> None:
    output, moments = tmp_path / "runs", random.Random(19)
    each, names = LIMIT * len(TASKS), [run["name"] for run in state(undisturbed)]
    whole = MODELS * each
    caught: list[str] = []
    for least in sorted(moments.sample(range(whole), KILLS)):
        # at the latest it is killed where the run that it is at lacks its last answer
        running = suites.start(output, stands_at={f"{names[least // each]}/records.jsonl": each - 1})
        wait_for_records(output, least)
        time.sleep(moments.uniform(0, 0.4))
        caught += [run["name"] for run in state(output) if run["status"] == "running"]
        assert running.kill().code == -signal.SIGKILL
    assert set(caught) == set(names), "each model was killed at least once"
    done = suites.run(output)
    assert done.code == 0, done.stderr
    same(output, undisturbed)
    asked = Counter(suites.asked.read_text().split())
    assert len(asked) == whole
    again = sum(asked.values()) - whole
    print(f"{KILLS} kills, {len(caught)} of them at work; {again} questions were in flight and asked again")
    assert again <= BATCH * len(caught), "more was asked again than was in flight"


def wait_for_records(output: Path, n: int) -> None:
    wait_until(lambda: count(output) >= n and (output / "suite.json").exists(), f"{n} records of {output}")


def child_of(running: Running) -> psutil.Process:
    """The process of the run that is under way."""
    (child,) = psutil.Process(running.pid).children()
    return child


def has_ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_a_run_ends_with_the_suite_that_started_it(suites: Suites, tmp_path: Path) -> None:
    running = suites.start(tmp_path / "runs", stands_at={"records.jsonl": 1})
    wait_for_records(tmp_path / "runs", 1)
    child = child_of(running)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    wait_until(lambda: has_ended(child), "the end of the run")


def test_what_fails_leaves_the_others_running_and_is_named_at_the_end(suites: Suites, tmp_path: Path) -> None:
    """One run is killed as by a machine without memory, one model's weights are torn."""
    torn = Path(shutil.copytree(resolve_checkpoint("avar-tiny").path, tmp_path / "torn"))
    weights = (torn / "model.safetensors").read_bytes()
    (torn / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    suites.file.write_text(SUITE.replace("  - avar-tiny\n", f"  - avar-tiny\n  - {torn}\n", 1), encoding="utf-8")
    output = tmp_path / "runs"
    running = suites.start(output, stands_at={"avar-tiny/records.jsonl": 1})
    wait_for_records(output, 1)
    child_of(running).kill()
    done = running.wait()
    assert done.code == 1
    killed, broken, *others = state(output)
    assert (killed["status"], killed["results"]) == ("failed", None)
    assert killed["reason"].startswith("its process was ended by SIGKILL")
    assert broken["status"] == "failed"
    assert [run["status"] for run in others] == ["finished", "finished"]
    ending = done.stdout[done.stdout.index("2 of 4 runs failed") :]
    assert f"{killed['name']}: its process was ended by SIGKILL, which is what a machine does that has no" in ending
    assert f"{broken['name']}: the weights of {torn} cannot be loaded: " in ending
    assert "Traceback" not in done.stderr
    before = suites.asked.read_text().split()
    assert suites.run(output).code == 1
    assert [run["status"] for run in state(output)] == ["finished", "failed", "finished", "finished"]
    keys = {record["key"] for name, records in books(output).items() if name != killed["name"] for record in records}
    assert not keys & set(suites.asked.read_text().split()[len(before) :]), "what is finished is not asked again"


def test_a_second_command_on_the_same_suite_is_refused(suites: Suites, tmp_path: Path) -> None:
    output = tmp_path / "runs"
    running = suites.start(output, stands_at={"records.jsonl": 1})
    wait_for_records(output, 0)
    second = suites.run(output)
    assert second.code == 1
    assert second.stderr == (
        f"avar-eval: another `avar-eval suite` is at work on {output}: wait for it to end, or give this one its own "
        "--output\n"
    )
    running.kill()
    FolderLock(output, LOCK_NAME, wait=60).release()  # a killed one holds nothing


def test_a_finished_suite_asks_nothing_again(suites: Suites, undisturbed: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(undisturbed, tmp_path / "runs"))
    done = suites.run(output)
    assert done.code == 0
    assert "[1 of" not in done.stderr
    same(output, undisturbed)
    assert not suites.asked.exists()


def test_more_questions_are_asked_of_a_finished_suite(suites: Suites, undisturbed: Path, tmp_path: Path) -> None:
    output = Path(shutil.copytree(undisturbed, tmp_path / "runs"))
    done = suites.run(output, "--limit", str(LIMIT + 1))
    assert done.code == 0, done.stderr
    assert {len(records) for records in books(output).values()} == {(LIMIT + 1) * len(TASKS)}
    assert len(set(suites.asked.read_text().split())) <= MODELS * len(TASKS) * BATCH


def test_ctrl_c_ends_both_and_the_same_command_goes_on(suites: Suites, undisturbed: Path, tmp_path: Path) -> None:
    output = tmp_path / "runs"
    running = suites.start(output, stands_at={"records.jsonl": 3})
    wait_for_records(output, 3)
    child, begun = child_of(running), time.monotonic()
    done = running.kill(signal.SIGINT)
    assert done.code == 130
    assert time.monotonic() - begun < SECONDS_TO_END, "neither waits for the other to be killed"
    assert not child.is_running()
    assert "interrupted; what is finished is kept, run the same command again to go on" in done.stderr
    assert suites.run(output).code == 0
    same(output, undisturbed)


def test_it_ends_in_the_wide_table_and_on_the_leaderboard(suites: Suites, tmp_path: Path) -> None:
    output = tmp_path / "runs"
    running = suites.start(output, "--limit", "2")
    done = running.wait()
    assert done.code == 0, done.stderr
    heading, *lines = done.stdout.splitlines()
    assert heading.split() == ["model", "shapes", "%", "shapes_prior", "%", "average", "%", "VAS"]
    assert {line.split("  ")[0] for line in lines[:MODELS]} == {"avar-tiny", "avar-tiny (steered)", "hot"}
    rows = Store(running.folder / "leaderboard").rows()
    assert len(rows) == MODELS * len(TASKS)
    assert {row.mark for row in rows} == {"verified"}
    printed = suites.run(output, "--limit", "2", "--json")
    assert json.loads(printed.stdout)["runs"] == state(output)


def test_a_dry_run_counts_what_is_left_and_takes_lengths_from_what_is_there(
    suites: Suites, undisturbed: Path, tmp_path: Path
) -> None:
    nothing = suites.run(tmp_path / "none", "--dry-run", "--json")
    assert nothing.code == 0, nothing.stderr
    assert not (tmp_path / "none").exists()
    for run in json.loads(nothing.stdout)["runs"]:
        assert (run["responses"], run["done"], run["status"]) == (LIMIT * len(TASKS), 0, "waiting")
        assert (run["tokens"], run["most"], run["gpu_hours"], run["bytes"]) == (
            LIMIT * len(TASKS) * 20,
            True,
            None,
            None,
        )
    output = Path(shutil.copytree(undisturbed, tmp_path / "runs"))
    before = sorted((path, path.read_bytes()) for path in output.rglob("*.json*"))
    twice = json.loads(suites.run(output, "--dry-run", "--json", "--limit", str(3 * LIMIT)).stdout)["runs"]
    timed = [json.loads(line) for line in (output / "timings.jsonl").read_text().splitlines()]
    for run, time_of in zip(twice, timed, strict=True):
        records = [Record.model_validate(record) for record in books(output)[run["name"]]]
        mean = sum(len(record.response_token_ids) for record in records) / len(records)
        assert (run["responses"], run["done"]) == (3 * LIMIT * len(TASKS), LIMIT * len(TASKS))
        left = run["responses"] - run["done"]
        assert (run["tokens"], run["most"]) == (round(left * mean), False)
        assert run["gpu_hours"] == pytest.approx(left * time_of["seconds"] / time_of["responses"] / 3600)
        assert run["bytes"] > 1000 * left
    assert sorted((path, path.read_bytes()) for path in output.rglob("*.json*")) == before, "nothing is written"
    finished = suites.run(output, "--dry-run")
    assert "to come: 0 tokens, 0.00 GPU-hours" in finished.stdout
    assert finished.stdout.count("finished") == MODELS


def test_rows_that_cannot_be_had_are_unknown(suites: Suites, tmp_path: Path) -> None:
    suites.file.write_text("tasks: [mmstar]\nmodels: [avar-tiny]\n", encoding="utf-8")
    (tmp_path / "data").mkdir()
    done = suites.run(tmp_path / "runs", "--dry-run", "--data-dir", str(tmp_path / "data"))
    assert done.code == 0, done.stderr
    assert "rows: " in done.stdout
    assert "at most" not in done.stdout.splitlines()[1]


def test_on_a_cluster_it_ends_in_the_same_bytes(suites: Suites, undisturbed: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'avar-eval[ray]'")
    first, _, _ = state(undisturbed)
    suites.file.write_text(SUITE[: SUITE.index("  - model: avar-tiny")], encoding="utf-8")  # Ray is slow to start
    done = suites.run(tmp_path / "runs", "--cluster", "ray", "--cluster-workers", "1")
    assert done.code == 0, done.stderr
    assert state(tmp_path / "runs") == [first]
    assert (tmp_path / "runs" / first["results"]).read_bytes() == (undisturbed / first["results"]).read_bytes()


def test_a_data_folder_of_the_file_goes_before_the_environments(
    suites: Suites, mathvista: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for named, responses in (("", None), (f"data-dir: {mathvista}\n", 3)):
        suites.file.write_text(f"tasks: [mathvista]\nmodels: [avar-tiny]\n{named}", encoding="utf-8")
        words = ("suite", str(suites.file), "--output", str(tmp_path / "runs"), "--dry-run", "--json")
        done = suites.server.start(*words, AVAR_DATA_DIR=str(tmp_path / "empty")).wait()
        assert done.code == 0, done.stderr
        (run,) = json.loads(done.stdout)["runs"]
        assert run["responses"] == responses, run["problem"]


def test_runs_are_processes_of_their_own_that_start_afresh(tmp_path: Path) -> None:
    """As users have it: not forked."""
    (tmp_path / "suite.yaml").write_text(
        "tasks: [shapes]\nlimit: 1\nmax-new-tokens: 4\ncausal: off\nattention: off\nmodels: [avar-tiny]\n"
    )
    command = [sys.executable, "-m", "avar_eval", "suite", "suite.yaml", "--output", "runs", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(done.stdout)["runs"]
    assert (tmp_path / "runs" / run["results"]).is_file()


def test_a_finished_run_whose_weights_changed_is_asked_again(suites: Suites, tmp_path: Path) -> None:
    model = Path(shutil.copytree(resolve_checkpoint("avar-tiny").path, tmp_path / "model"))
    suites.file.write_text(
        f"tasks: [shapes]\nlimit: 2\nmax-new-tokens: 8\nmodels: [{{model: {model}, name: own}}]\n", encoding="utf-8"
    )
    output = tmp_path / "runs"
    assert suites.run(output).code == 0
    (before,) = output.glob("own*/results.json")
    first = json.loads(before.read_text())["protocol"]["weights_sha256"]
    tensors = load_file(model / "model.safetensors")
    next(iter(tensors.values())).mul_(1.5)
    save_file(tensors, model / "model.safetensors", {"format": "pt"})

    def planned() -> tuple[str, int]:
        (run,) = json.loads(suites.run(output, "--dry-run", "--json").stdout)["runs"]
        return run["status"], run["done"]

    assert planned() == ("waiting", 0)
    asked = suites.asked.read_text()
    assert suites.run(output).code == 0
    assert json.loads(before.read_text())["protocol"]["weights_sha256"] != first
    assert len(suites.asked.read_text().split()) == len(asked.split()) + 2
    assert planned() == ("finished", 2)


def test_timings_that_cannot_be_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "timings.jsonl").write_bytes(
        b'garbage\n[1]\n\xff\n{"run": "a", "seconds": NaN, "responses": 3}\n'
        b'{"run": "a", "seconds": 1e999, "responses": 3}\n'
        b'{"run": "a", "seconds": -5, "responses": 1}\n{"run": "a", "seconds": 6, "responses": 3}\n{"run": "a", "sec'
    )
    assert seconds_a_response(tmp_path) == {"a": 2.0}


def test_timings_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "timings.jsonl").mkdir()
    with pytest.raises(WriteError, match=r"timings\.jsonl: Is a directory"):
        add_timing(tmp_path, "a", 1.0, 1)
