"""The doctor's whole examination."""

import warnings
from collections.abc import Callable
from typing import Any

import torch

from avar_eval.doctor.checks import Checks
from avar_eval.doctor.cost import Setting, check_costs
from avar_eval.doctor.exactness import check_exactness
from avar_eval.doctor.machine import describe_machine
from avar_eval.doctor.shapes import find_shape
from avar_eval.errors import UsageError
from avar_eval.models.transformers_backend import Placement

_DEFAULTS: dict[str, dict[str, Any]] = {
    "cpu": {"forward": (512, 1024), "training": (256,), "prompt": 64, "generated": 16, "seconds": 3.0},
    "cuda": {
        "forward": (4096, 16384, 30000),
        "training": (4096, 16384),
        "prompt": 2000,
        "generated": 40,
        "seconds": 8.0,
    },
}
"""By kind of device: so that the small shape takes less than a minute on two cores, that of a 7B less than three on an
H100."""


def examine(
    shape: str | None,
    lengths: tuple[int, ...] | None,
    place: Placement,
    vllm: bool,
    say: Callable[[str], None],
) -> tuple[dict[str, Any], Checks]:
    """The machine, and all checks. None: the device's default. Raises UsageError for what is unknown or not here."""
    kind, device, dtype = place.device.type, str(place.device), place.dtype
    if kind not in _DEFAULTS:
        raise UsageError(f"--device {device!r} cannot be examined: the doctor knows {' and '.join(_DEFAULTS)}")
    shape = (shape or ("qwen2.5-vl-7b" if kind == "cuda" else "small")).lower()
    defaults = _DEFAULTS[kind] | ({} if lengths is None else {"forward": lengths, "training": lengths})
    setting = Setting(find_shape(shape), device, dtype, place.attn_implementation, **defaults)
    machine = describe_machine()
    machine |= {"device": device, "shape": shape, "dtype": dtype, "implementation": place.attn_implementation}
    checks = Checks()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries warn of what is done here on purpose
        say("masses and gradients")
        with checks.attempt("masses"):
            check_exactness(checks, setting.shape, device, place.attn_implementation)
        check_costs(checks, setting, say)
        if vllm:
            from avar_eval.doctor.vllm_engine import check_vllm

            if kind == "cuda":
                torch.cuda.empty_cache()  # engines of other processes need it
            check_vllm(checks, say)
    return machine, checks
