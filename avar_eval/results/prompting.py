"""Whether runs were asked alike, told from their protocol cards."""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final

DIFFERENT_PROMPTS = (
    "the models were not asked alike: system prompt, style or instruction differ, and VAS with them; "
    "--uniform-prompts, or one --protocol, asks all alike"
)


def prompting_sha256(protocol: Mapping[str, Any]) -> str:
    """SHA-256 of all that a run puts around a question: system prompt, style, instruction, a named protocol's prompts.

    protocol: the card of results.json, of any version.
    """
    named = protocol.get("protocol") or {}
    parts = [protocol.get("system_prompt"), protocol.get("prompt_style"), protocol.get("instruction")]
    return sha256(json.dumps([*parts, named.get("prompts")], sort_keys=True).encode()).hexdigest()


def note_on_prompts(hashes: Iterable[str]) -> str | None:
    """What to tell of runs that are set side by side; None if all were asked alike."""
    return DIFFERENT_PROMPTS if len(set(hashes)) > 1 else None


def prompting_differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """A line for each setting in which two runs' cards differ that may change answers, but for the questions asked."""
    return [
        f"{name}: {_in_words(first)} -> {_in_words(second)}"
        for (name, first), (_, second) in zip(_settings(one), _settings(other), strict=True)
        if first != second
    ]


_DECODING: Final = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "max_new_tokens", "samples",
)  # fmt: skip


def _settings(card: Mapping[str, Any]) -> list[tuple[str, Any]]:
    named, limits, decoding = (card.get(part) or {} for part in ("protocol", "image_limits", "decoding"))
    return [
        ("protocol", named.get("name")),
        *((part.replace("_", " "), card.get(part)) for part in ("model", "revision", "dtype", "steering")),
        *((part.replace("_", " "), card.get(part)) for part in ("system_prompt", "prompt_style", "instruction")),
        ("prompts", named.get("prompts")),
        ("smallest picture", limits.get("min_pixels")),
        ("largest picture", limits.get("max_pixels")),
        *((part, decoding.get(part)) for part in _DECODING),
        (
            "token limits of tasks",
            {name: of["decoding"] for name, of in (card.get("tasks") or {}).items() if "decoding" in of},
        ),
    ]


def _in_words(value: Any) -> str:
    if value in (None, {}):
        return "none given"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
