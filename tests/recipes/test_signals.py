"""Perception signals against float64 references that are written out here, token by token, and in a TRL trainer."""

import math
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import training as runs
from test_grpo import coin, config, encoded, processor, rewards, rows, start, trl_trainer
from torch import Tensor

from avar_eval.errors import UsageError
from avar_eval.recipes.grpo import trainer as grpo_trainer
from avar_eval.recipes.grpo.masked import masked_pictures
from avar_eval.recipes.grpo.signals import ATTENTION_REWARDS
from avar_eval.recipes.grpo.signals.dependence import (
    advantage_factors,
    dependent_tokens,
    response_dependency,
    shaped_advantages,
    token_dependency,
)
from avar_eval.recipes.grpo.signals.masking import black, mask_patches, mask_pixels, response_generator
from avar_eval.recipes.grpo.signals.perception import perception_divergence, perception_loss

RIGHT = "<think>one two</think><answer>7</answer>"
LENGTHS = (6, 1, 3, 0)


def masses(seed: int) -> Tensor:
    """[layers, batch, heads, queries]"""
    return torch.rand(3, 4, 2, 8, generator=torch.Generator().manual_seed(seed))


def responses(start: int = 2) -> Tensor:
    """The last queries of four sequences: a response of 6, 1, 3 and no tokens."""
    places = torch.arange(8)
    return (places >= start) & (places < start + torch.tensor(LENGTHS)[:, None])


