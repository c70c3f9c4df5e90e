"""Memory on a CPU: what is free, and the peak of forward passes, as resident memory of a process of its own (Linux).

glibc gives freed memory back at once there: by default it keeps tens of MB, more or less of them in every process.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from avar_eval.doctor.checks import UnavailableError
from avar_eval.doctor.shapes import Shape
from avar_eval.terminal import say

_PROCESS = Path("/proc/self")
_GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def peaks_in_a_process(
    shape: Shape, implementation: str, dtype: str, lengths: Sequence[int]
) -> Iterator[tuple[int, dict[str, float]]]:
    """Of each length: its tokens, and the peak in bytes of a pass by its queries, `plain` without any."""
    if not (_PROCESS / "clear_refs").exists():
        raise UnavailableError("peak memory of a process is read from Linux's /proc")
    arguments = json.dumps([asdict(shape), implementation, dtype, list(lengths)])
    command = [sys.executable, "-m", "avar_eval.doctor.memory", arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | _GIVE_BACK)
    if done.returncode:
        raise RuntimeError(f"the process that measures memory ended with code {done.returncode}: {done.stderr[-200:]}")
    for line in done.stdout.splitlines():
        tokens, peaks = json.loads(line)
        yield tokens, peaks


def free_bytes() -> float:
    """Memory that is free on this machine; infinite where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.inf
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


def _peak_resident() -> float:
    lines = (_PROCESS / "status").read_text(encoding="utf-8").splitlines()
    return next(1000.0 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def _main(shape: Shape, implementation: str, dtype: str, lengths: Sequence[int]) -> None:
    from avar_eval.doctor.cost import FORWARD
    from avar_eval.doctor.exactness import DTYPES
    from avar_eval.doctor.workload import Workload, make_model

    model = make_model(shape, implementation, dtype=DTYPES[dtype]).eval()
    for tokens in lengths:
        workload, peaks = Workload(model, tokens), {}
        workload.forward("both")  # what a first pass makes for all later ones does not count
        for queries in (None, *FORWARD):
            (_PROCESS / "clear_refs").write_text("5", encoding="utf-8")
            workload.forward(queries)
            peaks[queries or "plain"] = _peak_resident()
        say(json.dumps([tokens, peaks]))


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    _main(Shape(**given[0]), *given[1:])
