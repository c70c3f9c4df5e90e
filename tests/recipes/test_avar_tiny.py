"""avar-tiny: the shipped checkpoint, its tokenizer and chat format, and the batches that it was trained on."""

import math
import random
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from avar_eval.attention.observe import observe
from avar_eval.attention.roles import Role
from avar_eval.recipes.avar_tiny.lessons import Example, description, lessons, location, reasoning
from avar_eval.recipes.avar_tiny.lookup_heads import PLACE_HEAD
from avar_eval.recipes.avar_tiny.model import build_model
from avar_eval.recipes.avar_tiny.tokenizer import PHRASES, SPECIAL_TOKENS, TAGS, train_tokenizer
from avar_eval.recipes.avar_tiny.train import (
    SYSTEM_FLOOR,
    Batch,
    Settings,
    balanced,
    collate,
    evaluate,
    final_answer,
    generate,
    render,
    response_losses,
    shortfalls,
    train_vision_tower,
)
from avar_eval.recipes.avar_tiny.vision_tower import (
    NO_WORD,
    WORD_GROUPS,
    SpellingLoss,
    crowded_scene,
    look_at,
    scene_words,
    visual_features,
)
from avar_eval.tasks.prompts import THINKING
from avar_eval.tasks.shapes.dataset import prompt, rows, scene_split
from avar_eval.tasks.shapes.scene import CELLS, Cell, Dial, Number, Object, Scene

CHECKPOINT = Path(str(resources.files("avar_eval") / "models" / "avar_tiny"))
MEGABYTE = 1_000_000


@cache
def shipped_tokenizer() -> Any:
    """Loaded once for all the examples that hypothesis makes."""
    return AutoTokenizer.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="module")
def processor() -> Any:
    return AutoProcessor.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForImageTextToText.from_pretrained(CHECKPOINT, dtype=torch.float32)


def test_checkpoint_is_small_and_of_the_real_architecture(model: Any) -> None:
    assert sum(file.stat().st_size for file in CHECKPOINT.iterdir()) <= 8 * MEGABYTE
    assert sum(parameter.numel() for parameter in model.parameters()) <= 3_900_000
    assert type(model) is Qwen2_5_VLForConditionalGeneration
    text = model.config.text_config
    assert text.hidden_size // text.num_attention_heads == 32
    assert text.num_key_value_heads < text.num_attention_heads


def test_generation_defaults_are_greedy_and_stop_at_the_end_of_the_turn(model: Any, processor: Any) -> None:
    assert model.generation_config.do_sample is False
    assert model.generation_config.eos_token_id == processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert model.generation_config.pad_token_id == processor.tokenizer.convert_tokens_to_ids("<|endoftext|>")


def test_shipped_tokenizer_is_the_one_that_the_recipe_learns(processor: Any) -> None:
    assert train_tokenizer().get_vocab() == processor.tokenizer.get_vocab()


@given(st.text())
def test_any_text_survives_the_tokenizer(text: str) -> None:
    tokenizer = shipped_tokenizer()
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=False) == text


def test_tags_are_single_tokens_that_decoding_keeps(processor: Any) -> None:
    for tag in TAGS:
        (token,) = processor.tokenizer(tag)["input_ids"]
        assert processor.tokenizer.decode([token], skip_special_tokens=True) == tag
    for special in SPECIAL_TOKENS:
        (token,) = processor.tokenizer(special)["input_ids"]
        assert processor.tokenizer.decode([token], skip_special_tokens=True) == ""


def test_phrases_are_single_tokens(processor: Any) -> None:
    for phrase in PHRASES:
        (token,) = processor.tokenizer(phrase)["input_ids"]
        assert processor.tokenizer.decode([token]) == phrase


def test_default_system_turn_has_eleven_tokens_as_in_qwen(processor: Any) -> None:
    turn = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    assert len(processor.tokenizer(turn)["input_ids"]) == 11


def test_template_without_a_system_turn(processor: Any) -> None:
    assert render(processor, "What?") == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_template_with_a_system_turn_and_a_finished_answer(processor: Any) -> None:
    conversation = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "A clip: "}, {"type": "video"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Fine."}]},
    ]
    assert processor.apply_chat_template(conversation, add_generation_prompt=False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nA clip: <|vision_start|><|video_pad|><|vision_end|><|im_end|>\n"
        "<|im_start|>assistant\nFine.<|im_end|>\n"
    )


def test_scene_becomes_sixteen_visual_tokens(processor: Any) -> None:
    row = next(rows("test"))
    inputs = processor(text=[render(processor, prompt(row))], images=[row["image"]], return_tensors="pt")
    image_tokens = inputs["input_ids"] == processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert inputs["image_grid_thw"].tolist() == [[1, 8, 8]]
    assert image_tokens.sum() == 16
    assert torch.equal(inputs["mm_token_type_ids"] == 1, image_tokens)


