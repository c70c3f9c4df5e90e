"""What vLLM's other log-probabilities do to the loss: in the recipes nothing, by Eq. 10; in TRL's default a lot."""

import warnings
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from test_grpo import coin, rows, start
from torch import Tensor

from avar_eval.recipes.grpo import AvarGRPOTrainer
from avar_eval.recipes.grpo import trainer as grpo_trainer
from avar_eval.recipes.grpo.sampling import response_weights, weight_quantiles
from avar_eval.recipes.recipe import read_recipe, shipped, without_gpu
from avar_eval.recipes.run import parse

OPTIONS = ("loss_type", "epsilon", "beta", "vllm_importance_sampling_correction", "vllm_importance_sampling_mode")


def of_recipe(name: str) -> dict[str, Any]:
    """The options of a recipe that its loss depends on."""
    read = parse(without_gpu(read_recipe(name)), launched=False).training
    return {option: getattr(read, option) for option in OPTIONS}


def given(seed: int = 0) -> dict[str, Tensor]:
    """Log-probabilities [responses, tokens] of responses of 7, 2, 5 and 1 tokens, and their advantages."""
    generator = torch.Generator().manual_seed(seed)
    now = -3 * torch.rand(4, 7, generator=generator)
    old = now + 0.4 * torch.randn(4, 7, generator=generator)
    mask = torch.arange(7) < torch.tensor([[7], [2], [5], [1]])
    return {
        "now": now,
        "old": old,
        "mask": mask.long(),
        "advantages": torch.tensor([1.3, -0.7, 0.2, -1.1]),
        "ratio": torch.tensor([[0.002], [0.1], [2.5], [0.0]]),  # TRL's weights in sequence_mask
    }


def loss_of(trainer: AvarGRPOTrainer, parts: dict[str, Tensor]) -> float:
    """TRL's own loss on given log-probabilities, as it computes it in a run with vLLM."""
    trainer.use_vllm = True
    ids = torch.ones(4, 7, dtype=torch.long)
    inputs = {
        "prompt_ids": torch.ones(4, 3, dtype=torch.long),
        "prompt_mask": torch.ones(4, 3, dtype=torch.long),
        "completion_ids": ids,
        "completion_mask": parts["mask"],
        "advantages": parts["advantages"],
        "old_per_token_logps": parts["old"],
        "importance_sampling_ratio": parts["ratio"],
    }
    trainer.current_gradient_accumulation_steps = 1
    passed = (parts["now"], torch.zeros(4, 7), None)
    with patch.object(trainer, "_get_per_token_logps_and_entropies", return_value=passed):
        return float(trainer._compute_loss(trainer.model, inputs))


def eq_10(parts: dict[str, Tensor], epsilon: float = 0.2) -> float:
    """Minus Eq. 10 of arXiv 2603.03825 without its KL term, whose coefficient is 0; in float64, term by term."""
    total = 0.0
    for now, old, mask, advantage in zip(
        *(parts[name].double() for name in ("now", "old", "mask", "advantages")), strict=True
    ):
        terms = []
        for place in range(int(mask.sum())):
            ratio = float((now[place] - old[place]).exp())
            clipped = min(max(ratio, 1 - epsilon), 1 + epsilon)
            terms.append(min(ratio * float(advantage), clipped * float(advantage)))
        total += sum(terms) / len(terms)
    return -total / len(parts["now"])


@pytest.mark.parametrize("name", [name for name in sorted(shipped()) if "grpo" in name])
def test_the_loss_of_every_recipe_is_eq_10(tmp_path: Path, name: str) -> None:
    trainer = start(tmp_path, visual_weight=0.0, **of_recipe(name))
    for seed in range(3):
        parts = given(seed)
        assert loss_of(trainer, parts) == pytest.approx(eq_10(parts), rel=1e-6)


def test_trl_s_default_is_another_loss(tmp_path: Path) -> None:
    options = {"vllm_importance_sampling_correction": True, "vllm_importance_sampling_mode": "sequence_mask"}
    trainer = start(tmp_path, visual_weight=0.0, **options)
    weighted = given()
    assert abs(loss_of(trainer, weighted) / eq_10(weighted) - 1) > 0.1


