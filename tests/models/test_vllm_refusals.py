"""What vLLM cannot steer exactly is refused before an engine starts. Needs no vLLM."""

import json
from pathlib import Path

import pytest

from avar_eval.attention.steer import SteerError
from avar_eval.attention.steering import parse_steering
from avar_eval.errors import UsageError
from avar_eval.models.backend import BackendError
from avar_eval.models.registry import get_model
from avar_eval.models.vllm_backend import steered_arguments
from avar_eval.models.vllm_plugin import VllmSteering


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("image=0.15,system=0.4", r"rows=after-image exactly: .* every query\. Choose rows=all"),
        ("image=0.15,rows=last", "rows=last exactly"),
        ("image=0.15,rows=all,mode=log", r"mode=log exactly: .*Choose mode=logit\|prob"),
        ("image=0.15,rows=all,mode=abs", "mode=abs exactly"),
        ("image=0.15,rows=all,heads=0+1", r"heads=.* exactly: several query heads share a key head"),
        ("pai", "exactly"),
        ("vaf", "rows=after-image exactly"),
    ],
)
def test_what_scaled_keys_and_values_cannot_do_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        VllmSteering.of(parse_steering(text))


def test_layers_modes_and_strengths_arrive() -> None:
    steering = VllmSteering.of(parse_steering("vaf,rows=all,mode=prob,layers=1-3"))
    assert steering == VllmSteering(image=0.15, system=0.05, mode="prob", layers=(1, 2, 3))


def test_a_model_without_mrope_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava_onevision"}))
    with pytest.raises(BackendError, match=r"not llava_onevision: .* M-RoPE"):
        steered_arguments(tmp_path, VllmSteering(image=0.15))


def test_a_layer_that_the_model_lacks_is_refused() -> None:
    path = get_model("avar-tiny").path
    assert path is not None
    with pytest.raises(SteerError, match="layers up to 900"):
        steered_arguments(path, VllmSteering(image=0.15, layers=(0, 900)))
