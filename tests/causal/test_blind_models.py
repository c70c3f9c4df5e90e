"""What the columns say of a model that cannot see: its vision tower is untrained, and its image tokens are noise.

Its causal gains are nothing, within their intervals, while VAS and even dependence are not: noise attracts attention,
and noise changes answers, too.
"""

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from avar_eval import evaluate
from avar_eval.models.checkpoint import resolve_checkpoint
from avar_eval.results.schema import TaskResult

ROWS = 24
CHANCE = 0.25
"""At least what a guess is worth on `shapes`: its choices have four options, its numbers many more values."""


@pytest.fixture(scope="module")
def sightless(tmp_path_factory: pytest.TempPathFactory) -> TaskResult:
    """avar-tiny with a vision tower of random weights, on some of `shapes`."""
    folder = tmp_path_factory.mktemp("sightless")
    path = resolve_checkpoint("avar-tiny").path
    model = AutoModelForImageTextToText.from_pretrained(path)
    torch.manual_seed(0)
    for parameter in model.model.visual.parameters():
        parameter.data = torch.randn_like(parameter) * (0.02 if parameter.ndim > 1 else 0.0) + (parameter.ndim == 1)
    model.save_pretrained(folder / "model")
    AutoProcessor.from_pretrained(path).save_pretrained(folder / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVAR_LEADERBOARD", str(folder / "leaderboard"))
        found = evaluate(
            folder / "model",
            ["shapes"],
            limit=ROWS,
            causal="full",
            prompt_style="thinking",
            system_prompt="You are a helpful assistant.",
            max_new_tokens=128,
            output=folder / "run",
            device="cpu",
        )
    return found.tasks["shapes"]


def interval(found: TaskResult, name: str) -> tuple[float, float]:
    metric = found.metrics[name]
    assert metric.n >= ROWS - 4, name
    assert metric.value is not None
    return metric.ci95 or (metric.value, metric.value)


def test_what_it_gains_by_its_images_is_nothing(sightless: TaskResult) -> None:
    for name in ("visual_gain", "information"):
        low, high = interval(sightless, name)
        assert low <= 0 <= high, (name, low, high)
    low, _ = interval(sightless, "swap")
    assert low <= CHANCE
    assert sightless.causal is not None
    assert sightless.causal.visual_gain_p is not None
    assert sightless.causal.visual_gain_p > 0.05


def test_attention_and_dependence_say_nothing_of_that(sightless: TaskResult) -> None:
    assert interval(sightless, "vas")[0] > 0.05
    assert interval(sightless, "visual_dependence")[0] > 0
