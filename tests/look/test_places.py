"""A token's place is where changed pixels change it: the true processor, and the true model up to its decoder."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from family_models import FAMILIES, lively_model
from PIL import Image

from avar_eval.attention.chat_formats import LLAMA_VISION, find_format
from avar_eval.look.places import UnknownPlacesError, heat_map, image_token_places

_MIXING = (
    "attn.proj.",
    "out_proj.",
    "projection_layer.",
)  # of the vision towers' attention: how patches hear of others


class Seer:
    """A family's processor and model, whose vision tower is made to see each patch by itself."""

    def __init__(self, name: str) -> None:
        family = FAMILIES[name]
        self.processor = family.processor()
        self.model = lively_model(family.config(self.processor.tokenizer))
        for parameter_name, parameter in self.model.named_parameters():
            if not re.search("language_model|text_model", parameter_name) and any(
                part in parameter_name for part in _MIXING
            ):
                parameter.data.zero_()

    def inputs(self, pictures: list[Image.Image]) -> Any:
        content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": "What is this?"}]
        prompt = self.processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
        return self.processor(text=[prompt], images=[pictures], return_tensors="pt")

    def is_image(self, inputs: Any) -> torch.Tensor:
        token = self.processor.tokenizer.convert_tokens_to_ids(find_format(self.processor).placeholder)
        return inputs["input_ids"][0] == token

    def embeddings(self, pictures: list[Image.Image]) -> torch.Tensor:
        """What the decoder gets for each image token."""
        seen: list[torch.Tensor] = []
        hook = self.model.model.get_decoder().register_forward_pre_hook(
            lambda _, __, kwargs: seen.append(kwargs["inputs_embeds"][0]), with_kwargs=True
        )
        inputs = self.inputs(pictures)
        with torch.inference_mode():
            self.model(**inputs)
        hook.remove()
        return seen[0][self.is_image(inputs)]

    def places(self, pictures: list[Image.Image]) -> list[np.ndarray]:
        inputs = self.inputs(pictures)
        sizes = [picture.size for picture in pictures]
        form = find_format(self.processor)
        return image_token_places(form, self.processor, inputs, sizes, int(self.is_image(inputs).sum()))


