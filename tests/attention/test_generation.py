"""Generation under observation, at batch 8 with ragged prompts: every step's logits are what they were, bit by bit."""

from typing import Any

import pytest
import torch
from decoders import batch, gemma, qwen, roles_of
from torch import Tensor

from avar_eval.attention.observe import observe

PROMPTS = (
    "--sssstvvvvvvvtuuuuut",
    "ssstvvvvttvvvvtuuuuut",
    "-----sssstvvtuuuuuuut",
    "---------sstvvtuuuuut",
    "-sssstvvvvvvvvvtuuuut",
    "ssssssstvvvvvtuuuuuut",
    "------------ssstuuuut",
    "----sssstvvvvvtuuuuut",
)
STEPS = 35  # more than two times what waits to be computed at once


@pytest.mark.parametrize("make", [qwen, gemma])
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_logits_of_every_step_are_bitwise_the_same(make: Any, implementation: str, cache: str) -> None:
    roles = roles_of(*PROMPTS)
    model, inputs = make(implementation), batch(roles)
    options: dict[str, Any] = {"max_new_tokens": STEPS, "min_new_tokens": STEPS, "do_sample": False, "pad_token_id": 0}
    if cache == "static":
        options |= {"cache_implementation": "static", "disable_compile": True}

    def generated() -> tuple[Tensor, Tensor]:
        out = model.generate(**inputs, **options, return_dict_in_generate=True, output_logits=True)
        return out.sequences, torch.stack(out.logits)

    plain, again = generated(), generated()
    assert all(map(torch.equal, plain, again))
    with observe(model, roles) as observation:
        observed = generated()
    assert all(map(torch.equal, plain, observed))
    assert observation.masses().shape[3] == len(observation.positions) == 7 + STEPS - 1
