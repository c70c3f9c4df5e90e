"""Damaged lines are told in words that are not pydantic's."""

import json
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from avar_eval.records.in_words import in_words


class Inner(BaseModel):
    ids: list[int] = []
    share: float = 0


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    key: str
    kind: Literal["a", "b"] = "a"
    share: float = 0
    known: bool = True
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{}", "it has no key"),
        ("[]", "it is not an object"),
        ("{", "it is no JSON: EOF while parsing an object at line 1 column 1"),
        (json.dumps({"key": 5}), "key is not a text"),
        (json.dumps({"key": "", "kind": "c"}), "kind is not 'a' or 'b'"),
        (json.dumps({"key": "", "share": "x"}), "share is not a number"),
        (json.dumps({"key": "", "share": float("inf")}), "share is not a number"),
        (json.dumps({"key": "", "known": 7}), "known is not true or false"),
        (json.dumps({"key": "", "inner": []}), "inner is not an object"),
        (json.dumps({"key": "", "inner": {"ids": 1}}), "inner.ids is not a list"),
        (json.dumps({"key": "", "inner": {"ids": [1.5]}}), "inner.ids.0 is not a whole number"),
        (json.dumps({"key": "", "more": 1}), "more is not a field of it"),
    ],
)
def test_the_first_problem_is_named(line: str, words: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Outer.model_validate_json(line)
    assert in_words(raised.value) == words