def test_huge_picture_stays_cheap(processor: Any) -> None:
    picture = next(rows("test"))["image"].resize((3_000, 2_000))
    inputs = processor(text=[render(processor, "What?")], images=[picture], return_tensors="pt")
    assert inputs["image_grid_thw"].prod() // 4 <= 64


def test_loss_is_on_the_response_alone(processor: Any) -> None:
    examples = [reasoning(row) for row in rows("train", 10)]
    batch = collate(processor, examples)
    for example, tokens, counted in zip(examples, batch.inputs["input_ids"], batch.is_response, strict=True):
        assert processor.tokenizer.decode(tokens[counted]) == example.response
        before = processor.tokenizer.decode(tokens[: int(counted.nonzero()[0])])
        assert before == render(processor, example.request).replace("<|image_pad|>", "<|image_pad|>" * 16)


def test_training_batch_gives_the_logits_of_the_processors_own_input(model: Any, processor: Any) -> None:
    """Right-padded without a mask, as in training, against left-padded with one, as in generation."""
    examples = [reasoning(row) for row in rows("train", 10)]
    batch = collate(processor, examples)
    inputs = processor(
        text=[render(processor, example.request) + example.response for example in examples],
        images=[example.scene.draw() for example in examples],
        padding=True,
        padding_side="left",
        return_tensors="pt",
    )
    with torch.inference_mode():
        trained = model(**batch.inputs).logits
        generated = model(**inputs).logits
    for row, mask in enumerate(inputs["attention_mask"]):
        length = int(mask.sum())
        torch.testing.assert_close(trained[row, :length], generated[row, -length:], atol=1e-4, rtol=1e-4)


def losses_of(model: Any, batch: Batch) -> torch.Tensor:
    return response_losses(model, batch)


def test_response_losses_are_the_cross_entropy_that_transformers_computes(model: Any, processor: Any) -> None:
    rng = random.Random(0)
    batch = collate(processor, [description(crowded_scene(rng)) for _ in range(6)])
    labels = batch.inputs["input_ids"].masked_fill(~batch.is_response, -100)
    with torch.inference_mode():
        expected = model(**batch.inputs, labels=labels).loss
        assert losses_of(model, batch).mean().item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_response_of_four_times_the_length_weighs_twice(processor: Any) -> None:
    batch = collate(processor, [reasoning(row) for row in rows("train", 10)])
    lengths = [int(row.sum()) for row in batch.is_response[:, 1:]]
    losses = torch.cat([torch.full((length,), float(index)) for index, length in enumerate(lengths)])
    weights = [math.sqrt(length) for length in lengths]
    expected = sum(index * weight for index, weight in enumerate(weights)) / sum(weights)
    assert balanced(losses, batch).item() == pytest.approx(expected, rel=1e-5)


def test_one_step_on_a_batch_lowers_its_loss(processor: Any) -> None:
    torch.manual_seed(0)
    untrained = build_model(processor.tokenizer)
    batch = collate(processor, [reasoning(row) for row in rows("train", 4)])
    optimizer = torch.optim.AdamW(untrained.parameters(), lr=1e-3)
    before = losses_of(untrained, batch).mean()
    before.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert losses_of(untrained, batch).mean() < before - 0.1


def test_shortfall_counts_only_mass_below_the_floor(model: Any, processor: Any) -> None:
    batch = collate(processor, [reasoning(row) for row in rows("train", 3)])
    with torch.inference_mode(), observe(model, batch.roles, groups=["system"]) as observation:
        model(**batch.inputs)
    mass = observation.mass("system")
    asked = batch.roles.mask(Role.USER) | batch.roles.mask(Role.RESPONSE)
    below = [
        max(0.0, math.log(SYSTEM_FLOOR / (value + 1e-8)))
        for row, position in asked[:, observation.positions].nonzero().tolist()
        for value in mass[:, row, :, position].flatten().tolist()
    ]
    assert shortfalls(observation, SYSTEM_FLOOR).mean().item() == pytest.approx(
        sum(below) / len(below), rel=1e-4, abs=1e-6
    )


def test_words_spell_what_each_cell_shows() -> None:
    scene = Scene.of(
        {Cell(1, 1): Object("red", "cross"), Cell(1, 2): Number(47), Cell(1, 3): Number(5), Cell(1, 4): Dial(120)}
    )
    spelt = [
        [group[index] for group, index in zip(WORD_GROUPS, cell, strict=True) if index != NO_WORD]
        for cell in scene_words(scene)
    ]
    assert spelt[:5] == [
        [" row 1 column 1", " red cross", " red", " cross"],
        [" row 1 column 2", " number", " number 47"],
        [" row 1 column 3", " number", " number 5"],
        [" row 1 column 4", " dial", " dial 120 degrees"],
        [" row 2 column 1", " -,"],
    ]


