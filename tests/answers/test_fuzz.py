"""Invented hostile responses to MathVision rows; `fuzz.py` judges as many as one likes."""

from typing import Any

from fuzz import RESPONSES, ROWS, judged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(ROWS), RESPONSES)
def test_any_response_is_judged_by_both_rules(row: dict[str, Any], response: str) -> None:
    judged(row, response)
