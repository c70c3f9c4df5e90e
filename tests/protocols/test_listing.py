"""`avar-eval protocols`: what it lists, shows and compares, and what it says of a wrong call."""

import json
from collections.abc import Callable

import pytest
from runs import Finished

from avar_eval.models.registry import registry
from avar_eval.protocols.difference import differences
from avar_eval.protocols.protocol import PublishedProtocol, find_protocol, protocols
from avar_eval.tasks.catalog import catalog

Run = Callable[..., Finished]


def test_every_protocol_has_a_source_and_is_of_known_models_and_benchmarks() -> None:
    known = {name for task in catalog().values() for name in (task.name, task.folder)} | {"default"}
    for name, protocol in protocols().items():
        assert protocol.name == name
        assert protocol.source
        assert set(protocol.models) <= set(registry())
        assert set(protocol.benchmarks) <= known


def test_protocols_are_listed_shown_and_compared(avar_eval: Run) -> None:
    listed = avar_eval("protocols")
    assert listed.code == 0
    assert all(name in listed.stdout for name in protocols())
    assert "https://github.com/open-compass/VLMEvalKit" in listed.stdout
    shown = json.loads(avar_eval("protocols", "vlmevalkit", "--json").stdout)
    assert (shown["image_min_pixels"], shown["image_max_pixels"]) == (1280 * 28**2, 16384 * 28**2)
    assert shown["system_prompt"] is None
    said = avar_eval("protocols", "diff", "vlmevalkit", "lmms-eval").stdout.splitlines()
    assert "largest picture: 12845056 pixels -> 1605632 pixels" in said
    assert "mathvista, token limit: 2048 tokens -> 16384 tokens" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("vlmeval",), "did you mean vlmevalkit"),
        (("diff", "vlmevalkit"), "diff takes two names"),
        (("vlmevalkit", "lmms-eval"), "takes one name, or diff and two names"),
    ],
)
def test_a_wrong_call_is_one_message(avar_eval: Run, words: tuple[str, ...], said: str) -> None:
    refused = avar_eval("protocols", *words)
    assert (refused.code, refused.stdout) == (2, "")
    assert said in refused.stderr


def test_differences_are_said_in_words() -> None:
    own = {"name": "one", "description": "x", "source": "y", "verdict": "strict"}
    one = PublishedProtocol(**own, benchmarks={"mmmu": {"style": "direct"}, "mmstar": {"style": "boxed"}})
    assert differences(one, one) == []
    other = PublishedProtocol(
        **own | {"verdict": "judge"},
        system_prompt=None,
        decoding={"temperature": 0.6},
        max_new_tokens=5,
        benchmarks={"mmmu": {"prompt": "{{ question }}", "stop": ["!"], "max_new_tokens": 7, "verdict": "official"}},
    )
    assert differences(one, other) == [
        "system prompt: the model's own -> the chat template's own",
        "decoding: the model's own -> temperature 0.6, top_p 1, top_k 0, min_p 0, repetition_penalty 1, "
        "presence_penalty 0",
        "token limit: the model's own -> 5 tokens",
        "verdict: strict -> judge",
        "mmmu, prompt:\n  prompt style direct\n  ->\n  '{{ question }}'",
        "mmmu, token limit: the model's own -> 7 tokens",
        "mmmu, ends at: the end of its turn -> '!'",
        "mmmu, verdict: strict -> official",
        "mmstar: one alone says how it is asked",
    ]
    assert any("prompt style direct" in line for line in differences(find_protocol("official"), find_protocol("paper")))
