"""Invented hostile responses to MathVision rows; `fuzz.py` judges as many as one likes."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from fuzz import RESPONSES, ROWS, judged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import KINDS, Mutation, judged_wrong


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(ROWS), RESPONSES)
def test_any_response_is_judged_by_both_rules(row: dict[str, Any], response: str) -> None:
    judged(row, response)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mutation_is_judged_as_it_was_made(kind: Callable[[random.Random], Mutation]) -> None:
    draw = random.Random(2026)
    assert [fault for fault in (judged_wrong(kind(draw)) for _ in range(150)) if fault is not None] == []
