"""Cold-start sets of others, from rows in the forms that their authors' code reads."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from avar_eval.errors import UsageError
from avar_eval.recipes.data import load
from avar_eval.recipes.sources import TrainingDataError, check_source

PICTURE = Image.new("RGB", (56, 28), (10, 200, 30))
ANSWER = "<think>So.</think><answer>2</answer>"


def png() -> bytes:
    content = io.BytesIO()
    PICTURE.save(content, format="PNG")
    return content.getvalue()


def told(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (turn["role"], "".join("<image>" if part["type"] == "image" else part["text"] for part in turn["content"]))
        for turn in [*row["prompt"], *row["completion"]]
    ]


def test_r1_onevision_has_its_pictures_in_base64(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "<image>How many?"}, {"from": "gpt", "value": ANSWER}]
    unplaced = {"from": "human", "value": "How many?"}
    text = base64.b64encode(png()).decode()
    rows = [
        {"id": "a", "image": text, "conversations": turns},
        {"id": "b", "image": f"data:image/png;base64,{text}", "conversations": [unplaced, turns[1]]},
        {"id": "c", "image": None, "conversations": [{"from": "human", "value": "1 + 1?"}, turns[1]]},
    ]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    loaded = load(f"r1_onevision={tmp_path}", "sft", system_prompt=None)
    assert [told(row) for row in loaded] == [
        [("user", "<image>How many?"), ("assistant", ANSWER)],
        [("user", "<image>How many?"), ("assistant", ANSWER)],
        [("user", "1 + 1?"), ("assistant", ANSWER)],
    ]
    assert [len(row["images"]) for row in loaded] == [1, 1, 0]
    assert loaded[1]["images"][0].getpixel((3, 3)) == (10, 200, 30)


def test_vision_r1_cold_is_two_files_with_pictures_of_their_own(tmp_path: Path) -> None:
    for place in ("llava_cot_images/coco/1.png", "mulberry_images/AI2D/2.png"):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_bytes(png())
    first = {
        "id": "1",
        "image": "llava_cot_images/coco/1.png",
        "conversations": [{"from": "human", "value": "<image>How many?"}, {"from": "gpt", "value": ANSWER}],
    }
    second = {
        "images": ["AI2D/2.png"],
        "conversations": [{"from": "user", "value": "<image>Which?"}, {"from": "assistant", "value": ANSWER}],
    }
    (tmp_path / "vision_r1_llava_cot_full.json").write_text(json.dumps([first]))
    (tmp_path / "vision_r1_mulberry_sft_full.json").write_text(json.dumps([second]))
    loaded = load(f"vision_r1_cold={tmp_path}", "sft", system_prompt=None)
    assert [told(row)[0] for row in loaded] == [("user", "<image>How many?"), ("user", "<image>Which?")]
    assert all(row["images"][0].size == (56, 28) for row in loaded)
    for name in ("vision_r1_llava_cot_full.json", "vision_r1_mulberry_sft_full.json"):
        (tmp_path / name).unlink()
    with pytest.raises(TrainingDataError, match="holds neither of vision_r1_llava_cot_full"):
        load(f"vision_r1_cold={tmp_path}", "sft", system_prompt=None)


def test_vision_sr1_cold_finds_its_pictures_in_the_download(tmp_path: Path) -> None:
    (tmp_path / "cold_start").mkdir()
    (tmp_path / "cold_start" / "7.jpg").write_bytes(png())
    row = {
        "messages": [
            {"role": "user", "content": "Question: How many? <image>"},
            {"role": "assistant", "content": ANSWER},
        ],
        "images": ["cold_start_9k/images/7.jpg"],
    }
    (tmp_path / "train.json").write_text(json.dumps([row]))
    (tmp_path / "dataset_info.json").write_text("{}")
    (loaded,) = load(f"vision_sr1_cold={tmp_path}", "sft", system_prompt=None)
    assert told(loaded) == [("user", "Question: How many? <image>"), ("assistant", ANSWER)]
    assert loaded["images"][0].size == (56, 28)


@pytest.mark.parametrize("name", ["vision_r1_cold", "vision_sr1_cold"])
def test_what_is_no_table_of_the_hub_is_downloaded_first(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is no table on the hub: download .* give {name}=FOLDER"):
        check_source(name)
