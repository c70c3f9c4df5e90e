"""Where a run's files lie by default: a folder for each model and each way to ask it that changes answers. Light."""

import hashlib
import json
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from avar_eval.attention.steering import PRESETS, Steering
from avar_eval.models.backend_options import ApiOptions, TransformersOptions, VllmOptions
from avar_eval.models.engine_args import decisive
from avar_eval.models.registry import choose_backend
from avar_eval.names import run_name
from avar_eval.ranks import launched
from avar_eval.records.book import RECORDS_NAME, RecordBookError, stream_records
from avar_eval.run.model import ResolvedModel, resolve
from avar_eval.terminal import note

RUNS: Final = Path("avar-runs")

_WORDS: Final = {
    "protocol": "",
    "steering": "steer",
    "temperature": "t",
    "top_p": "p",
    "top_k": "k",
    "samples": "n",
    "seed": "seed",
    "max_new_tokens": "max",
    "prompt_style": "",
    "backend": "",
    "dtype": "",
}
"""What stands before a setting's value in the name; other settings are only in the digits at its end."""

_LONGEST_WORD: Final = 40


def run_folder(model: ResolvedModel, root: Path = RUNS, name: str | None = None) -> Path:
    """ROOT/MODEL; for a model that is asked otherwise than by default, ROOT/MODEL--SETTINGS-<8 hex digits>.

    Such as `avar-runs/avar-tiny--steer-avar--t0.6-5d41402a`. The same command finds the same folder again, before
    anything heavy is loaded. Which tasks and how many of their questions are asked, on which device and in what batches
    changes no response, so a run that asks more goes on in the same folder. Says on standard error where such a run may
    have been put by earlier versions. name: MODEL, by default `run_name`.
    """
    settings = _settings(model)
    usual = root / (name or run_name(model.asking.model))
    if not settings:
        return usual
    words = [_word(setting, value) for setting, value in settings.items() if setting in _WORDS]
    digits = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    folder = root / f"{'--'.join([usual.name, *words])}-{digits}"
    if launched().first and not folder.exists() and _holds_earlier_records(usual / RECORDS_NAME):
        note(
            f"note: with these settings the run's folder is {folder}; earlier versions put all runs of a model into "
            f"{usual}: if this one began there, --output {usual} goes on with it"
        )
    return folder


def _holds_earlier_records(path: Path) -> bool:
    """Whether a record book was begun by a version whose records named no protocol: the oldest stands first."""
    try:
        return path.exists() and all(record.protocol_id is None for record in islice(stream_records(path), 1))
    except RecordBookError:  # whoever opens the book says what is wrong with it
        return True


def _settings(model: ResolvedModel) -> dict[str, Any]:
    """All that decides a response and is not as the model's entry has it, as JSON knows it: parts of the record key."""
    asking = model.asking
    default = replace(asking, decoding={}, system_prompt=None, prompt_style=None, steering=None)
    usual = resolve(replace(default, image_min_pixels=None, image_max_pixels=None))
    settings: dict[str, Any] = {}
    if model.protocol is not None:
        settings["protocol"] = model.protocol.protocol.name
    if asking.uniform_prompts:
        settings["uniform_prompts"] = True
    if asking.steering is not None and asking.steering.active:
        settings["steering"] = asking.steering.identity()
    drawn = {*model.decoding.identity(), "samples"}
    settings |= {
        name: value
        for name, value in asdict(model.decoding).items()
        if value != getattr(usual.decoding, name) and (name in drawn or name in usual.decoding.identity())
    }
    for name in ("system_prompt", "prompt_style"):
        if getattr(model, name) != getattr(usual, name):
            settings[name] = getattr(model, name)
    if model.image_limits != usual.image_limits:
        settings["image_limits"] = [model.image_limits.min_pixels, model.image_limits.max_pixels]
    if model.backend != choose_backend(model.entry, None):
        settings["backend"] = model.backend
    if asking.dtype is not None:
        settings["dtype"] = asking.dtype
    options = model.options
    if isinstance(options, TransformersOptions) and options.attn_implementation not in (None, "sdpa"):
        settings["attn_implementation"] = options.attn_implementation
    if isinstance(options, VllmOptions) and (own := decisive(options.engine_args)):
        settings["engine_args"] = own
    registered = model.entry.api.url if model.entry and model.entry.api else None
    if isinstance(options, ApiOptions) and options.url != registered:
        settings["url"] = options.url
    return settings


def _word(setting: str, value: Any) -> str:
    if setting == "steering":
        steering = Steering(**value)
        preset = next((name for name, known in PRESETS.items() if known == steering), None)
        value = f"-{preset or str(steering).replace('=', '').replace(',', '-')}"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{_WORDS[setting]}{text}"[:_LONGEST_WORD]
