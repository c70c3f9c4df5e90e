"""Pictures of training rows: limits of pixels as the official code keeps them, and prompts that are made to fit."""

import math
from typing import Any

import pytest
import training as runs
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from avar_eval.errors import UsageError
from avar_eval.models.image_limits import ImageLimits
from avar_eval.recipes.data import drop_too_long, token_count
from avar_eval.recipes.pictures import fit_pictures, within_tokens
from avar_eval.recipes.recipe import read_recipe, shipped
from avar_eval.recipes.run import DataArguments, image_limits

SIDES = st.integers(30, 3000)


def their_size(width: int, height: int, most: int) -> tuple[int, int]:
    """`_preprocess_image` of LLaMA-Factory's mm_plugin.py, and `process_image` of EasyR1's dataset.py."""
    if width * height > most:
        factor = math.sqrt(most / (width * height))
        width, height = int(width * factor), int(height * factor)
    return width, height


@given(SIDES, SIDES, st.sampled_from([262_144, 1_048_576, 4_194_304]))
def test_pictures_get_the_size_that_the_official_code_gives_them(width: int, height: int, most: int) -> None:
    assert ImageLimits(max_pixels=most).resized_size(width, height) == their_size(width, height, most)


def row(size: tuple[int, int], words: int = 3) -> dict[str, Any]:
    prompt = [{"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "why " * words}]}]
    answer = [{"role": "assistant", "content": [{"type": "text", "text": "So."}]}]
    return {"images": [Image.effect_noise(size, 50).convert("RGB")], "prompt": prompt, "completion": answer}


def test_rows_keep_their_pictures_or_get_smaller_ones(capsys: pytest.CaptureFixture[str]) -> None:
    rows = runs.dataset([row((200, 100)), row((40, 30)), row((90, 90))])
    fitted = fit_pictures(rows, runs.processor(), ImageLimits(min_pixels=1800, max_pixels=9000), None)
    assert [one["images"][0].size for one in fitted] == [(134, 67), (49, 37), (90, 90)]
    assert fitted[2]["images"][0].tobytes() == rows[2]["images"][0].tobytes()
    assert fitted.features == rows.features
    assert "2 of 3 rows have their pictures resized" in capsys.readouterr().out
    assert fit_pictures(rows, runs.processor(), ImageLimits(), None) is rows


def test_pictures_of_a_prompt_that_is_too_long_are_made_smaller() -> None:
    processor = runs.processor()
    processor.image_processor.size = type(processor.image_processor.size)(shortest_edge=784, longest_edge=784 * 200)
    large, wordy = row((400, 300)), row((60, 60), words=80)
    tokens, seen = token_count(large, processor)
    assert seen > 100
    limit = tokens - seen + 30
    (smaller,) = within_tokens(large, large["images"], processor, limit)
    assert token_count({**large, "images": [smaller]}, processor)[0] <= limit
    assert smaller.width / smaller.height == pytest.approx(4 / 3, rel=0.05)
    assert token_count({**large, "images": [smaller]}, processor)[1] > 15, "no smaller than need be"
    rows = runs.dataset([large, wordy])
    kept = drop_too_long(fit_pictures(rows, processor, ImageLimits(), limit), processor, limit)
    assert len(kept) == 1, "the words of the other do not fit"
    assert kept[0]["images"][0].size == smaller.size


def test_limits_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="image_min_pixels 5 is above image_max_pixels 4"):
        image_limits(DataArguments(train_data="shapes", image_min_pixels=5, image_max_pixels=4))


@pytest.mark.parametrize("name", [name for name in shipped() if not name.startswith(("tiny", "smol"))])
def test_recipes_have_the_official_code_s_pixels(name: str) -> None:
    recipe = read_recipe(name)
    most = {"sft": 262_144, "grpo": 1_048_576 if "24gb" in name else 4_194_304}[recipe.card.method]
    assert recipe.options["image_max_pixels"] == most
