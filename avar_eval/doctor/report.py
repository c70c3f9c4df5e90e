"""The doctor's report for people: tables of at most 80 columns, which paste well into an issue."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console

from avar_eval.console import wide_console
from avar_eval.doctor.checks import Check, Checks
from avar_eval.number_format import UNKNOWN
from avar_eval.tables import Column, FittedTable

WIDTH = 80
_MARKS = {"measured": "ok", "unavailable": "–", "failed": "FAILED"}
_TITLES = {
    "exactness": "Masses and gradients against float64, by implementation",
    "forward": "Forward passes with attention masses, over plain ones",
    "training": "Training steps with both AGTO losses, over plain ones",
    "decode": "Generation, observed and steered, over plain",
    "vllm": "Steering in vLLM",
}
_EXACTNESS = ("normaliser", "masses", "gradients")
_FIGURES = ("ratio", "memory", "seconds", "megabytes", "milliseconds", "error")


def print_report(machine: Mapping[str, Any], checks: Checks) -> None:
    """One table a subject, below it what could not be checked or failed and why; a last line counts."""
    console = wide_console()
    console.width = min(WIDTH, console.width)
    _print_machine(console, machine)
    by_subject: dict[str, list[Check]] = defaultdict(list)
    for check in checks.made:
        first = check.name.partition(".")[0]
        by_subject["exactness" if first in _EXACTNESS else first].append(check)
    for subject, of in by_subject.items():
        console.print(f"\n{_TITLES[subject]}")
        table = _exactness_table(of) if subject == "exactness" else _table(of)
        if table.rows:
            console.print(table)
        _print_reasons(console, of)
    counts = ", ".join(f"{count} {status}" for status, count in checks.counts().items())
    console.print(f"\n{counts}")


def _print_machine(console: Console, machine: Mapping[str, Any]) -> None:
    gpus = machine["gpus"]
    devices = [f"{gpu['name']} ({gpu['gigabytes']:g} GB, capability {gpu['capability']})" for gpu in gpus]
    one_each = {"avar-eval", "python", "torch", "transformers", "trl", "accelerate", "triton", "kernels", "vllm"}
    versions = [f"{name} {machine[name] or '–'}" for name in machine if name in one_each or name.startswith("flash")]
    console.print(", ".join(versions))
    console.print(f"CUDA {machine['cuda'] or '–'}, driver {machine['driver'] or '–'}, {machine['platform']}")
    console.print(f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads")
    for device in devices or ["no GPU"]:
        console.print(device)
    console.print(
        f"costs: random weights in the shape {machine['shape']}, {machine['dtype']}, {machine['implementation']}, "
        f"{machine['device']}"
    )


def _exactness_table(checks: Iterable[Check]) -> FittedTable:
    """A row for each implementation and dtype that loads."""
    table = _new_table("implementation", "dtype", "normaliser", "masses", "bar", "gradients", "bar", "")
    rows: dict[str, dict[str, Check]] = defaultdict(dict)
    for check in checks:
        first, _, rest = check.name.partition(".")
        rows[rest.removesuffix(".error")][first] = check
    for kind, of in rows.items():
        if all(check.status == "unavailable" for check in of.values()):
            continue
        implementation, _, dtype = kind.rpartition(".")
        cells = [str(of["normaliser"].value or "–")] if "normaliser" in of else ["–"]
        for name in _EXACTNESS[1:]:
            cells += [_value(of[name]), _bar(of[name])] if name in of else ["–", ""]
        worst = "failed" if any(check.status == "failed" for check in of.values()) else "measured"
        table.add_row(implementation, dtype, *cells, _MARKS[worst])
    return table


def _table(checks: Iterable[Check]) -> FittedTable:
    """A row for each check that has a value."""
    table = _new_table("check", "value", "bar", "")
    for check in checks:
        if check.value is not None:
            name = check.name.partition(".")[2]
            unit = "" if isinstance(check.value, bool | str) else f" {check.unit or ''}".rstrip()
            table.add_row(name, _value(check) + unit, _bar(check), _MARKS[check.status])
    return table


def _print_reasons(console: Console, checks: Iterable[Check]) -> None:
    """What is said of checks, each text once, with the checks that it is said of; failures last, nearest to the eye."""
    texts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for check in checks:
        if check.why is not None:
            texts[check.status, check.why].append(check.name)
    for status, label in (("measured", ""), ("unavailable", "not here: "), ("failed", "FAILED: ")):
        for (of, why), names in texts.items():
            exactness = names[0].partition(".")[0] in _EXACTNESS
            if of == status and not (status == "measured" and exactness):
                console.print(f"{label}{_kernel_summary(names) if exactness else _together(names)}: {why}")


def _kernel_summary(names: list[str]) -> str:
    """Names of exactness, without what is checked if it is all: `flash_attention_2.{float32,bfloat16}`."""
    parts = [name.removesuffix(".error").partition(".") for name in names]
    what = list(dict.fromkeys(first for first, _, _ in parts))
    kinds = _together(list(dict.fromkeys(kind for _, _, kind in parts)))
    return kinds if len(what) == len(_EXACTNESS) else f"{' and '.join(what)} of {kinds}"


def _together(names: list[str]) -> str:
    """Names with what they share written once: `forward.{user,response}.512.ratio`."""
    groups: dict[tuple[int, str], list[list[str]]] = defaultdict(list)
    for name in names:
        parts = name.split(".")
        groups[len(parts), parts[-1] if parts[-1] in _FIGURES else ""].append(parts)
    return ", ".join(text for parts in groups.values() for text in _folded(parts))


def _folded(names: list[list[str]]) -> list[str]:
    columns = [list(dict.fromkeys(column)) for column in zip(*names, strict=True)]
    if math.prod(map(len, columns)) != len(names):
        return [".".join(parts) for parts in names]
    return [".".join(column[0] if len(column) == 1 else "{" + ",".join(column) + "}" for column in columns)]


def _new_table(*headings: str) -> FittedTable:
    keys = headings[: 2 if headings[1] == "dtype" else 1]
    return FittedTable([Column(heading, text=heading in keys, key=heading in keys) for heading in headings])


def _value(check: Check) -> str:
    value = check.value
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return f"{value:.1e}" if 0 < abs(value) < 0.001 else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"


def _bar(check: Check) -> str:
    if check.bar is None:
        return ""
    return "yes" if isinstance(check.bar, bool) else f"≤ {check.bar:g}"
