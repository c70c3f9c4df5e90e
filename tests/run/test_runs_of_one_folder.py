"""Several runs in one folder can be told apart, and what was asked and wanted stands beside each response."""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from runs import MODEL, Finished, records_of

from avar_eval.pictures import image_sha256
from avar_eval.records.book import PROTOCOLS, RECORDS, RecordBook, RecordBookError
from avar_eval.records.journal import read_lines
from avar_eval.tasks.catalog import catalog, gold_answer, task_hooks
from avar_eval.tasks.shapes.task import load_split

Run = Callable[..., Finished]

ASKING = ("--model", MODEL, "--tasks", "shapes", "--max-new-tokens", "12", "--attention", "off")
NEW_FIELDS = ("protocol_id", "reference", "image_sha256")


def ran(run: Run, folder: Path, *options: str) -> dict[str, Any]:
    """The results of a run into the folder."""
    done = run(*ASKING, *options, "--output", str(folder))
    assert done.code == 0, done.stderr
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return results


def protocols(folder: Path) -> dict[str, dict[str, Any]]:
    return {key: line.protocol for key, line in read_lines(folder / "protocols.jsonl", PROTOCOLS).items()}


def asked_by(folder: Path) -> dict[str, set[str]]:
    """The rows whose records name each protocol."""
    rows: dict[str, set[str]] = {}
    for record in records_of(folder):
        rows.setdefault(record["protocol_id"], set()).add(record["row_id"])
    return rows


def test_two_runs_of_one_folder_are_told_apart(avar_eval: Run, tmp_path: Path) -> None:
    plain = ran(avar_eval, tmp_path, "--limit", "3")
    steered = ran(avar_eval, tmp_path, "--limit", "4", "--steer", "avar")
    of_rows = {plain["protocol_id"]: 3, steered["protocol_id"]: 4}
    assert {name: len(rows) for name, rows in asked_by(tmp_path).items()} == of_rows
    known = protocols(tmp_path)
    assert list(known) == list(of_rows)
    for results in (plain, steered):
        protocol = known[results["protocol_id"]]
        assert {name: results["protocol"][name] for name in protocol} == protocol, "the same as in results.json"
    assert known[plain["protocol_id"]]["steering"] is None
    assert known[steered["protocol_id"]]["steering"]["image"] == 0.15

    before = (tmp_path / "protocols.jsonl").read_bytes()
    assert ran(avar_eval, tmp_path, "--limit", "3") == plain, "its results.json made way, and comes back"
    assert (tmp_path / "protocols.jsonl").read_bytes() == before
    scored = avar_eval("score", str(tmp_path))
    assert scored.code == 0, scored.stderr
    assert json.loads((tmp_path / "results.json").read_text()) == plain
    alone = tmp_path / "alone"
    assert ran(avar_eval, alone, "--limit", "3")["protocol_id"] == plain["protocol_id"], "in every folder the same"
    compared = avar_eval("compare", str(tmp_path), str(alone), "--json")
    assert compared.code == 0, compared.stderr
    (comparison,) = json.loads(compared.stdout)
    assert (comparison["difference"]["value"], comparison["difference"]["n"]) == (0.0, 3), "rows of that run alone"


def test_a_record_that_runs_share_names_the_one_that_asked_first(avar_eval: Run, tmp_path: Path) -> None:
    first = ran(avar_eval, tmp_path, "--limit", "2")["protocol_id"]
    assert ran(avar_eval, tmp_path, "--limit", "3")["protocol_id"] == first, "more rows are asked in the same way"
    both = ran(avar_eval, tmp_path, "--limit", "3", "--tasks", "shapes,shapes_prior")["protocol_id"]
    assert both != first
    of_task = {(record["task"], record["protocol_id"]) for record in records_of(tmp_path)}
    assert of_task == {("shapes", first), ("shapes_prior", both)}
    assert list(protocols(tmp_path)[both]["tasks"]) == ["shapes", "shapes_prior"]


def test_a_record_holds_the_gold_answer_and_the_hashes_of_its_pictures(avar_eval: Run, tmp_path: Path) -> None:
    ran(avar_eval, tmp_path, "--limit", "4")
    entry = catalog()["shapes"]
    rows = {entry.row_id(row): row for row in islice(load_split("test"), 4)}
    records = records_of(tmp_path)
    assert {record["row_id"] for record in records} == set(rows)
    for record in records:
        row = rows[record["row_id"]]
        assert record["reference"] == gold_answer("shapes", row) == str(row["answer"])
        assert record["image_sha256"] == [image_sha256(image) for image in task_hooks("shapes").doc_to_visual(row)]
    assert len({record["image_sha256"][0] for record in records}) == 4


def without_new_fields(folder: Path) -> bytes:
    """The folder's book as it was before records had them, and its bytes."""
    lines = [{name: of for name, of in record.items() if name not in NEW_FIELDS} for record in records_of(folder)]
    text = "".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines)
    (folder / "records.jsonl").write_text(text, encoding="utf-8")
    (folder / "protocols.jsonl").unlink()
    return text.encode()


def test_an_older_book_is_gone_on_with_and_its_records_stay_as_they_are(avar_eval: Run, tmp_path: Path) -> None:
    results = ran(avar_eval, tmp_path, "--limit", "3")
    before = without_new_fields(tmp_path)
    assert ran(avar_eval, tmp_path, "--limit", "3") == results
    assert (tmp_path / "records.jsonl").read_bytes() == before
    assert not (tmp_path / "protocols.jsonl").exists(), "nothing was asked"
    old = {name: value for name, value in results.items() if name != "protocol_id"}
    (tmp_path / "results.json").write_text(json.dumps(old))
    assert avar_eval("score", str(tmp_path)).code == 0
    assert json.loads((tmp_path / "results.json").read_text()) == old | {"protocol_id": None}
    assert ran(avar_eval, tmp_path, "--limit", "5")["protocol_id"] == results["protocol_id"]
    assert (tmp_path / "records.jsonl").read_bytes().startswith(before)
    assert [record.get("protocol_id") for record in records_of(tmp_path)] == [None] * 3 + [results["protocol_id"]] * 2
    assert [len(RECORDS.decode(line).image_sha256 or ()) for line in before.splitlines()] == [0] * 3


def test_a_damaged_line_of_protocols_is_named(tmp_path: Path) -> None:
    (tmp_path / "protocols.jsonl").write_text('{"protocol_id": "a"}\n')
    with (
        RecordBook(tmp_path) as book,
        pytest.raises(RecordBookError, match=r"protocols\.jsonl, line 1 is not a protocol \(it has no protocol"),
    ):
        book.keep_protocol({"model": "m"})
