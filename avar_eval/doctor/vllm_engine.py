"""Steering in vLLM: engines on a small random model, under each of vLLM's two model runners, against eager float64.

vLLM chooses its runner by an environment variable when it starts, so each has a process of its own, which alone imports
vLLM. The engines run with CUDA graphs where there is CUDA.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, Final

from avar_eval.doctor import bars
from avar_eval.doctor.checks import Check, Checks

MODES: Final = ("logit", "prob")
RUNNERS: Final = {"v1": "0", "v2": "1"}
"""Runner -> the value of VLLM_USE_V2_MODEL_RUNNER that asks for it."""
_TIME_LIMIT = 600.0
_STEPS, _ROUNDS, _BATCH = 32, 3, 4
_STRENGTHS = {"image": 0.15, "system": 0.4}
_SIZES = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 4, "head_dim": 64}
_SETTINGS: Final = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # both engines in one process, which takes long to import vLLM
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
}


def names_of(runner: str) -> list[str]:
    """The checks under one runner."""
    of_modes = [f"vllm.{runner}.{mode}.{figure}" for mode in MODES for figure in ("error", "milliseconds", "ratio")]
    return [f"vllm.{runner}.default", f"vllm.{runner}.stock.error", f"vllm.{runner}.stock.milliseconds", *of_modes]


def check_vllm(checks: Checks, say: Callable[[str], None]) -> None:
    """`vllm.v1.…` and `vllm.v2.…`, and `vllm.logit.error` and `vllm.prob.error`: those of the runner vLLM chooses."""
    summary = [f"vllm.{mode}.error" for mode in MODES]
    if find_spec("vllm") is None:
        names = [name for runner in RUNNERS for name in names_of(runner)]
        checks.unavailable("vLLM is not installed: pip install 'avar-eval[vllm]'", [*names, *summary])
        return
    for runner in RUNNERS:
        say(f"vLLM, runner {runner.upper()}")
        with checks.attempt(*names_of(runner)):
            checks.made += _in_a_process(runner)
    made = {check.name: check for check in checks.made}
    default = next((runner for runner in RUNNERS if made[f"vllm.{runner}.default"].value is True), None)
    for mode, name in zip(MODES, summary, strict=True):
        if default is None:
            checks.made.append(Check(name=name, status="failed", why="no engine said which runner vLLM chooses here"))
        else:
            of = made[f"vllm.{default}.{mode}.error"]
            checks.made.append(of.model_copy(update={"name": name, "why": f"runner {default.upper()}, vLLM's choice"}))


def _in_a_process(runner: str) -> list[Check]:
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "checks.json"
        environment = _SETTINGS | os.environ | {"VLLM_USE_V2_MODEL_RUNNER": RUNNERS[runner]}
        command = [sys.executable, "-m", "avar_eval.doctor.vllm_engine", runner, str(found)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=_TIME_LIMIT)
        if not found.exists():
            said = [line for line in done.stderr.splitlines() if "Error" in line] or done.stderr.splitlines()[-1:]
            raise RuntimeError(f"vLLM's process ended with code {done.returncode}: {''.join(said[-1:])[-250:]}")
        return [Check.model_validate(entry) for entry in json.loads(found.read_text(encoding="utf-8"))]


def _main(runner: str, found: Path) -> None:
    checks = Checks()
    with checks.attempt(*names_of(runner)), tempfile.TemporaryDirectory() as parent:
        _check_runner(checks, runner, Path(parent))
    found.write_text(json.dumps([check.model_dump() for check in checks.made]), encoding="utf-8")


def _check_runner(checks: Checks, runner: str, parent: Path) -> None:
    import torch
    from vllm.triton_utils import HAS_TRITON

    from avar_eval.doctor.steered_reference import SteeredReference
    from avar_eval.models.vllm_backend import steered_arguments
    from avar_eval.models.vllm_plugin import VllmSteering

    if runner == "v2" and not HAS_TRITON:
        checks.unavailable("vLLM's V2 runner needs Triton, which vLLM cannot use here", names_of(runner))
        return
    cuda = torch.cuda.is_available()
    folder = save_model(parent / "model")
    stock = _start(folder, cuda)
    config = stock.llm_engine.vllm_config
    checks.add(
        f"vllm.{runner}.default", _is_default(runner, config), why=f"whether vLLM chooses {runner.upper()} itself"
    )
    if config.use_v2_model_runner != (runner == "v2"):
        checks.unavailable(f"vLLM does not take its {runner.upper()} runner here", names_of(runner)[1:])
        return
    reference = SteeredReference(folder)
    prompts = reference.prompts(_BATCH)
    how = f"float32, {len(prompts)} prompts, {'CUDA graphs' if cuda else 'eager, no CUDA here'}"
    unsteered = VllmSteering()
    own = _furthest(stock, prompts, reference, unsteered)
    checks.add(f"vllm.{runner}.stock.error", own, "log-probability", why=f"the stock engine, unsteered; {how}")
    # attention kernels that round products (TF32) are as far off without steering
    bar = max(bars.LOG_PROBABILITIES, 2 * own)
    engines = {"stock": stock}
    for mode in MODES:
        steering = VllmSteering.model_validate(_STRENGTHS | {"mode": mode})
        engines[mode] = _start(folder, cuda, **steered_arguments(folder, steering))
        far = _furthest(engines[mode], prompts, reference, steering)
        moved = _furthest(stock, prompts, reference, steering)
        checks.add(
            f"vllm.{runner}.{mode}.error",
            far,
            "log-probability",
            bar,
            f"steered, against eager float64; steering moves up to {moved:.2g}; {how}",
        )
    seconds = _decoding_seconds(engines, prompts)
    what = f"{_STEPS} tokens, batch {len(prompts)}; {how}"
    for name, times in seconds.items():
        checks.add(f"vllm.{runner}.{name}.milliseconds", 1000 * median(times) / _STEPS, "ms a token", why=what)
        if name != "stock":
            over = median(a / b for a, b in zip(times, seconds["stock"], strict=True))
            checks.add(f"vllm.{runner}.{name}.ratio", over, "× stock", why=what)


def save_model(folder: Path) -> Path:
    """A small Qwen2.5-VL of random weights, lively enough that attention is uneven, with avar-tiny's processor."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    shutil.copytree(
        str(files("avar_eval.models") / "avar_tiny"), folder, ignore=shutil.ignore_patterns("*.safetensors")
    )
    config = AutoConfig.from_pretrained(folder)
    text = config.text_config
    for name, size in _SIZES.items():
        setattr(text, name, size)
    text.num_attention_heads, text.num_key_value_heads = 4, 2
    text.layer_types = ["full_attention"] * _SIZES["num_hidden_layers"]
    text.rope_parameters["mrope_section"] = [8, 12, 12]
    config.vision_config.out_hidden_size = text.hidden_size
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            parameter.data.normal_(std=1.2 * parameter[0].numel() ** -0.5)
    model.save_pretrained(folder)
    return folder