def differences(tokens: int, mismatch: float = 0.02, responses: int = 2000) -> Tensor:
    """Sums over a response of log p_trainer - log p_engine, as if each token's were normal and the engine unbiased: the
    mean of exp(sum) over its responses is then 1, as importance weights have it."""
    generator = torch.Generator().manual_seed(0)
    deviation = mismatch * tokens**0.5
    return deviation * torch.randn(responses, generator=generator, dtype=torch.double) - deviation**2 / 2


@pytest.mark.parametrize(("tokens", "expected"), [(100, 0.98), (10_000, 0.10), (30_000, 0.002)])
def test_the_median_weight_of_a_whole_response_vanishes_with_its_length(tokens: int, expected: float) -> None:
    ratio = differences(tokens).exp()
    masked = ratio.masked_fill(ratio > 3.0, 0.0)  # sequence_mask with TRL's bound
    median = weight_quantiles(response_weights(masked[:, None], torch.ones(len(masked), 4)))["p50"]
    assert median == pytest.approx(expected, rel=0.2)


def test_weights_of_tokens_do_not_vanish() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = 0.02 * torch.randn(16, 30_000, generator=generator) - 0.02**2 / 2
    quantiles = weight_quantiles(response_weights(noise.exp().clamp(max=3.0), torch.ones_like(noise)))
    assert all(value == pytest.approx(1.0, abs=1e-3) for value in quantiles.values())


def test_weights_are_means_over_the_response_s_own_tokens() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]])
    of_tokens = torch.tensor([[0.5, 1.5, 9.0], [0.25, 9.0, 9.0], [1.0, 1.0, 1.0]])
    weights = response_weights(of_tokens, mask.float())
    assert weights[:2].tolist() == [1.0, 0.25]
    assert weights[2].isnan()
    assert weight_quantiles(weights) == pytest.approx({"p05": 0.2875, "p50": 0.625, "p95": 0.9625})
    assert weight_quantiles(weights[2:]) == {}


def with_an_engine(trainer: AvarGRPOTrainer, mismatch: float) -> dict[str, float]:
    """A step whose responses come from an engine that finds every token likelier by `mismatch` nats."""
    generate, logps = trainer._generate, trainer._get_per_token_logps_and_entropies

    def generated(prompts: Any) -> Any:
        trainer.use_vllm = False
        found = list(generate(prompts))
        trainer.use_vllm = True
        found[4] = [[0.0] * len(ids) for ids in found[1]]  # what the engine says of its tokens; see below
        return tuple(found)

    def scored(model: Any, ids: Tensor, mask: Tensor, keep: int, *args: Any, **kwargs: Any) -> Any:
        found = logps(model, ids, mask, keep, *args, **kwargs)
        return (torch.full_like(found[0], -mismatch), *found[1:]) if not torch.is_grad_enabled() else found

    trainer.use_vllm = True
    with (
        patch.object(trainer, "_generate", generated),
        patch.object(trainer, "_get_per_token_logps_and_entropies", scored),
        patch.object(grpo_trainer, "judge", coin),
    ):
        trainer.train()
    log: dict[str, float] = trainer.state.log_history[0]
    return log


@pytest.mark.parametrize(
    ("mode", "mismatch", "warned"),
    [("sequence_mask", 0.3, True), ("sequence_mask", 0.01, False), ("token_truncate", 0.3, False)],
)
def test_a_run_logs_the_weights_and_warns_once_when_they_collapse(
    tmp_path: Path, mode: str, mismatch: float, warned: bool
) -> None:
    options = {"vllm_importance_sampling_correction": True, "vllm_importance_sampling_mode": mode, "max_steps": 2}
    trainer = start(tmp_path, rows((1, 1)), visual_weight=0.0, **options)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        log = with_an_engine(trainer, mismatch)
    of_weights = [str(warning.message) for warning in said if "half of the responses" in str(warning.message)]
    assert len(of_weights) == warned
    assert not warned or "or the mode to token_truncate" in of_weights[0]
    lower, median, upper = (log[f"sampling/response_weight/{name}"] for name in ("p05", "p50", "p95"))
    assert lower <= median <= upper
    if mode == "token_truncate":
        assert median == pytest.approx(2.718281828**-mismatch)
    else:
        assert (median < 0.5) == warned


def test_without_the_correction_there_are_no_weights(tmp_path: Path) -> None:
    log = with_an_engine(start(tmp_path, rows((1, 1)), visual_weight=0.0), 0.7)
    assert not any(name.startswith("sampling/response_weight") for name in log)
