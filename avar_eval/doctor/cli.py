"""`avar-eval doctor`."""

import contextlib
import json
import re
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from avar_eval.command_line import interruptible
from avar_eval.doctor.shapes import find_shape
from avar_eval.errors import UsageError
from avar_eval.help_text import examples
from avar_eval.run.options import asking_options
from avar_eval.terminal import say

_SHORTEST, _LONGEST = 64, 1 << 17


@examples(
    "avar-eval doctor",
    "avar-eval doctor --shape qwen2.5-vl-7b --lengths 4096,16384 --json",
)
@asking_options("attn_implementation", "device", "dtype")
def doctor(
    *,
    shape: Annotated[
        str | None,
        typer.Option(
            help="Random weights in this shape: small, qwen2.5-vl-3b, qwen2.5-vl-7b, qwen3-vl-8b.",
            show_default="qwen2.5-vl-7b on a GPU, else small",
        ),
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(
            help="Tokens of forward passes and training steps, separated by commas.",
            show_default="4096,16384,30000 (training: 4096,16384) on a GPU, else 512,1024 (256)",
        ),
    ] = None,
    asked: Mapping[str, Any],
    vllm: Annotated[bool, typer.Option("--vllm", help="Check steering in vLLM, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Check what measuring and steering give and cost here, to paste into an issue. Exit code 1: a check failed."""
    if shape is not None:
        find_shape(shape)
    tokens = None if lengths is None else _lengths(lengths)
    # Libraries print, and standard output is for the report.
    with contextlib.redirect_stdout(sys.stderr), interruptible():
        from avar_eval.console import InertConsole
        from avar_eval.doctor.checks import machine_and_checks
        from avar_eval.doctor.examine import examine
        from avar_eval.doctor.report import print_report
        from avar_eval.models.transformers_backend import Placement

        with InertConsole(stderr=True).status("") as status:  # on a terminal
            place = Placement.of(asked["device"], asked["dtype"], asked["attn_implementation"])
            machine, checks = examine(shape, tokens, place, vllm, status.update)
    if as_json:
        say(json.dumps(machine_and_checks(machine, checks), ensure_ascii=False))
    else:
        print_report(machine, checks)
    if checks.counts()["failed"]:
        raise typer.Exit(1)


def _lengths(text: str) -> tuple[int, ...]:
    """Ascending lengths. Raises UsageError."""
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,6}", word) and _SHORTEST <= int(word) <= _LONGEST for word in words):
        raise UsageError(
            f"--lengths takes numbers of tokens from {_SHORTEST} to {_LONGEST}, separated by commas, not {text!r}"
        )
    return tuple(sorted({int(word) for word in words}))
