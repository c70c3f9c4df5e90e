"""The doctor on vLLM, an engine a process: exact in both modes where steering is, and telling where it is not."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

if importlib.util.find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: .ci/vllm makes an environment with it", allow_module_level=True)

from avar_eval.doctor import vllm_engine
from avar_eval.doctor.checks import Checks
from avar_eval.doctor.steered_reference import SteeredReference
from avar_eval.doctor.vllm_engine import MODES, check_vllm, names_of, save_model
from avar_eval.models.vllm_plugin import VllmSteering


def test_both_runners_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_USE_V2_MODEL_RUNNER", raising=False)
    checks = Checks()
    check_vllm(checks, print)
    made = {check.name: check for check in checks.made}
    assert set(made) == {*names_of("v1"), *names_of("v2"), *(f"vllm.{mode}.error" for mode in MODES)}
    for check in made.values():
        print(check.model_dump_json())
        assert check.status != "failed", check
    for mode in MODES:
        assert made[f"vllm.{mode}.error"].status == "measured"
        assert float(made[f"vllm.{mode}.error"].value or 1) < 1e-4
        assert made[f"vllm.v1.{mode}.milliseconds"].unit == "ms a token"


def test_a_process_that_ends_early_fails_its_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_engine, "RUNNERS", {"v1": "neither"})
    checks = Checks()
    check_vllm(checks, print)
    assert {check.status for check in checks.made} == {"failed"}
    assert {check.name for check in checks.made} == {*names_of("v1"), *(f"vllm.{mode}.error" for mode in MODES)}


@pytest.mark.parametrize("mode", MODES)
def test_the_reference_is_moved_by_steering(tmp_path: Path, mode: Any) -> None:
    reference = SteeredReference(save_model(tmp_path / "model"))
    for number, prompt in enumerate(reference.prompts(2)):
        ids = prompt["prompt_token_ids"]
        if number == 1:  # without an image placeholder to expand
            plain = reference.log_probabilities(ids, len(ids), prompt, VllmSteering())
            steered = reference.log_probabilities(ids, len(ids), prompt, VllmSteering(system=0.4, mode=mode))
            assert (plain - steered).abs().max() > 0.1
