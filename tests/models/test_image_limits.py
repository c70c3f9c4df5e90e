"""Limits of pictures' pixels: what is left of a picture, and the image tokens that each family makes of it."""

from collections.abc import Callable
from math import prod
from typing import Any

import pytest
from endpoint import KEY, Endpoint, pictures, served
from family_models import FAMILIES, Family
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rendered import Question

from avar_eval.attention.chat_formats import find_format
from avar_eval.errors import UsageError
from avar_eval.models.api_backend import ApiBackend, served_model
from avar_eval.models.backend_options import ApiOptions
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.models.decoding import Decoding
from avar_eval.models.image_limits import ImageLimits, apply_limits
from avar_eval.models.transformers_backend import TransformersBackend
from avar_eval.run.asking import Asking
from avar_eval.run.model import resolve

SIDES = st.integers(1, 4000)


@given(SIDES, SIDES, st.integers(1, 2_000_000), st.integers(1, 2_000_000))
def test_a_resized_picture_is_within_the_limits(width: int, height: int, one: int, other: int) -> None:
    limits = ImageLimits(min_pixels=min(one, other), max_pixels=max(one, other))
    new = limits.resized_size(width, height)
    assert min(new) >= 1
    assert prod(new) <= max(one, other)
    if min(one, other) <= width * height <= max(one, other):
        assert new == (width, height)
    alone = ImageLimits(min_pixels=one).resized_size(width, height)
    assert prod(alone) >= one
    assert (alone == (width, height)) == (width * height >= one)


def test_proportions_stay() -> None:
    assert ImageLimits(max_pixels=100 * 50).resized_size(400, 200) == (100, 50)
    assert ImageLimits(min_pixels=100 * 50).resized_size(40, 20) == (100, 50)
    assert ImageLimits().resized_size(40, 20) == (40, 20)
    picture = Image.new("P", (40, 20))
    assert ImageLimits(max_pixels=200).resized(picture).size == (20, 10)
    assert ImageLimits(max_pixels=800).resized(picture) is picture


def image_tokens(processor: Any, size: tuple[int, int]) -> int:
    """Image placeholders of a prompt with one picture."""
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}]
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[text], images=[[Image.new("RGB", size, "red")]], return_tensors="pt")
    placeholder = find_format(processor).placeholder
    return int((inputs["input_ids"] == processor.tokenizer.convert_tokens_to_ids(placeholder)).sum())


def with_settings(processor: Any, settings: dict[str, Any]) -> Any:
    """The processor with an image processor that transformers makes with other settings."""
    made = type(processor.image_processor)(**processor.image_processor.to_dict() | settings)
    processor.image_processor = made
    return processor


def limited(family: Family, limits: ImageLimits) -> Callable[[tuple[int, int]], int]:
    """Image tokens of a picture of that size under limits."""
    processor = family.processor()
    applied = apply_limits(limits, processor, find_format(processor).family, family.model_type)
    return lambda size: image_tokens(processor, applied.before.resized_size(*size))


SIZES = [(20, 20), (60, 50), (300, 100), (640, 480)]

OWN = {
    # the settings of the family's own image processor that mean 1,568 to 6,272 pixels (or, for tiles, at most so many)
    "qwen2_vl": {"size": {"shortest_edge": 1568, "longest_edge": 6272}},
    "qwen2_5_vl": {"size": {"shortest_edge": 1568, "longest_edge": 6272}},
    "qwen3_vl": {"size": {"shortest_edge": 1568, "longest_edge": 6272}},
    "internvl": {"min_patches": 2, "max_patches": 8},
}


@pytest.mark.parametrize("family", OWN)
@pytest.mark.parametrize("size", SIZES)
def test_image_tokens_are_those_of_transformers_own_processor(family: str, size: tuple[int, int]) -> None:
    of = limited(FAMILIES[family], ImageLimits(min_pixels=1568, max_pixels=6272))
    processor = with_settings(FAMILIES[family].processor(), OWN[family])
    assert of(size) == image_tokens(processor, size)
    unlimited = FAMILIES[family].processor()
    assert {image_tokens(unlimited, one) for one in SIZES} != {of(one) for one in SIZES}, "limits do something"