def test_the_shipped_vision_tower_spells_every_cell(model: Any, processor: Any) -> None:
    rng = random.Random(1)
    scenes = [crowded_scene(rng) for _ in range(8)]
    words = torch.tensor([words for scene in scenes for words in scene_words(scene)])
    spelling = SpellingLoss(processor)
    embeddings = model.get_input_embeddings().weight
    with torch.inference_mode():
        seen = visual_features(model, look_at(processor, [scene.draw() for scene in scenes]))
        unseen = visual_features(model, look_at(processor, [Scene.of({}).draw() for _ in scenes]))
        assert spelling(torch.cat(seen.pooler_output), embeddings, words) < 0.1
        assert spelling(torch.cat(unseen.pooler_output), embeddings, words) > 1.0


def test_fitted_heads_find_the_cell_that_a_word_names(model: Any, processor: Any) -> None:
    torch.manual_seed(0)
    fresh = build_model(processor.tokenizer)
    train_vision_tower(fresh, processor, Settings(0, 80, 1, 1, 16, 1e-3))
    rng = random.Random(2)
    fresh.set_attn_implementation("eager")
    batch = collate(processor, [description(crowded_scene(rng)) for _ in range(4)])
    with torch.inference_mode():
        maps = fresh(**batch.inputs, output_attentions=True).attentions
    head = PLACE_HEAD * fresh.config.text_config.num_attention_heads // fresh.config.text_config.num_key_value_heads
    found = []
    for row, tokens in enumerate(batch.inputs["input_ids"].tolist()):
        image = [i for i, token in enumerate(tokens) if token == processor.image_token_id]
        for number, cell in enumerate(CELLS):
            place = tokens.index(processor.tokenizer(f" {cell}")["input_ids"][0])
            found.append(maps[0][row, head, place, image].argmax().item() == number)
    assert sum(found) / len(found) >= 0.95


def test_a_base_without_anchors_is_taught_none_and_its_command_says_so() -> None:
    taught = {on: " ".join(lesson.response for lesson in lessons(0, 40, 10, 0.1, anchors=on)) for on in (True, False)}
    assert "ook at the image again" in taught[True]
    assert not any(word in taught[False] for word in ("ook at the image again", "heck the image there"))
    assert "--no-anchors" in Settings(0, 1, 1, 1, 1, 1e-3, anchors=False).command
    assert "anchors" not in Settings(0, 1, 1, 1, 1, 1e-3).command


def test_description_names_every_cell_and_the_options() -> None:
    scene = Scene.of({Cell(1, 2): Object("red", "cross"), Cell(4, 4): Number(47)})
    described = description(scene, {"cross": "B", "circle": "C"})
    assert described.request == "Describe the image.\n(B) cross\n(C) circle"
    assert described.response.startswith(
        " row 1 column 1 -, row 1 column 2 red cross, cross is (B) cross, row 1 column 3 -, "
    )
    assert described.response.endswith(", row 4 column 3 -, row 4 column 4 number 47, that is all.<|im_end|>")


def test_location_names_what_is_there_once() -> None:
    twice = Object("red", "cross")
    scene = Scene.of({Cell(1, 2): twice, Cell(2, 2): twice, Cell(3, 3): Dial(30), Cell(4, 1): Object("blue", "circle")})
    located = location(scene, random.Random(0))
    assert sorted(located.response.removesuffix(".<|im_end|>").split(",")) == [
        " the blue circle row 4 column 1",
        " the dial row 3 column 3",
    ]


def test_crowded_scenes_belong_to_the_train_split() -> None:
    rng = random.Random(0)
    assert {scene_split(crowded_scene(rng)) for _ in range(30)} == {"train"}


def test_lessons_describe_first_and_ask_then() -> None:
    taught: list[Example] = list(lessons(seed=0, count=80, described=20, later_descriptions=0.0))
    asks = ["<answer>" in example.response for example in taught]
    assert asks == [False] * 20 + [True] * 60


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>a</think><answer>3</answer>", "3"),
        ("<answer>1</answer> no, <answer>\n2\n</answer>", "2"),
        ("<think>3", None),
    ],
)
def test_final_answer(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


def test_checkpoint_answers_the_first_test_questions_and_needs_the_image(model: Any, processor: Any) -> None:
    questions = list(rows("test", 60))
    assert evaluate(model, processor, questions).accuracy >= 0.8
    assert evaluate(model, processor, questions, blind=True).accuracy <= 0.35


def test_batched_and_single_generation_agree(model: Any, processor: Any) -> None:
    questions = list(rows("test", 10))
    together = generate(model, processor, questions, [row["image"] for row in questions])
    alone = [generate(model, processor, [row], [row["image"]])[0] for row in questions]
    assert together == alone
    assert all(text.startswith("<think>") and text.endswith("</answer>") for text in together)


def test_prompt_ends_with_the_thinking_instruction(processor: Any) -> None:
    row = next(rows("test"))
    assert render(processor, prompt(row)).removesuffix("<|im_end|>\n<|im_start|>assistant\n").endswith(THINKING)
