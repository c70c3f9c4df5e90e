"""The workload of the attention benchmarks: a Qwen2.5-VL of 8 layers, hidden size 512, 8 heads and 2 key heads.

A sequence of N tokens: 20 system, N/4 image, text, 64 user tokens before the middle, and a response as the second half.
"""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from avar_eval.attention.objectives import attention_losses
from avar_eval.attention.observe import RECORDED, observe
from avar_eval.attention.roles import Role
from avar_eval.doctor import workload
from avar_eval.doctor.shapes import SHAPES
from avar_eval.doctor.workload import SYSTEM, USER, make_ids, make_roles

__all__ = ["SYSTEM", "THREADS", "USER", "Kind", "Mode", "Workload", "make_model", "make_roles", "peak_megabytes"]

THREADS = 2
Mode = Literal["plain", "user", "response", "record", "eager user", "eager response"]
"""record: all key groups, of user and response queries, as records have them; the others: image and system keys."""
Kind = Literal["forward", "training"]


def make_model(implementation: str) -> Any:
    """The benchmark's model."""
    return workload.make_model(SHAPES["small"], implementation)


@dataclass
class Workload:
    """One way to run one step. value: the loss or score of the last run, so that ways can be compared."""

    kind: Kind
    mode: Mode
    tokens: int
    value: float = field(init=False)

    def __post_init__(self) -> None:
        self.model = make_model("eager" if self.mode.startswith("eager") else "sdpa").train(self.kind == "training")
        self.roles = make_roles(self.tokens)
        self.ids = make_ids(self.tokens)
        self.labels = self.ids.masked_fill(self.roles.codes != Role.RESPONSE, -100)
        self.query = Role.USER if self.mode.endswith("user") else Role.RESPONSE

    def run(self) -> None:
        """One forward pass with VAS, or one training step with both losses."""
        self.value = self._step()

    def _step(self) -> float:
        with torch.set_grad_enabled(self.kind == "training"):
            loss, masses = self._forward()
            if self.kind == "forward":
                return float((masses[0] / masses[1]).mean()) if masses else 0.0
            if masses:
                keys = [self.roles.mask(role).sum(1) for role in (Role.IMAGE, Role.SYSTEM)]
                everyone = torch.ones(1, masses[0].shape[-1], dtype=torch.bool)
                loss = loss + 0.15 * sum(attention_losses(*masses, everyone, *keys))
            loss.backward()
        self.model.zero_grad()
        return float(loss.detach())

    def _forward(self) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """The language model's loss, and the masses on image and system keys, if this mode has them."""
        arguments = {"input_ids": self.ids, "attention_mask": torch.ones_like(self.ids), "use_cache": False}
        if self.kind == "training":
            arguments["labels"] = self.labels
        if self.mode == "plain":
            return self.model(**arguments).loss, None
        if self.mode.startswith("eager"):
            out = self.model(**arguments, output_attentions=True)
            rows = self.roles.mask(self.query)[0].nonzero().flatten()
            span = slice(int(rows[0]), int(rows[-1]) + 1)
            image, system = (
                torch.stack([maps[:, :, span, first:last].sum(-1) for maps in out.attentions])
                for first, last in ((SYSTEM, SYSTEM + self.tokens // 4), (0, SYSTEM))
            )
            return out.loss, (image, system)
        queries: Any = "both" if self.mode == "record" else self.query.name.lower()
        groups = RECORDED if self.mode == "record" else ("image", "system")
        with observe(self.model, self.roles, queries=queries, groups=groups) as observation:
            out = self.model(**arguments)
            masses = observation.masses()
        return out.loss, (masses[..., groups.index("image")], masses[..., groups.index("system")])


def peak_megabytes(kind: Kind, mode: Mode, tokens: int) -> tuple[float, float]:
    """Peak resident memory of one step in a process of its own: all of it, and what came after the model was built.

    glibc gives freed memory back at once there: by default it keeps tens of MB, more or less of them in every process.
    """
    command = [sys.executable, str(Path(__file__)), kind, mode, str(tokens)]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    built, peak = map(float, output.split())
    return peak, peak - built


def _status(field: str) -> float:
    """VmRSS, resident memory now, or VmHWM, its peak; in MB (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1000


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    step = Workload(sys.argv[1], sys.argv[2], int(sys.argv[3]))  # type: ignore[arg-type]
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak of building the model does not count
    before = _status("VmRSS")
    step.run()
    print(before, _status("VmHWM"))
