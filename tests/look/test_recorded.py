"""`avar-eval look RUN --row ID`: what was recorded is looked at again, as it was asked, and nothing else is."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import needs_chromium, opened
from PIL import Image
from runs import Finished, records_of

from avar_eval.records.journal import read_lines
from avar_eval.records.overlays import OVERLAYS

Run = Callable[..., Finished]
ASKED = ("--model", "avar-tiny", "--tasks", "shapes,shapes_prior", "--limit", "3", "--device", "cpu")


@pytest.fixture(scope="module")
def steered(avar_eval: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sampled run under steering, with a system turn of its own: all of it is to be the same in a look."""
    folder = tmp_path_factory.mktemp("looked") / "run"
    asked = ("--steer", "avar", "--system-prompt", "Look.", "--temperature", "0.7", "--samples", "2")
    done = avar_eval(*ASKED, *asked, "--max-new-tokens", "40", "--output", str(folder))
    assert done.code == 0, done.stderr
    return folder


def copied(run: Path, place: Path) -> Path:
    """A copy that nobody has looked at."""
    return Path(shutil.copytree(run, place, ignore=shutil.ignore_patterns("overlays.jsonl", "look")))


def test_the_masses_are_those_of_the_record(avar_eval: Run, steered: Path, tmp_path: Path) -> None:
    record = next(one for one in records_of(steered) if one["task"] == "shapes" and one["attention"])
    before = (steered / "records.jsonl").read_bytes()
    done = avar_eval(
        "look", str(steered), "--row", record["row_id"], "--task", "shapes", "--output", str(tmp_path), "--json"
    )
    assert done.code == 0, done.stderr
    looked = json.loads(done.stdout)
    for name in ("user", "response"):
        of, recorded = looked["queries"][name], record["attention"][name]
        assert of["tokens"] == recorded["tokens"]
        for measure in ("vas", "vas_without_sink", "ratio_of_sums", "vas_by_layer"):
            assert of[measure] == pytest.approx(recorded[measure], rel=1e-4)
        for group, shares in recorded["share_by_layer"].items():
            assert of["share_by_layer"][group] == pytest.approx(shares, rel=1e-4, abs=1e-6)
        on_tokens = sum(sum(image["share"][name]) for image in looked["image_tokens"])
        assert on_tokens == pytest.approx(of["share"]["image"], rel=1e-4), "steered there as well"
    assert (looked["prompt"], looked["response"]) == (record["prompt"], record["response"])
    assert looked["finish_reason"] == record["finish_reason"]
    assert looked["system"] == "Look."
    assert (steered / "records.jsonl").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} >= {"image.png", "layers.png", "response.png"}


def test_another_sample_is_another_look(avar_eval: Run, steered: Path, tmp_path: Path) -> None:
    said = []
    for sample in ("0", "1"):
        place = ("--row", "test-0-1", "--task", "shapes", "--sample", sample, "--output", str(tmp_path), "--json")
        said.append(json.loads(avar_eval("look", str(steered), *place).stdout)["response"])
    of_row = [one for one in records_of(steered) if (one["task"], one["row_id"]) == ("shapes", "test-0-1")]
    recorded = [one["response"] for one in sorted(of_row, key=lambda one: one["sample"])]
    assert said == recorded
    assert len(set(said)) == 2