def with_patch(picture: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    """A copy with a bright patch; box in fractions."""
    bright = picture.copy()
    width, height = picture.size
    bright.paste((255, 255, 255), tuple(round(x * side) for x, side in zip(box, (width, height) * 2, strict=True)))
    return bright


BOXES = [(0.0, 0.0, 0.26, 0.26), (0.62, 0.1, 0.88, 0.4), (0.1, 0.55, 0.5, 0.95), (0.74, 0.74, 1.0, 1.0)]
SIZES = [(112, 112), (200, 90), (70, 170)]


@pytest.mark.parametrize(
    "name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "gemma3", "internvl", "llava_onevision", "idefics3", "smolvlm"]
)
def test_a_bright_patch_changes_the_tokens_of_its_place(name: str) -> None:
    seer = Seer(name)
    for size in SIZES:
        dark = Image.new("RGB", size, (40, 60, 80))
        (places,) = seer.places([dark])
        before = seer.embeddings([dark])
        assert len(places) == len(before)
        for box in BOXES:
            change = (seer.embeddings([with_patch(dark, box)]) - before).norm(dim=-1).numpy()
            changed = change > 1e-3 * change.max()
            left, top, right, bottom = places.T
            blur = 0.04  # resizing spreads a patch a little
            touched = (
                (left < box[2] + blur) & (right > box[0] - blur) & (top < box[3] + blur) & (bottom > box[1] - blur)
            )
            inside = (left < box[2] - blur) & (right > box[0] + blur) & (top < box[3] - blur) & (bottom > box[1] + blur)
            assert inside.any()
            assert not (inside & ~changed).any(), (size, box)
            assert not (changed & ~touched).any(), (size, box)


def test_internvl_cuts_into_tiles_whatever_its_image_processor_says() -> None:
    seer = Seer("internvl")
    seer.processor.image_processor.crop_to_patches = False
    wide = Image.new("RGB", SIZES[1], (40, 60, 80))
    (places,) = seer.places([wide])
    assert len(places) == len(seer.embeddings([wide])) > seer.processor.image_seq_length


def test_a_coarser_grid_of_llava_onevision_keeps_its_places() -> None:
    """More tiles than fit: the grid of tokens is interpolated, and a patch reaches one cell further."""
    seer = Seer("llava_onevision")
    seer.processor.vision_aspect_ratio = seer.model.config.vision_aspect_ratio = "anyres_max_1"
    dark = Image.new("RGB", (112, 112), (40, 60, 80))
    (places,) = seer.places([dark])
    before = seer.embeddings([dark])
    change = (seer.embeddings([with_patch(dark, (0.5, 0.5, 1.0, 1.0))]) - before).norm(dim=-1).numpy()
    heat = heat_map(places, change, 64, 64)
    assert np.unravel_index(heat.argmax(), heat.shape) >= (32, 32)
    assert heat[32:, 32:].mean() > 3 * heat[:32, :32].mean()


@pytest.mark.parametrize("name", ["qwen2_5_vl", "gemma3", "internvl", "llava_onevision", "idefics3"])
def test_several_images_keep_their_tokens_apart(name: str) -> None:
    seer = Seer(name)
    pictures = [Image.new("RGB", size, (40, 60, 80)) for size in SIZES]
    counts = [len(places) for places in seer.places(pictures)]
    before = seer.embeddings(pictures)
    pictures[1] = Image.new("RGB", SIZES[1], (255, 255, 255))
    change = (seer.embeddings(pictures) - before).norm(dim=-1)
    changed = [bool((part > 1e-4).any()) for part in change.split(counts)]
    assert changed == [False, True, False]


def test_a_square_is_padded_around_each_of_several_images_of_llava_onevision() -> None:
    """One picture's tokens: a patch in a corner of a wide picture is not in a corner of the square around it."""
    seer = Seer("llava_onevision")
    for size in SIZES[1:]:
        pictures = [Image.new("RGB", size, (40, 60, 80))] * 2
        _, places = seer.places(pictures)
        before = seer.embeddings(pictures)
        for box in BOXES:
            changed = (seer.embeddings([pictures[0], with_patch(pictures[1], box)]) - before).norm(dim=-1) > 1e-3
            assert not changed[: len(places)].any()
            lit = places[changed[len(places) :].numpy()]
            assert len(lit) > 0
            x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
            assert any(left <= x <= right and top <= y <= bottom for left, top, right, bottom in lit)
            assert all(
                left < box[2] + 0.1 and right > box[0] - 0.1 and top < box[3] + 0.1 and bottom > box[1] - 0.1
                for left, top, right, bottom in lit
            )


def test_one_token_lights_up_its_pixels_and_no_others() -> None:
    seer = Seer("qwen2_5_vl")
    picture = Image.new("RGB", (114, 84))
    (places,) = seer.places([picture])
    columns, rows = 4, 3  # 114 × 84 pixels become 112 × 84, and 28 × 28 of them are a token
    assert len(places) == columns * rows
    shares = np.zeros(len(places))
    shares[columns * 1 + 3] = 0.4
    heat = heat_map(places, shares, 400, 300)
    lit = np.zeros((300, 400), dtype=bool)
    lit[100:200, 300:400] = True
    assert np.allclose(heat[lit], columns * rows)
    assert (heat[~lit] == 0).all()
    assert heat.mean() == pytest.approx(1)


def test_an_unknown_family_is_named_and_a_wrong_count_is_refused() -> None:
    with pytest.raises(UnknownPlacesError, match=r"no overlay is known for Llama-3\.2-Vision"):
        image_token_places(LLAMA_VISION, None, {}, [(10, 10)], 1)
    seer = Seer("gemma3")
    with pytest.raises(UnknownPlacesError, match="places 4 image tokens, and this prompt has 12"):
        image_token_places(find_format(seer.processor), seer.processor, {}, [(10, 10)], 12)
