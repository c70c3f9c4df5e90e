"""Causal columns of whole runs: killed, resumed, added to older runs, by two processes, without images.

Each column is compared with plain generation and with passes over one row at a time.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from runs import MODEL, Finished, Server, records_of, start_two, wait_for_lines, wait_until

from avar_eval.causal.altered import grey
from avar_eval.causal.answers import answer_tokens
from avar_eval.causal.measures import Answered, measure_rows
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.models.decoding import Decoding
from avar_eval.models.transformers_backend import TransformersBackend
from avar_eval.records.attention import array_lines
from avar_eval.records.causal import CausalRecord
from avar_eval.records.journal import read_lines
from avar_eval.records.record import Record
from avar_eval.results.causal import causal_metrics
from avar_eval.run.questions import Question, user_turn
from avar_eval.run.session import Session
from avar_eval.tasks.shapes.dataset import rows

QUESTIONS, CHOSEN = 9, 6
OPTIONS = (
    *("--model", MODEL, "--tasks", "shapes", "--limit", str(QUESTIONS), "--max-new-tokens", "128", "--batch-size", "3"),
    *("--causal-samples", str(CHOSEN)),
)
FULL = (*OPTIONS, "--causal", "full", "--knockout-windows", "2")
PASSES = ("visual_dependence", "information", "knockout_answer", "knockout_response")
ALTERED = ("blind", "visual_gain", "mirage", "swap", "stubborn")

Run = Callable[..., Finished]


def succeeded(finished: Finished) -> None:
    assert finished.code == 0, finished.stderr


def task(folder: Path, name: str = "shapes") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())["tasks"][name]
    return found


def lines(folder: Path, name: str) -> list[bytes]:
    return sorted((folder / name).read_bytes().splitlines())


@pytest.fixture(scope="module")
def whole(avar_eval: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a full run that nothing disturbed; never to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    succeeded(avar_eval(*FULL, "--output", str(folder)))
    return folder


@pytest.fixture(scope="module")
def backend() -> TransformersBackend:
    return TransformersBackend(resolve_checkpoint(MODEL), "cpu")


def chosen(folder: Path) -> list[dict[str, Any]]:
    return [record for record in records_of(folder) if record["causal"]]


def ends_alike(folder: Path, whole: Path) -> None:
    assert (folder / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    for name in ("records.jsonl", "altered.jsonl", "causal.jsonl"):
        assert lines(folder, name) == lines(whole, name), name
        keys = [json.loads(line)["key"] for line in lines(folder, name)]
        assert len(set(keys)) == len(keys), name


def test_every_column_is_in_results_and_records(whole: Path) -> None:
    found = task(whole)
    records = chosen(whole)
    swapped = [record for record in records if record["causal"]["swap"]]
    assert CHOSEN - 2 <= len(swapped) <= CHOSEN, "one that is alone of its kind has no other's picture"
    for name in (*PASSES, *ALTERED):
        assert found["metrics"][name]["n"] == (len(swapped) if name in ("swap", "stubborn") else CHOSEN), name
        assert found["metrics"][name]["value"] is not None, name
    assert found["causal"] == {"rows": CHOSEN, "without_image": 0, "visual_gain_p": found["causal"]["visual_gain_p"]}
    assert len(records) == CHOSEN
    curves = read_lines(whole / "causal.jsonl", array_lines("dependence"))
    for record in records:
        causal = CausalRecord(**record["causal"])
        assert causal.tokens == len(record["response_token_ids"]) == len(curves[record["key"]]["dependence_by_token"])
        assert float(curves[record["key"]]["dependence_by_token"].mean()) == pytest.approx(causal.dependence, rel=0.01)
        assert [window.layers for window in causal.knockout_windows] == [(0, 1), (2, 4)]
    metrics = found["metrics"]
    for name, of in (("blind", records), ("swap", swapped)):
        assert metrics[name]["value"] == sum(record["causal"][name]["correct"] for record in of) / len(of)
    right = sum(record["judgement"]["correct"] for record in records) / CHOSEN
    assert metrics["visual_gain"]["value"] == pytest.approx(right - metrics["blind"]["value"])
    assert metrics["mirage"]["value"] == pytest.approx(metrics["blind"]["value"] / right)
    windows = [[record["causal"]["knockout_windows"][n] for record in records] for n in (0, 1)]
    for told, of_records in zip(found["knockout_windows"], windows, strict=True):
        assert told["layers"] == of_records[0]["layers"]
        for part in ("answer", "response"):
            assert told[part]["n"] == CHOSEN
            assert told[part]["value"] == pytest.approx(sum(of[part] for of in of_records) / CHOSEN)
            assert told[part]["ci95"][0] < told[part]["value"] < told[part]["ci95"][1]
    card = json.loads((whole / "results.json").read_text())["protocol"]["causal"]
    assert (card["mode"], card["samples"], card["blind"], card["knockout_windows"]) == ("full", CHOSEN, "grey", 2)


def test_blind_and_swap_are_plain_generation_with_the_other_image(whole: Path, backend: TransformersBackend) -> None:
    pictures = {row["id"]: row["image"].convert("RGB") for row in rows("test", QUESTIONS)}
    altered = {record["key"]: record for record in (json.loads(line) for line in lines(whole, "altered.jsonl"))}
    for record in chosen(whole):
        own, causal = pictures[record["row_id"]], record["causal"]
        asked = [(grey(own), causal["blind"])]
        if causal["swap"]:
            asked.append((pictures[causal["swap"]["image_of"]], causal["swap"]))
            assert asked[1][0].tobytes() != own.tobytes()
        for images, kept in asked:
            inputs = backend.encode([record["prompt"]], [[images]])
            (plain,) = backend.generate(inputs, Decoding(max_new_tokens=128), ["0" * 64])
            assert altered[kept["key"]]["response"] == plain.text
            assert altered[kept["key"]]["prompt_token_ids"] == record["prompt_token_ids"]
            assert altered[kept["key"]]["judgement"]["extracted"] == kept["extracted"]


def test_passes_of_a_run_are_those_of_each_row_alone(whole: Path, backend: TransformersBackend) -> None:
    pictures = {row["id"]: row["image"].convert("RGB") for row in rows("test", QUESTIONS)}
    for record in chosen(whole):
        tokens, extracted = record["response_token_ids"], record["judgement"]["extracted"]
        answer = answer_tokens(backend.processor.tokenizer, tokens, record["response"], extracted)
        (alone,) = measure_rows(
            backend, [Answered(record["prompt"], [pictures[record["row_id"]]], tokens, answer, record["reference"])]
        )
        causal = record["causal"]
        assert alone.mean_dependence == pytest.approx(causal["dependence"], rel=1e-3)
        assert alone.information == pytest.approx(causal["information"], rel=1e-3, abs=1e-3)
        assert alone.information_after_thought == pytest.approx(causal["information_after_thought"], rel=1e-3, abs=1e-3)
        assert alone.knockout is not None
        assert alone.knockout.answer == pytest.approx(causal["knockout_answer"], rel=1e-3, abs=1e-3)
        assert alone.knockout.response == pytest.approx(causal["knockout_response"], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("moment", ["records.jsonl", "altered.jsonl", "causal.jsonl"])
def test_killed_in_any_stage_it_ends_like_an_uninterrupted_run(
    server: Server, whole: Path, tmp_path: Path, moment: str
) -> None:
    for least in (1, 4):
        run = server.start(*FULL, "--output", str(tmp_path), stands_at={moment: least})
        wait_for_lines(tmp_path / moment, least)
        run.kill()
    succeeded(server.start(*FULL, "--output", str(tmp_path)).wait())
    ends_alike(tmp_path, whole)


def test_an_older_run_gets_its_columns_and_stays_the_run_that_it_is(
    avar_eval: Run, server: Server, tmp_path: Path, whole: Path
) -> None:
    succeeded(avar_eval(*OPTIONS, "--causal", "off", "--output", str(tmp_path)))
    before = json.loads((tmp_path / "results.json").read_text())
    assert not {*PASSES, *ALTERED} & task(tmp_path)["metrics"].keys()
    assert "causal" not in before["protocol"]
    asked = {record["key"]: record["response"] for record in records_of(tmp_path)}
    killed = server.start(*FULL, "--output", str(tmp_path))
    wait_until(lambda: b'"dependence":' in (tmp_path / "records.jsonl").read_bytes(), "columns")
    assert "other run" not in killed.kill().stderr
    again = avar_eval(*FULL, "--output", str(tmp_path))
    succeeded(again)
    assert "note" not in again.stderr
    assert {record["key"]: record["response"] for record in records_of(tmp_path)} == asked
    after = json.loads((tmp_path / "results.json").read_text())
    assert (after["run_id"], after["protocol_id"]) == (before["run_id"], before["protocol_id"])
    wanted = json.loads((whole / "results.json").read_text())
    for name, metric in wanted["tasks"]["shapes"]["metrics"].items():
        found = task(tmp_path)["metrics"][name]
        assert found["n"] == metric["n"]
        assert found["value"] == (metric["value"] and pytest.approx(metric["value"], rel=1e-4)), name
    succeeded(avar_eval(*OPTIONS, "--causal", "off", "--output", str(tmp_path)))
    assert json.loads((tmp_path / "results.json").read_text())["tasks"] == before["tasks"]
    assert len(chosen(tmp_path)) == CHOSEN, "what was measured stays in the book"


def test_fast_is_the_default_and_generates_nothing(avar_eval: Run, whole: Path, tmp_path: Path) -> None:
    succeeded(avar_eval(*OPTIONS, "--output", str(tmp_path)))
    assert not (tmp_path / "altered.jsonl").exists()
    found, wanted = task(tmp_path)["metrics"], task(whole)["metrics"]
    assert all(found[name] == wanted[name] for name in PASSES)
    assert not set(ALTERED) & found.keys()
    assert "knockout_windows" not in task(tmp_path), "none were asked for"
    off = json.loads((shutil.copytree(whole, tmp_path / "fast") / "results.json").read_text())
    succeeded(avar_eval(*OPTIONS, "--output", str(tmp_path / "fast")))
    assert not set(ALTERED) & task(tmp_path / "fast")["metrics"].keys()
    assert off["run_id"] == json.loads((tmp_path / "fast" / "results.json").read_text())["run_id"]


def test_two_processes_write_what_one_does(server: Server, whole: Path, tmp_path: Path) -> None:
    done = [one.wait() for one in start_two(server, *FULL, "--output", str(tmp_path))]
    assert [one.code for one in done] == [0, 0], [one.stderr for one in done]
    ends_alike(tmp_path, whole)
    assert not list(tmp_path.glob("*.rank*.jsonl"))


def test_rows_without_images_are_left_out_and_counted(whole: Path) -> None:
    records = [Record.model_validate(record) for record in chosen(whole)]
    words = [record.model_copy(update={"image_sha256": [], "causal": None}) for record in records]
    columns = (*PASSES, *ALTERED)
    mixed, counts = causal_metrics([*records, *words], str, columns)
    assert (counts.rows, counts.without_image) == (2 * CHOSEN, CHOSEN)
    assert mixed == causal_metrics(records, str, columns)[0]
    none, counts = causal_metrics(words, str, columns)
    assert (counts.rows, counts.without_image) == (CHOSEN, CHOSEN)
    assert all((metric.value, metric.n) == (None, 0) for metric in none.values())


def test_a_session_takes_questions_of_ones_own(tmp_path: Path) -> None:
    picture = Image.new("RGB", (112, 112), "red")
    questions = [
        Question("picture", lambda: user_turn("Is the picture red?", picture), causal=True),
        Question("words", lambda: user_turn("Is it red?"), causal=True),
        Question("plain", lambda: user_turn("Is the picture green?", picture)),
    ]
    with Session.of(MODEL, tmp_path, max_new_tokens=8, causal="full") as session:
        records = {record.row_id: record for record in session.ask(questions).records}
    assert records["picture"].causal is not None
    assert records["picture"].causal.dependence is not None
    assert records["picture"].causal.blind is not None
    assert records["picture"].causal.swap is None, "there is no other picture"
    assert records["words"].causal is None
    assert records["plain"].causal is None
