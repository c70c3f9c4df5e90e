"""Strengths that a request brings along: read, salted, counted, and the rows that hold them. No vLLM is needed."""

import pytest

from avar_eval.attention.steering import parse_steering
from avar_eval.errors import UsageError
from avar_eval.models.request_steering import (
    StrengthsInFlight,
    TooManyStrengthsError,
    check_words,
    read_strengths,
    salted,
)
from avar_eval.models.steering_rows import SteeringRows, SteeringRowsError
from avar_eval.models.vllm_plugin import VllmSteering


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("image=0.15,system=0.4", "image=0.15,system=0.4,rows=all"),
        (" system = 0.4 , image=0.15, rows=all", "image=0.15,system=0.4,rows=all"),
        ("image=0.5,mode=prob,layers=1+2", "image=0.5,mode=prob,rows=all,layers=1-2"),
        ("avar,rows=all", "image=0.15,system=0.4,rows=all"),
    ],
)
def test_strengths_are_for_all_rows(text: str, whole: str) -> None:
    assert read_strengths(text) == parse_steering(whole)


@pytest.mark.parametrize("text", ["avar", "vaf", "image=0.15,rows=last", "image=0.15,heads=1", 1, None, ""])
def test_what_vllm_cannot_do_is_refused_in_the_words_of_a_request(text: object) -> None:
    with pytest.raises(UsageError, match=r"^avar_steering") as refused:
        read_strengths(text)
    assert "--" not in str(refused.value)


def test_a_misspelt_key_is_refused() -> None:
    check_words(["avar_steering", "session_id"])
    with pytest.raises(UsageError, match="avar-steering"):
        check_words(["avar-steering"])


def test_salts_differ_by_strengths_and_by_own_salt() -> None:
    one, other = read_strengths("image=0.15"), read_strengths("image=0.16")
    salts = [salted(steering, own) for steering in (None, one, other) for own in (None, "mine", "yours")]
    assert salts[:3] == [None, "mine", "yours"]
    assert len(set(salts)) == len(salts)
    for salt in salts[3:]:
        with pytest.raises(UsageError, match="cache_salt"):
            salted(None, salt)


def test_as_many_different_strengths_are_in_flight_as_may_be() -> None:
    flight = StrengthsInFlight()
    one, two, three = (read_strengths(f"image=0.{number}") for number in (1, 2, 3))
    with flight.of(one, 2), flight.of(two, 2):
        with flight.of(one, 2), pytest.raises(TooManyStrengthsError, match="later"), flight.of(three, 2):
            pass
        assert one in flight
        assert three not in flight
    assert one not in flight
    with flight.of(three, 1):
        assert three in flight


def test_a_row_is_given_away_when_no_prompt_needs_it_and_the_oldest_first() -> None:
    written: list[tuple[int, VllmSteering]] = []
    rows = SteeringRows(lambda row, steering: written.append((row, steering)), 4)
    a, b, c, d, e = (VllmSteering(image=number) for number in (1, 2, 3, 4, 5))
    assert rows.begin("own", None) == 0
    assert [rows.begin(name, steering) for name, steering in (("a", a), ("b", b), ("c", c))] == [1, 2, 3]
    assert rows.begin("a again", a) == 1
    with pytest.raises(SteeringRowsError, match="more than 3 different strengths"):
        rows.begin("d", d)
    rows.end("a")
    rows.end("c")
    assert rows.begin("d", d) == 3  # a's row is still needed, b's as well
    rows.end("a again")
    rows.end("b")
    assert rows.begin("e", e) == 2  # asked for longer ago than a's
    assert rows.begin("a", a) == 1
    assert written == [(1, a), (2, b), (3, c), (3, d), (2, e)]