@pytest.mark.parametrize("kind", ["idefics3", "smolvlm"])
def test_the_longest_side_of_idefics_is_that_of_a_square(kind: str) -> None:
    family = FAMILIES[kind]
    processor = with_settings(family.processor(), {"size": {"longest_edge": 84}})
    of = limited(family, ImageLimits(max_pixels=100 * 100))  # tiles of 84 x 84: one
    assert [of(size) for size in SIZES] == [image_tokens(processor, size) for size in SIZES]
    assert of((640, 480)) < image_tokens(family.processor(), (640, 480))


@pytest.mark.parametrize("kind", ["llava_onevision", "mllama"])
def test_families_that_choose_a_canvas_get_a_resized_picture(kind: str) -> None:
    processor = FAMILIES[kind].processor()
    applied = apply_limits(ImageLimits(max_pixels=900), processor, find_format(processor).family, kind)
    assert applied.before == ImageLimits(max_pixels=900)
    assert not applied.settings
    assert image_tokens(processor, applied.before.resized_size(640, 480)) <= image_tokens(processor, (640, 480))


@pytest.mark.parametrize(
    ("kind", "limits", "said"),
    [
        ("gemma3", ImageLimits(max_pixels=900), r"--image-max-pixels change nothing of gemma3: .* becomes 56x56"),
        (
            "internvl",
            ImageLimits(max_pixels=700),
            "whole tiles of 784 pixels, .*: --image-max-pixels 700 leaves",
        ),
        ("idefics3", ImageLimits(max_pixels=7000), "--image-max-pixels 7000 is below the 7056 pixels of one"),
        ("smolvlm", ImageLimits(min_pixels=7000), "--image-min-pixels cannot be kept by smolvlm"),
        ("qwen2_5_vl", ImageLimits(min_pixels=99999), "with --image-min-pixels 99999 give --image-max-pixels too"),
        ("qwen2_5_vl", ImageLimits(max_pixels=100), "with --image-max-pixels 100 give --image-min-pixels too"),
    ],
)
def test_limits_that_a_family_cannot_keep_are_refused(kind: str, limits: ImageLimits, said: str) -> None:
    processor = FAMILIES[kind].processor()
    with pytest.raises(UsageError, match=said):
        apply_limits(limits, processor, find_format(processor).family, kind)


def test_no_limits_leave_a_processor_and_record_keys_as_they_are() -> None:
    plain = TransformersBackend(resolve_checkpoint("avar-tiny"), "cpu")
    limited = TransformersBackend(
        resolve_checkpoint("avar-tiny"), "cpu", image_limits=ImageLimits(min_pixels=3136, max_pixels=3136)
    )
    assert plain.identity() == {}
    assert limited.identity() == {"image_min_pixels": "3136", "image_max_pixels": "3136"}
    prompt = [plain.render([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Red?"}]}])]
    picture = Image.new("RGB", (112, 112), "red")
    grids = [one.encode(prompt, [[picture]])["image_grid_thw"].prod().item() for one in (plain, limited)]
    assert grids == [64, 16]


def test_the_limits_of_a_model_and_of_a_command() -> None:
    eureka = resolve(Asking(model="mm-eureka"))
    assert eureka.image_limits == ImageLimits(min_pixels=128 * 28**2, max_pixels=16384 * 28**2)
    other = resolve(Asking(model="mm-eureka", image_max_pixels=262144))
    assert other.image_limits == ImageLimits(min_pixels=128 * 28**2, max_pixels=262144)
    assert not resolve(Asking(model="qwen2.5-vl-7b")).image_limits
    with pytest.raises(UsageError, match="--image-min-pixels 100352 is above --image-max-pixels 5"):
        resolve(Asking(model="mm-eureka", image_max_pixels=5))


def test_an_endpoint_is_sent_pictures_within_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    with served(Endpoint()) as endpoint:
        options = ApiOptions(url=endpoint.url, key_env="TEST_KEY")
        api = ApiBackend(served_model("served", None), options, image_limits=ImageLimits(max_pixels=30 * 20))
        asked = api.render([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Red?"}]}])
        list(api.answer([Question(asked, pictures=[Image.new("RGB", (300, 200))])], Decoding(max_new_tokens=5)))
        (body,) = endpoint.bodies
    assert [picture.size for picture in pictures(body)] == [(30, 20)]
    assert api.identity()["image_max_pixels"] == "600"