def logps(seed: int) -> Tensor:
    return -3 * torch.rand(4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


MASK = torch.arange(6) < torch.tensor(LENGTHS)[:, None]


def test_vars_is_eq_7() -> None:
    image, system = masses(0), masses(1)
    found = ATTENTION_REWARDS["visual"](image, system, responses())
    for sequence, length in enumerate(LENGTHS[:3]):
        total = 0.0
        for query in range(2, 2 + length):
            for layer in range(3):
                of_heads = [m[layer, sequence, :, query].double().mean().item() for m in (image, system)]
                total += of_heads[0] / (of_heads[1] + 1e-6) / 3
        assert found[sequence].item() == pytest.approx(total / length, rel=1e-5)


def test_late_attention_is_the_second_half_over_the_first() -> None:
    image = masses(2)
    found = ATTENTION_REWARDS["late_attention"](image, masses(3), responses())
    for sequence, length in ((0, 6), (2, 3)):
        each = [
            sum(float(image[layer, sequence, head, query]) for layer in range(3) for head in range(2)) / 6
            for query in range(2, 2 + length)
        ]
        half = length // 2
        early, late = sum(each[:half]) / half, sum(each[half:]) / (length - half)
        assert found[sequence].item() == pytest.approx(late / (early + 1e-6), rel=1e-5)
    assert found[[1, 3]].isnan().all()  # one token has no first half


def test_the_divergence_is_papo_s_and_its_mean_that_of_the_distributions() -> None:
    now, masked = logps(0), logps(1)
    found = perception_divergence(now, masked)
    for row in range(4):
        for token in range(6):
            ratio = math.exp(float(masked[row, token]) - float(now[row, token]))
            assert float(found[row, token]) == pytest.approx(ratio - math.log(ratio) - 1, abs=1e-12)
    p, q = torch.tensor([0.7, 0.2, 0.1]).double(), torch.tensor([0.3, 0.3, 0.4]).double()
    assert float((p * perception_divergence(p.log(), q.log())).sum()) == pytest.approx(float((p * (p / q).log()).sum()))


@pytest.mark.parametrize("double_entropy", [False, True])
def test_papo_s_loss_is_its_sum(double_entropy: bool) -> None:
    divergence, entropies, masked = logps(2).abs(), logps(3).abs(), logps(4).abs()
    weights = (0.02, 0.03, 0.05 if double_entropy else 0.0)
    found = perception_loss(divergence, entropies, masked if double_entropy else None, MASK.long(), weights)
    total = 0.0
    for row, length in enumerate(LENGTHS):
        for token in range(length):
            terms = (-0.02 * divergence[row, token], 0.03 * entropies[row, token], weights[2] * masked[row, token])
            total += float(sum(terms)) / length
    assert float(found) == pytest.approx(total / 4, rel=1e-12)


def test_vppo_keeps_the_most_dependent_tokens_and_shapes_advantages_around_one() -> None:
    now, masked = logps(5), logps(6)
    masked[0, 0] = -60.0  # beyond both of the code's bounds
    dependency = token_dependency(now, masked)
    means, kept = [], []
    for row, length in enumerate(LENGTHS):
        each = []
        for token in range(length):
            difference = max(-20.0, min(20.0, float(masked[row, token] - now[row, token])))
            each.append(min(10.0, math.exp(difference) - difference - 1))
            assert float(dependency[row, token]) == pytest.approx(each[-1], abs=1e-12)
        means.append(sum(each) / max(length, 1))
        best = sorted(range(length), key=lambda token: -each[token])[: math.ceil(0.4 * length)]
        kept.append([token in best for token in range(6)])
    tokens = dependent_tokens(dependency, MASK, 0.4)
    assert tokens.tolist() == kept
    assert tokens.sum(-1).tolist() == [3, 1, 2, 0]
    found = response_dependency(dependency, MASK)
    assert found.tolist() == pytest.approx(means)
    factors = advantage_factors(found[:3], 0.9)
    low, high = min(means[:3]), max(means[:3])
    normal = [(of - low) / (high - low) for of in means[:3]]
    largest = 0.9 + 0.1 / (sum(normal) / 3)
    assert factors.tolist() == pytest.approx([0.9 + (largest - 0.9) * of for of in normal])
    assert float(factors.mean()) == pytest.approx(1.0)
    assert advantage_factors(torch.ones(3), 0.9).tolist() == [1.0] * 3
    advantages = torch.tensor([1.0, -2.0, 0.5]).double()
    shaped = shaped_advantages(advantages, factors, tokens[:3], 1.0)
    for row in range(3):
        for token in range(6):
            expected = float(advantages[row] * factors[row]) if kept[row][token] else 0.0
            assert float(shaped[row, token]) == pytest.approx(expected)
    assert shaped_advantages(advantages, factors, tokens[:3], 0.0).tolist() == [[of] * 6 for of in advantages.tolist()]


def test_masked_patches_are_those_of_a_picture_with_black_squares() -> None:
    """What Qwen's own processor makes of the picture with the squares of 28 pixels painted black."""
    made, pictures = processor(), [runs.picture(seed) for seed in (0, 1, 2)]
    images = made.image_processor
    whole = images(images=pictures, return_tensors="pt")
    merge, value = images.merge_size, black(images)
    masked = mask_patches(whole.pixel_values, whole.image_grid_thw, 0.6, merge, value, torch.Generator().manual_seed(5))
    chosen = (torch.rand(len(masked) // merge**2, generator=torch.Generator().manual_seed(5)) < 0.6).tolist()
    side = images.patch_size * merge
    painted = []
    for picture in pictures:
        copy = picture.copy()
        for top in range(0, picture.height, side):
            for left in range(0, picture.width, side):
                if chosen.pop(0):
                    copy.paste((0, 0, 0), (left, top, left + side, top + side))
        painted.append(copy)
    assert not chosen
    expected = images(images=painted, return_tensors="pt")
    assert torch.equal(expected.image_grid_thw, whole.image_grid_thw)
    assert torch.allclose(masked, expected.pixel_values, atol=1e-5)
    assert not torch.equal(masked, whole.pixel_values)
    assert torch.equal(
        whole.pixel_values, mask_patches(whole.pixel_values, whole.image_grid_thw, 0.0, merge, value, torch.Generator())
    )


def test_whole_pictures_are_masked_by_squares() -> None:
    pixels = torch.ones(2, 3, 56, 70)
    value = torch.tensor([-1.0, -2.0, -3.0])
    masked = mask_pixels(pixels, 0.5, value, torch.Generator().manual_seed(1))
    cells = torch.rand(2, 2, 3, generator=torch.Generator().manual_seed(1)) < 0.5
    for picture in range(2):
        for row in range(56):
            for column in range(70):
                is_black = bool(cells[picture, row // 28, column // 28])
                assert masked[picture, :, row, column].tolist() == ([-1, -2, -3] if is_black else [1, 1, 1])


def test_a_mask_depends_on_prompt_and_response_alone(tmp_path: Path) -> None:
    trainer = start(tmp_path, rows((1, 2, 0, 1)), perception_weight=0.01, visual_weight=0.0)
    batch = trainer._generate_and_score_completions([dict(row) for row in rows((1, 2, 0, 1)) for _ in range(2)])
    processor_ = trainer.processing_class.image_processor
    whole = masked_pictures(batch, processor_, 0.6, 0)
    assert whole["pixel_values"].shape == batch["pixel_values"].shape
    assert not torch.equal(whole["pixel_values"], batch["pixel_values"])
    assert torch.equal(whole["pixel_values"], masked_pictures(batch, processor_, 0.6, 0)["pixel_values"])
    assert not torch.equal(whole["pixel_values"], masked_pictures(batch, processor_, 0.6, 1)["pixel_values"])
    names = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
    rows_of_pixels = batch["image_grid_thw"].prod(-1)
    half = int(rows_of_pixels[: sum(batch["num_images"][:3])].sum())
    alone = {name: batch[name][3:] for name in names}
    alone |= {"num_images": batch["num_images"][3:], "pixel_values": batch["pixel_values"][half:]}
    alone["image_grid_thw"] = batch["image_grid_thw"][sum(batch["num_images"][:3]) :]
    assert torch.equal(masked_pictures(alone, processor_, 0.6, 0)["pixel_values"], whole["pixel_values"][half:])
    assert response_generator(0, [1, 2]).initial_seed() != response_generator(0, [1, 3]).initial_seed()


def test_late_attention_is_a_reward_of_right_answers_beside_vars(tmp_path: Path) -> None:
    made = rows((1, 2, 1, 0))
    trainer = start(tmp_path, made, late_attention_weight=0.5, visual_cap=1000.0)
    end = [trainer._tokenizer.eos_token_id]
    right, wrong = encoded(trainer, RIGHT, RIGHT.replace("7", "8"))
    answers = [right + end, wrong + end, right + end, right + end]
    with patch.object(trainer, "_measured", wraps=trainer._measured) as measured:
        table = rewards(trainer, made, answers)
        passes = measured.call_count
    assert trainer.reward_func_names == ["accuracy", "visual", "late_attention", "format"]
    assert passes == 1  # of a batch of 4, for both rewards
    only_vars = rewards(start(tmp_path, made, visual_cap=1000.0), made, answers)
    assert torch.equal(table[:, 1].nan_to_num(-1.0), only_vars[:, 1].nan_to_num(-1.0))
    late = table[:, 2]
    assert late[0] > 0
    assert late[1] == 0
    assert late[3].isnan()
    alone = start(tmp_path, made, late_attention_weight=0.5, visual_weight=0.0)
    assert torch.equal(rewards(alone, made, answers)[:, 1].nan_to_num(-1.0), late.nan_to_num(-1.0))


SIGNALS: dict[str, dict[str, Any]] = {
    "late_attention": {"late_attention_weight": 0.5},
    "papo": {"perception_weight": 0.5},
    "double_entropy": {"perception_weight": 0.5, "perception_entropy_weight": 0.03, "masked_entropy_weight": 0.03},
    "vppo": {"dependence_weight": 1.0},
}
OFF = {"visual_weight": 0.0, "format_weight": 0.0}


def weights_after(trainer: Any) -> dict[str, Tensor]:
    with patch.object(grpo_trainer, "judge", coin):
        trainer.train()
    return {name: of.clone() for name, of in trainer.model.state_dict().items()}


def test_with_all_weights_zero_a_run_is_trl_s_bit_by_bit(tmp_path: Path) -> None:
    """The other options of the signals given, and an accumulation of steps."""
    options = {"max_steps": 3, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}
    unused = {"dependent_share": 0.1, "least_factor": 0.5, "masked_share": 0.9}
    zeros = dict.fromkeys([name for of in SIGNALS.values() for name in of], 0.0)
    ours = start(tmp_path, **options, **OFF, **zeros, **unused)
    found = weights_after(ours)

    theirs = trl_trainer(ours, tmp_path, **options)
    expected = weights_after(theirs)
    assert all(torch.equal(found[name], of) for name, of in expected.items())
    assert not torch.equal(expected["lm_head.weight"], runs.model().state_dict()["lm_head.weight"])


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("options", [{}, {"num_iterations": 2}, {"gradient_accumulation_steps": 2}])
def test_a_run_with_a_signal_learns_another_thing_and_says_what(
    tmp_path: Path, signal: str, options: dict[str, Any]
) -> None:
    options = {"max_steps": 2, "per_device_train_batch_size": 4} | options
    trainer = start(tmp_path, rows((1, 2, 1, 1)), **options, **OFF, **SIGNALS[signal])
    found, plain = weights_after(trainer), weights_after(start(tmp_path, rows((1, 2, 1, 1)), **options, **OFF))
    assert any(not torch.equal(found[name], plain[name]) for name in plain)
    logs = {name: value for log in trainer.state.log_history for name, value in log.items()}
    logged = {
        "late_attention": "late_attention_ratio",
        "papo": "perception/kl",
        "double_entropy": "perception/masked_entropy",
        "vppo": "dependence/mean",
    }
    assert logs[logged[signal]] > 0


@pytest.mark.parametrize("weights", [(0.7, 0.0, 0.0), (0.7, 0.2, 0.1)])
def test_papo_s_gradient_is_that_of_its_formula_in_float64(tmp_path: Path, weights: tuple[float, float, float]) -> None:
    """All advantages 0, so that nothing but PAPO's terms is learnt; the model once more in float64, from logits."""
    names = ("perception_weight", "perception_entropy_weight", "masked_entropy_weight")
    made = rows((1, 2))
    trainer = start(tmp_path, made, **OFF, **dict(zip(names, weights, strict=True)))
    batch = trainer._generate_and_score_completions([dict(row) for row in made for _ in range(2)])
    batch["advantages"] = torch.zeros(4)
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.zero_grad()
    loss = trainer._compute_loss(trainer.model, batch)
    loss.backward()

    exact = runs.model().double()
    masked = masked_pictures(
        batch, trainer.processing_class.image_processor, trainer.args.masked_share, trainer.args.seed
    )
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    present = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    keep = batch["completion_ids"].shape[1]

    def distributions(pixels: Tensor) -> Tensor:
        inputs = {"image_grid_thw": batch["image_grid_thw"], "pixel_values": pixels.double()}
        if "mm_token_type_ids" in batch:
            inputs["mm_token_type_ids"] = batch["mm_token_type_ids"]
        logits = exact(input_ids=ids, attention_mask=present, **inputs).logits[:, -keep - 1 : -1]
        return (logits / trainer.temperature).log_softmax(-1)

    real, other = distributions(batch["pixel_values"]), distributions(masked["pixel_values"])
    chosen = [of.gather(-1, batch["completion_ids"][..., None])[..., 0] for of in (real, other)]
    entropies = [-(of.exp() * of).sum(-1) for of in (real, other)]
    expected = 0.0
    for row in range(4):
        length = int(batch["completion_mask"][row].sum())
        for token in range(length):
            difference = chosen[1][row, token].detach() - chosen[0][row, token]
            term = -weights[0] * (difference.exp() - difference - 1)
            term = term + weights[1] * entropies[0][row, token] + weights[2] * entropies[1][row, token]
            expected = expected + term / length / 4
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert runs.close(runs.gradients(trainer.model), runs.gradients(exact), 1e-3)


def test_vppo_s_advantages_are_those_of_the_batch(tmp_path: Path) -> None:
    """Responses without an image keep their advantage; those with one are shaped as the formula has it."""
    made = rows((1, 0, 1, 2))
    trainer = start(tmp_path, made, **OFF, dependence_weight=1.0, least_factor=0.5)
    table = torch.tensor([[1.0], [0.0]] * 4)
    with patch.object(trainer, "_calculate_rewards", return_value=table):
        torch.manual_seed(0)
        batch = trainer._generate_and_score_completions([dict(row) for row in made for _ in range(2)])
    plain = torch.tensor([1.0, -1.0] * 4) * 0.5 / (0.5**0.5 + 1e-4)
    response = batch["completion_mask"].bool()
    shaped = batch["advantages"]
    assert shaped.shape == response.shape
    for row in (2, 3):
        assert shaped[row].tolist() == pytest.approx([float(plain[row])] * response.shape[1], rel=1e-3)
    factors = []
    for row in (0, 1, 4, 5, 6, 7):
        learnt = shaped[row] != 0
        assert int(learnt.sum()) == math.ceil(0.4 * int(response[row].sum()))
        factors.append(float(shaped[row][learnt][0] / plain[row]))
    assert min(factors) == pytest.approx(0.5, rel=1e-3)
    assert sum(factors) / 6 == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"perception_weight": -0.1}, "perception_weight must not be negative"),
        ({"dependence_weight": 1.5}, "dependence_weight must be from 0 to 1"),
        ({"masked_share": -0.5}, "masked_share must be from 0 to 1"),
        (
            {
                "late_attention_weight": 1.0,
                "visual_weight": 0.0,
                "gradient_checkpointing_kwargs": {"use_reentrant": True},
            },
            "under reentrant gradient checkpointing",
        ),
    ],
)
def test_weights_that_cannot_be_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config(tmp_path, **options)
