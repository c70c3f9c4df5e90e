"""Which refusals say that a parameter is not taken, and what is sent then: servers' own words."""

import json
from pathlib import Path
from typing import Any

import pytest

from avar_eval.endpoint.exchange import RawReply
from avar_eval.endpoint.failure import RequestError
from avar_eval.endpoint.parameters import Parameters
from avar_eval.endpoint.reply import read_reply

REQUEST: dict[str, Any] = {"model": "m", "messages": [], "temperature": 0.0, "top_p": 0.9, "max_tokens": 50}
CASES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("parameters.json").read_text(encoding="utf-8"))


def refusal(error: object, status: int = 400) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read_reply("http://x/v1", RawReply(status, json.dumps(error).encode(), 0.0, None))
    return caught.value


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_refusal_is_understood_or_left_alone(case: dict[str, Any]) -> None:
    found = Parameters().otherwise(REQUEST, refusal(case["reply"], case.get("status", 400)))
    assert (None if found is None else dict(found.names)) == case["names"]


def test_several_parameters_are_learnt_one_after_the_other_and_none_twice() -> None:
    tokens = refusal({"error": {"message": "Unsupported parameter: 'max_tokens'", "param": "max_tokens"}})
    others = refusal({"error": {"message": "Unsupported parameter: 'max_completion_tokens'"}})
    first = Parameters().otherwise(REQUEST, tokens)
    assert first is not None
    assert first.fitted(REQUEST) == {
        "model": "m",
        "messages": [],
        "temperature": 0.0,
        "top_p": 0.9,
        "max_completion_tokens": 50,
    }
    assert first.otherwise(first.fitted(REQUEST), tokens) is None, "it is not sent any more"
    assert first.otherwise(first.fitted(REQUEST), others) is None, "neither name is taken"
    warm = refusal({"error": {"message": "temperature is deprecated for this model"}})
    second = first.otherwise(first.fitted(REQUEST), warm)
    assert second is not None
    assert "temperature" not in second.fitted(REQUEST)
    assert second.merged_with(first) == second