def test_what_cannot_be_looked_at_is_one_message(avar_eval: Run, steered: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(steered, tmp_path / "other"))
    results = json.loads((other / "results.json").read_text())
    results["protocol"]["weights_sha256"] = "00" * 32
    (other / "results.json").write_text(json.dumps(results))
    gone = Path(shutil.copytree(steered, tmp_path / "gone"))
    results["protocol"] |= {"weights_sha256": "00" * 32, "model": "./gone", "command": "avar-eval --model ./gone"}
    (gone / "results.json").write_text(json.dumps(results))
    changed = Path(shutil.copytree(steered, tmp_path / "changed"))
    lines = records_of(changed)
    for line in lines:
        line["image_sha256"] = ["00" * 32]
    (changed / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shapes = ("--row", "test-0-1", "--task", "shapes")
    cases: list[tuple[tuple[Any, ...], int, str]] = [
        ((steered,), 2, "is a finished run: give --row ID"),
        (("avar-tiny",), 2, "give --prompt, and --image"),
        ((steered, "--row", "nowhere"), 2, "has no record of row 'nowhere', sample 0, in shapes, shapes_prior"),
        ((steered, "--row", "test-0-1"), 2, "is in several tasks of"),
        ((steered, "--row", "test-0-1", "--task", "mmmu"), 2, "has no task 'mmmu'; it has shapes, shapes_prior"),
        ((steered, *shapes, "--sample", "2"), 2, "of that row there are samples 0 to 1"),
        ((steered, *shapes, "--prompt", "What?"), 2, "--prompt asks otherwise"),
        ((steered, *shapes, "--max-new-tokens", "3"), 2, "--max-new-tokens asks otherwise"),
        ((tmp_path / "nowhere", *shapes), 1, "holds no finished run"),
        ((other, *shapes), 2, "has other weights, configuration or chat template"),
        ((gone, *shapes), 2, "--model says where it lies now"),
        ((changed, *shapes), 2, "the pictures of row test-0-1 of shapes are not at hand"),
    ]
    for arguments, code, message in cases:
        done = avar_eval("look", *map(str, arguments))
        assert (done.code, done.stdout) == (code, ""), arguments
        assert message in done.stderr, arguments
        assert "Traceback" not in done.stderr


def test_answers_of_an_endpoint_are_looked_at_with_its_weights(avar_eval: Run, steered: Path, tmp_path: Path) -> None:
    """Its prompts are messages, and its command names the weights that it served."""
    run = copied(steered, tmp_path / "served")
    results = json.loads((run / "results.json").read_text())
    results["protocol"] |= {"backend": {"backend": "api"}, "model": "served-model"}
    results["protocol"]["command"] = "avar-eval --model served-model --backend api --api-weights avar-tiny"
    (run / "results.json").write_text(json.dumps(results))
    records = records_of(run)
    for record in records:
        question = record["prompt"].partition("<|vision_end|>")[2].partition("<|im_end|>")[0]
        content = [{"type": "image"}, {"type": "text", "text": question}]
        messages = [{"role": "system", "content": "Look."}, {"role": "user", "content": content}]
        record |= {"prompt": json.dumps(messages), "prompt_token_ids": []}
    (run / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    record = next(one for one in records if one["task"] == "shapes" and one["attention"])
    place = ("--row", record["row_id"], "--task", "shapes", "--output", str(tmp_path / "pictures"), "--json")
    done = avar_eval("look", str(run), *place)
    assert done.code == 0, done.stderr
    looked = json.loads(done.stdout)["queries"]["response"]
    assert looked["vas"] == pytest.approx(record["attention"]["response"]["vas"], rel=1e-4)
    results["protocol"]["weights_sha256"] = None
    (run / "results.json").write_text(json.dumps(results))
    assert "an endpoint whose weights are not known" in avar_eval("look", str(run), *place).stderr


@needs_chromium
def test_the_viewer_shows_where_it_looked(avar_eval: Run, steered: Path, tmp_path: Path) -> None:
    run = copied(steered, tmp_path / "run")
    done = avar_eval("view", str(run), "--output", str(tmp_path / "page"), "--overlays", "2")
    assert done.code == 0, done.stderr
    lines = read_lines(run / "overlays.jsonl", OVERLAYS)
    records = {one["key"]: one for one in records_of(run)}
    assert len(lines) == 4, "two of each task"
    for task in ("shapes", "shapes_prior"):
        looked = [records[key]["judgement"]["correct"] for key in lines if records[key]["task"] == task]
        wrong = sum(not one["judgement"]["correct"] for one in records.values() if one["task"] == task)
        assert looked.count(False) == min(2, wrong), "the wrong ones first"
    key = next(key for key in lines if records[key]["task"] == "shapes")
    row = records[key]
    address = f"{(tmp_path / 'page' / 'index.html').as_uri()}#shapes/{row['row_id']}/{row['sample']}"
    with opened(address) as browser:
        browser.seconds_until("#row figure canvas.heat")
        assert "of the attention of the answer's tokens is on this picture" in browser.page.inner_text(
            "#row figcaption"
        )
        browser.page.get_by_role("button", name="seen from the question").click()
        share = lines[key].pictures[0].queries["user"].share
        assert f"{100 * share:.1f} % of the attention of the question's tokens" in browser.page.inner_text(
            "#row figcaption"
        )
        boxes = [browser.page.locator(f"#row figure {one}").first.bounding_box() for one in ("img", "canvas.heat")]
        assert boxes[0] is not None
        assert boxes[1] is not None
        assert boxes[0]["width"] == pytest.approx(boxes[1]["width"], abs=2)
        assert boxes[0]["height"] == pytest.approx(boxes[1]["height"], abs=4)
        assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"], "side by side"
        drawn = browser.page.locator("#row canvas.heat").evaluate(
            "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
        )
        assert len(np.unique(np.array(drawn).reshape(-1, 4), axis=0)) > 2, "it is not of one colour"
        assert "avar-tiny: " not in browser.page.inner_text("#row figcaption")
        browser.page.get_by_role("button", name="picture", exact=True).click()
        assert browser.page.locator("#row canvas").count() == 0
        assert browser.errors == browser.outside == []
    plain = copied(steered, tmp_path / "plain")
    assert avar_eval("view", str(plain), str(run), "--output", str(tmp_path / "two")).code == 0
    with opened(address.replace("/page/", "/two/")) as browser:
        browser.seconds_until("#row figure canvas.heat")
        assert browser.page.inner_text("#row figcaption").startswith("avar-tiny (run): "), "whose it is, of two"
    before = (run / "overlays.jsonl").read_bytes()
    assert avar_eval("view", str(run), "--output", str(tmp_path / "page"), "--overlays", "2").code == 0
    assert (run / "overlays.jsonl").read_bytes() == before, "none is made twice"


def test_a_run_that_cannot_be_written_to_is_looked_at_all_the_same(
    avar_eval: Run, steered: Path, tmp_path: Path
) -> None:
    run = copied(steered, tmp_path / "run")
    (run / "overlays.jsonl").mkdir()
    place = ("--row", "test-0-1", "--task", "shapes", "--output", str(tmp_path / "pictures"))
    done = avar_eval("look", str(run), *place)
    assert done.code == 0, done.stderr
    assert "`avar-eval view` will not show where it looked" in done.stderr
    with Image.open(tmp_path / "pictures" / "image.png") as picture:
        assert picture.format == "PNG"