def _start(folder: Path, cuda: bool, **steered: Any) -> Any:
    from vllm import LLM

    # a share of the GPU for each of the engines, which must be free when they start
    memory = {"gpu_memory_utilization": 0.1} if cuda else {}
    return LLM(
        model=str(folder),
        dtype="float32",
        max_model_len=1024,
        max_num_batched_tokens=128,  # prompts are prefilled in chunks
        max_num_seqs=_BATCH,
        kv_cache_memory_bytes=128 << 20,
        enforce_eager=not cuda,
        distributed_executor_backend="uni",
        limit_mm_per_prompt={"image": 1, "video": 0},
        generation_config="vllm",
        **memory,
        **steered,
    )


def _is_default(runner: str, config: Any) -> bool:
    """Whether vLLM would choose this runner if it were not asked for one."""
    asked = os.environ.pop("VLLM_USE_V2_MODEL_RUNNER")
    try:
        return bool(type(config).use_v2_model_runner.__get__(config)) == (runner == "v2")
    finally:
        os.environ["VLLM_USE_V2_MODEL_RUNNER"] = asked


def _furthest(llm: Any, prompts: Sequence[dict[str, Any]], reference: Any, steering: Any) -> float:
    """The greatest difference between log-probabilities of a prompt's tokens, or of a few that it goes on with."""
    import torch
    from vllm import SamplingParams

    plain = list(range(10, 300))  # a generated placeholder would stand for an image that is not there
    sampling = SamplingParams(
        temperature=0, max_tokens=8, ignore_eos=True, logprobs=0, prompt_logprobs=0, allowed_token_ids=plain
    )
    far = 0.0
    for prompt, output in zip(prompts, llm.generate(list(prompts), sampling, use_tqdm=False), strict=True):
        asked, answered = list(output.prompt_token_ids), list(output.outputs[0].token_ids)
        found = [*output.prompt_logprobs[1:], *output.outputs[0].logprobs]
        tokens = asked + answered
        ours = torch.tensor([of[token].logprob for token, of in zip(tokens[1:], found, strict=True)]).double()
        theirs = reference.log_probabilities(tokens, len(asked), prompt, steering)
        far = max(far, float((ours - theirs).abs().max()))
    return far


def _decoding_seconds(engines: dict[str, Any], prompts: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    from vllm import SamplingParams

    from avar_eval.doctor.timing import interleaved

    sampling = SamplingParams(temperature=0, max_tokens=_STEPS, ignore_eos=True, allowed_token_ids=list(range(10, 300)))
    runs = {name: partial(llm.generate, list(prompts), sampling, use_tqdm=False) for name, llm in engines.items()}
    return interleaved(runs, _ROUNDS)


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]))
