"""The Triton kernels compile for the GPUs that they are for, on a machine that has none."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("compile_kernels.py")
SHARED_OF_A_PROGRAM = {80: 163 << 10, 90: 227 << 10}
"""Bytes that CUDA lets one program have, by compute capability."""


def compiled(architecture: int, *calls: str) -> list[dict[str, Any]]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, str(SCRIPT), str(architecture), *calls]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.mark.parametrize(("architecture", "calls"), [(90, ()), (80, ("response", "decoding"))])
def test_every_kind_of_call_compiles(architecture: int, calls: tuple[str, ...]) -> None:
    pytest.importorskip("triton", reason="PyTorch for CPUs comes without Triton")
    made = compiled(architecture, *calls)
    assert {"masses", "query_gradient", "key_gradient", "on_all_keys", "joined"} == {one["kernel"] for one in made}
    for one in made:
        assert one["shared"] <= SHARED_OF_A_PROGRAM[architecture], one
        if "float32" not in one["call"] and one["kernel"] != "joined":
            assert one["tensor_cores"] > 0, one
        if one["call"] == "response" and one["kernel"] == "masses":
            assert one["stack"] == 0, f"registers are spilled: {one}"
