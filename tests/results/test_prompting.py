"""How two runs were asked, told from their cards: those of earlier versions have fewer fields."""

from typing import Any

from avar_eval.results.prompting import note_on_prompts, prompting_differences, prompting_sha256

CARD: dict[str, Any] = {
    "model": "avar-tiny",
    "system_prompt": None,
    "prompt_style": "boxed",
    "instruction": None,
    "decoding": {"temperature": 0.0, "max_new_tokens": 128},
    "tasks": {"shapes": {"version": 1}},
}


def test_runs_that_were_asked_alike_differ_in_nothing() -> None:
    assert prompting_differences(CARD, dict(CARD)) == []
    assert prompting_differences({"model": "avar-tiny"}, {"model": "avar-tiny"}) == []
    assert note_on_prompts([prompting_sha256(CARD), prompting_sha256({**CARD, "decoding": {}})]) is None


def test_each_setting_is_said_with_both_values() -> None:
    other = {
        **CARD,
        "system_prompt": "Look.",
        "image_limits": {"min_pixels": None, "max_pixels": 262144},
        "decoding": {"temperature": 0.6, "max_new_tokens": 128},
        "tasks": {"shapes": {"version": 1, "decoding": {"max_new_tokens": 64}}},
        "protocol": {"name": "custom", "prompts": {"shapes": {"prompt_style": "direct"}}},
    }
    assert prompting_differences(CARD, other) == [
        "protocol: none given -> custom",
        "system prompt: none given -> Look.",
        'prompts: none given -> {"shapes": {"prompt_style": "direct"}}',
        "largest picture: none given -> 262144",
        "temperature: 0.0 -> 0.6",
        'token limits of tasks: none given -> {"shapes": {"max_new_tokens": 64}}',
    ]
    assert note_on_prompts([prompting_sha256(CARD), prompting_sha256(other)]) is not None
