"""Whether runs put their questions alike: what stands around a question, told from the protocol cards."""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

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
