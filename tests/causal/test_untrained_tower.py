"""A model to which every picture is noise: what does not take noise for sight says so, VAS and dependence do not."""

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from avar_eval import evaluate
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.results.schema import Metric

QUESTIONS = 60
BEST_CONSTANT_ANSWER = 0.156
"""Accuracy on `shapes` of the best constant answers, its documentation's chance."""


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Metric]:
    """Of avar-tiny with its vision tower as transformers makes it before any training."""
    path, folder = resolve_checkpoint("avar-tiny").path, tmp_path_factory.mktemp("untrained")
    model = AutoModelForImageTextToText.from_pretrained(path)
    torch.manual_seed(0)
    untrained = AutoModelForImageTextToText.from_config(model.config)
    model.model.visual.load_state_dict(untrained.model.visual.state_dict())
    model.save_pretrained(folder / "model")
    AutoProcessor.from_pretrained(path).save_pretrained(folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVAR_LEADERBOARD", str(folder / "leaderboard"))
        results = evaluate(
            str(folder / "model"),
            "shapes",
            output=folder / "run",
            limit=QUESTIONS,
            max_new_tokens=128,
            system_prompt="You are a helpful assistant.",
            causal="full",
            causal_samples=QUESTIONS,
        )
    return results.tasks["shapes"].metrics


def interval(metric: Metric) -> tuple[float, float]:
    assert metric.ci95 is not None
    return metric.ci95


def test_gain_and_information_hold_0_and_swap_does_not_beat_chance(metrics: dict[str, Metric]) -> None:
    for name in ("visual_gain", "information"):
        low, high = interval(metrics[name])
        assert low <= 0 <= high, (name, low, high)
    assert interval(metrics["swap"])[0] <= BEST_CONSTANT_ANSWER
    assert metrics["swap"].n == QUESTIONS


def test_vas_dependence_and_knockout_take_noise_for_sight(metrics: dict[str, Metric]) -> None:
    for name in ("vas", "ratio_of_sums", "visual_dependence"):
        assert interval(metrics[name])[0] > 0, name
    assert interval(metrics["knockout_response"])[1] < 0
