"""avar-tiny: the shipped checkpoint, its tokenizer and chat format, and the batches that it was trained on."""

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from avar_eval.recipes.avar_tiny.model import build_model
from avar_eval.recipes.avar_tiny.tokenizer import SPECIAL_TOKENS, TAGS, train_tokenizer
from avar_eval.recipes.avar_tiny.train import (
    Batch,
    collate,
    description,
    evaluate,
    final_answer,
    generate,
    reasoning,
    render,
    response_loss,
)
from avar_eval.tasks.prompts import THINKING
from avar_eval.tasks.shapes.dataset import prompt, rows

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
        images=[example.image for example in examples],
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


def test_response_loss_is_the_cross_entropy_that_transformers_computes(model: Any, processor: Any) -> None:
    batch = collate(processor, [description(row) for row in rows("train", 6)])
    labels = batch.inputs["input_ids"].masked_fill(~batch.is_response, -100)
    with torch.inference_mode():
        expected = model(**batch.inputs, labels=labels).loss
        assert response_loss(model, batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_one_step_on_a_batch_lowers_its_loss(processor: Any) -> None:
    torch.manual_seed(0)
    untrained = build_model(processor.tokenizer)
    batch: Batch = collate(processor, [reasoning(row) for row in rows("train", 4)])
    optimizer = torch.optim.AdamW(untrained.parameters(), lr=1e-3)
    before = response_loss(untrained, batch)
    before.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert response_loss(untrained, batch) < before - 0.1


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
    # What this checkpoint reaches (63.6 % of all 500); the goal is 85 %, see the changelog.
    assert evaluate(model, processor, questions).accuracy >= 0.5
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
