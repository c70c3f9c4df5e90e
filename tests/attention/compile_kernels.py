"""Compile the Triton kernels for a GPU that is not here: `compile_kernels.py ARCHITECTURE`, such as 90 for an H100.

The interpreter runs kernels as Python, which knows no types: it takes what the compiler refuses. So each kind of call
is compiled to machine code, as the first launch would; nothing is run. One line a kernel, as JSON.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from avar_eval.attention.groups import KeyGroups
from avar_eval.attention.problem import AttentionProblem
from avar_eval.attention.triton_mass import attention_mass
from avar_eval.attention.visibility import Visibility

HEADS, KV_HEADS, KEYS, GROUPS = 28, 4, 4096, 7
SEEN = torch.ones(1, KEYS, dtype=torch.bool)
CALLS: dict[str, dict[str, Any]] = {
    "response": {"rows": range(2048, KEYS)},
    "one query": {"rows": range(KEYS - 1, KEYS)},
    "listed queries": {"rows": [5, 9, 100], "dtype": torch.float16, "dim": 64},
    "no normaliser": {"rows": range(2048, KEYS), "lse": False, "dim": 80, "visibility": Visibility(window=300)},
    "soft cap, padding, segments": {
        "rows": range(2048, KEYS),
        "dim": 256,
        "softcap": 50.0,
        "visibility": Visibility(padding=SEEN, segments=SEEN.long()),
    },
    "boolean mask": {
        "rows": range(2048, KEYS),
        "visibility": Visibility(False, mask=SEEN.expand(KEYS, -1)[None, None]),
    },
    "added mask, float32": {
        "rows": range(2048, KEYS),
        "dtype": torch.float32,
        "dim": 32,
        "visibility": Visibility(False, mask=torch.zeros(1, 1, KEYS, KEYS)),
    },
    "decoding": {"rows": range(1), "lse": False, "few": True, "visibility": Visibility(causal=False)},
    "decoding, masked": {
        "rows": range(1),
        "lse": False,
        "few": True,
        "visibility": Visibility(False, mask=SEEN[None, None]),
    },
}


class AbsentGpu:
    """What Triton asks its driver before it compiles."""

    def __init__(self, architecture: int) -> None:
        self.architecture = architecture

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.architecture, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def compiled_instead(kernel: JITFunction, grid: Any) -> Callable[..., None]:
    """In the place of a launch."""

    def launch(*arguments: Any, **named: Any) -> None:
        made = kernel.run(*arguments, grid=grid, warmup=True, **named)
        found = {"kernel": kernel.fn.__name__, "call": CALL, "shared": made.metadata.shared}
        found["tensor_cores"] = len(re.findall(r"wgmma\.mma_async|mma\.sync", made.asm["ptx"]))
        print(json.dumps(found | resources(made.asm["cubin"])), flush=True)

    return launch


def resources(cubin: bytes) -> dict[str, int]:
    """Registers a thread, and bytes that did not fit into them."""
    tool = Path(triton.__file__).with_name("backends") / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    return {name.lower(): int(value) for name, value in re.findall(r"(REG|STACK):(\d+)", said)}


def call(
    rows: Any,
    visibility: Visibility = Visibility(),  # noqa: B008 # frozen
    dim: int = 128,
    dtype: torch.dtype = torch.bfloat16,
    softcap: float | None = None,
    lse: bool = True,
    few: bool = False,
) -> None:
    """Masses and their gradient, of memory that nothing reads."""
    queries = 1 if few else KEYS
    query = torch.empty(1, HEADS, queries, dim, dtype=dtype, requires_grad=not few)
    key = torch.empty(1, KV_HEADS, KEYS, dim, dtype=dtype, requires_grad=not few)
    membership = torch.zeros(1, KEYS, GROUPS, dtype=torch.bool)
    for group, (first, last) in enumerate(((0, 20), (20, 276), (276, 340), (2048, KEYS), (0, 1), (1, 20))):
        membership[:, first:last, group] = True
    groups = KeyGroups.for_few_queries(membership) if few else KeyGroups.of(membership)
    normaliser = torch.zeros(1, HEADS, queries) if lse else None
    masses = attention_mass(query, key, normaliser, AttentionProblem(rows, groups, visibility, dim**-0.5, softcap))
    if not few:
        masses.sum().backward()


if __name__ == "__main__":
    os.environ.pop("TRITON_INTERPRET", None)
    driver.set_active(AbsentGpu(int(sys.argv[1])))
    JITFunction.__getitem__ = compiled_instead  # type: ignore[method-assign, assignment]
    for CALL in sys.argv[2:] or CALLS:
        call(**CALLS[CALL])
