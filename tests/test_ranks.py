"""Two processes that answer one run together end like one process, also after a kill; their files merge once."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from runs import MODEL, Finished, Running, Server, start_two, wait_until

from avar_eval.attention.record import AttentionRecord
from avar_eval.attention.roles import Role
from avar_eval.errors import UsageError
from avar_eval.ranks import Ranks, init_ranks, launched
from avar_eval.records.attention import ATTENTION_LINES, attention_line
from avar_eval.records.book import RecordBook, read_records
from avar_eval.records.journal import read_lines
from avar_eval.records.record import Record

OPTIONS = ("--model", MODEL, "--tasks", "shapes", "--limit", "14", "--max-new-tokens", "16", "--batch-size", "2")


@pytest.fixture(scope="module")
def alone(avar_eval: Callable[..., Finished], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one process; never to be changed."""
    folder = tmp_path_factory.mktemp("alone")
    done = avar_eval(*OPTIONS, "--output", str(folder))
    assert done.code == 0, done.stderr
    return folder


FILES = ("records.jsonl", "records.rank1.jsonl")
"""What each of the two processes appends to."""


def start(server: Server, output: Path, standing: Sequence[int] = ()) -> list[Running]:
    """standing: those of them that stand still after their first records."""
    stands_at = {FILES[rank]: 1 for rank in standing}
    return start_two(server, *OPTIONS, "--output", str(output), stands_at=stands_at)


def wait_for_records_of(output: Path, *ranks: int) -> None:
    files = [output / FILES[rank] for rank in ranks]
    wait_until(lambda: all(file.exists() and file.stat().st_size for file in files), f"records in {files}")


def ended_alike(output: Path, alone: Path) -> None:
    assert (output / "results.json").read_bytes() == (alone / "results.json").read_bytes()
    lines = [sorted((folder / "records.jsonl").read_bytes().split(b"\n")) for folder in (output, alone)]
    assert lines[0] == lines[1]
    attention = [
        {key: str(line) for key, line in read_lines(of / "attention.jsonl", ATTENTION_LINES).items()}
        for of in (output, alone)
    ]
    assert attention[0] == attention[1]
    assert not list(output.glob("*.rank*.jsonl"))


def test_two_processes_write_the_results_of_one_also_when_killed(server: Server, alone: Path, tmp_path: Path) -> None:
    running = start(server, tmp_path, standing=(0, 1))
    wait_for_records_of(tmp_path, 0, 1)
    for one in running:
        one.kill()
    before = {key: record for name in FILES for key, record in read_records(tmp_path / name).items()}
    assert len(before) >= 2
    done = [one.wait() for one in start(server, tmp_path)]
    assert [one.code for one in done] == [0, 0], [one.stderr for one in done]
    assert "accuracy" in done[0].stdout
    assert done[1].stdout == ""
    after = read_records(tmp_path / "records.jsonl")
    assert {key: after[key] for key in before} == before, "what was recorded is not asked again"
    ended_alike(tmp_path, alone)


@pytest.mark.parametrize("dying", [0, 1])
def test_when_one_process_dies_the_other_says_so_and_the_same_command_goes_on(
    server: Server, alone: Path, tmp_path: Path, dying: int
) -> None:
    running = start(server, tmp_path, standing=[dying])
    wait_for_records_of(tmp_path, dying)
    running[dying].kill()
    done = running[1 - dying].wait()
    assert done.code == 1
    assert "another process of this run has ended early" in done.stderr
    assert "run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    assert [one.wait().code for one in start(server, tmp_path)] == [0, 0]
    ended_alike(tmp_path, alone)


def a_record(key: str, response: str = "1") -> Record:
    return Record(
        key=key,
        task="shapes",
        row_id=key,
        sample=0,
        prompt="Why?",
        prompt_token_ids=[1],
        response_token_ids=[2],
        response=response,
        finish_reason="stop",
    )


def test_files_of_ranks_are_taken_in_once_whatever_was_killed(tmp_path: Path) -> None:
    with RecordBook(tmp_path) as book:
        book.append([a_record("a"), a_record("b")])
        with RecordBook(tmp_path, rank=1) as other:
            assert other.get("a") == a_record("a")
            other.append([a_record("c")])
            whole = other.path.read_bytes()
            book.take_in_ranks()
            other.read_first()
            other.append([a_record("d")])
    assert [record.key for record in read_records(tmp_path / "records.jsonl").values()] == ["a", "b", "c"]
    again = tmp_path / "records.rank3.jsonl"
    again.write_bytes(whole + b'{"key": "torn')  # killed after taking in, before the file was removed
    with RecordBook(tmp_path) as book:
        assert [record.key for record in book] == ["a", "b", "c", "d"]
    assert (tmp_path / "records.jsonl").read_bytes().count(b"\n") == 4
    assert not list(tmp_path.glob("records.rank*"))


def test_attention_of_ranks_is_taken_in(tmp_path: Path) -> None:
    masses = {name: torch.full((2, 2, 1), 0.2) for name in ("image", "system", "sink", "user", "response", "template")}
    roles = torch.tensor([Role.SYSTEM, Role.IMAGE, Role.USER])
    measured = AttentionRecord(masses, masses["system"], roles, torch.tensor([2]), (0, 1))
    with RecordBook(tmp_path) as book, RecordBook(tmp_path, rank=1) as other:
        book.attention.append([attention_line("a", measured)])
        other.attention.append([attention_line("b", measured)])
        with (tmp_path / "attention.rank1.jsonl").open("a") as file:
            file.write("torn")
        book.take_in_ranks()
        book.take_in_ranks()
    assert list(read_lines(tmp_path / "attention.jsonl", ATTENTION_LINES)) == ["a", "b"]
    assert len((tmp_path / "attention.jsonl").read_text().splitlines()) == 2


def test_shards_share_out_everything_once() -> None:
    shards = Ranks(1, 3).shards(list(range(8)))
    assert sorted(item for shard in shards for item in shard) == list(range(8))
    assert shards[1] == Ranks(1, 3).shard(list(range(8)))


def test_variables_of_a_launcher_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched() == Ranks()
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    assert launched() == Ranks(1, 2, 1)
    with pytest.raises(UsageError, match="MASTER_ADDR is not set"):
        init_ranks()
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(UsageError, match="no numbers: RANK=first"):
        launched()


def test_one_launched_process_is_one_process(avar_eval: Callable[..., Finished], alone: Path) -> None:
    variables = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    done = avar_eval(*OPTIONS, "--output", str(alone), "--json", **variables)
    assert json.loads(done.stdout)["run_id"], "one launched process is one process"
