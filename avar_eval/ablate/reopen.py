"""How a finished run asked its model, read from its protocol, so that its records are found again."""

import ast
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from avar_eval.attention.steering import Steering
from avar_eval.results.schema import Results
from avar_eval.run.asking import Asking
from avar_eval.run.model import ResolvedModel, resolve
from avar_eval.view.task_rows import command_option, data_folder


def reopened(results: Results, given: Mapping[str, Any]) -> ResolvedModel:
    """The run's model, asked as the run asked it. given: fields of `Asking`, in the place of the run's.

    Causal columns that the run has are measured of as many rows, and as widely, as they were. What the protocol has is
    set only where the model's entry, as it is today, says otherwise. Raises UsageError for a model that cannot be
    found, and what its name stands for now may be another: its records are then not found.
    """
    card = results.protocol
    command = str(card.get("command", ""))
    backend = card.get("backend") or {}
    named = card.get("protocol") or {}
    limits = card.get("image_limits") or {}
    asking: dict[str, Any] = {
        "model": command_option(command, "--model", "-m") or _called(command) or card["model"],
        "limit": card.get("limit"),
        "uniform_prompts": bool(card.get("uniform_prompts")),
        "protocol": named.get("based_on") or named.get("name"),
        "image_min_pixels": limits.get("min_pixels"),
        "image_max_pixels": limits.get("max_pixels"),
        "steering": Steering(**card["steering"]) if card.get("steering") else None,
        "data_dir": data_folder(command),
        "dtype": card.get("dtype"),
        "backend": backend.get("backend"),
        "attention_samples": None,
        "name": card["model"],
    }
    if backend.get("backend") == "api":
        asking |= {
            "dtype": None,
            "api_url": backend.get("url"),
            "api_weights": command_option(command, "--api-weights"),
        }
    elif backend.get("backend") == "transformers":
        asking["attn_implementation"] = backend.get("attn_implementation")
    asking |= {name: value for name, value in given.items() if value is not None}
    model = resolve(Asking.of(**asking | _at_least(card.get("causal") or {}, asking)))
    changed: dict[str, Any] = {}
    if card.get("system_prompt") != model.system_prompt:
        changed["system_prompt"] = card.get("system_prompt")
    if not named and card.get("prompt_style") not in (None, model.prompt_style):
        changed["prompt_style"] = card["prompt_style"]
    drawn = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in (card.get("decoding") or {}).items()
        if getattr(model.decoding, name, None) != (tuple(value) if isinstance(value, list) else value)
    }
    if drawn:
        changed["decoding"] = {**model.asking.decoding, **drawn}
    return resolve(replace(model.asking, **changed)) if changed else model


def _at_least(known: Mapping[str, Any], asking: Mapping[str, Any]) -> dict[str, Any]:
    """How causal columns are measured: as asked, and no less than the run's card says that they are known already."""
    if not known:
        return {}
    modes = ("off", "fast", "full")
    return {
        "causal": max(known.get("mode", "off"), asking.get("causal", "off"), key=modes.index),
        "causal_samples": max(known.get("samples", 0), asking.get("causal_samples", 0)),
        "knockout_windows": asking.get("knockout_windows") or known.get("knockout_windows", 0),
    }


def _called(command: str) -> str | None:
    """The model of `avar_eval.evaluate('MODEL', …)`."""
    try:
        (statement,) = ast.parse(command).body
    except (SyntaxError, ValueError):
        return None
    call = statement.value if isinstance(statement, ast.Expr) else None
    first = call.args[0] if isinstance(call, ast.Call) and call.args else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
