"""Equality by kind, and what a row at fault does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avar_eval.answers import judge_answer
from avar_eval.answers.equal import float_equal, integer_equal, list_equal, option_equal, text_equal
from avar_eval.answers.options import LETTERS, named_option
from avar_eval.answers.quantity import read_quantity


@given(st.integers(-(10**30), 10**30))
def test_every_way_to_write_an_integer_is_equal(number: int) -> None:
    for written in (str(number), f"{number:,}", f"{number}.0", f"${number}$", f"{number} cm", f"x = {number}"):
        assert integer_equal(written, str(number))
        assert not integer_equal(written, str(number + 1))


@given(st.floats(-1e9, 1e9), st.sampled_from([1, 2]))
def test_a_float_is_equal_as_mathvista_rounds(number: float, precision: int) -> None:
    """str(round(float(x), precision)) of the official script, for plain decimals."""
    written, gold = f"{number:.6f}", str(round(number, precision))
    same = str(round(float(written), precision)) == str(round(float(gold), precision))
    assert float_equal(written, gold, precision=precision) == same or round(float(written), precision) == 0


def test_a_float_without_precision_has_a_tolerance() -> None:
    assert float_equal("0.3333", "1/3", tolerance=1e-3)
    assert not float_equal("0.3333", "1/3")
    assert float_equal("1234567.0", "1234567")


@given(st.lists(st.text(st.characters(categories=["L"]), min_size=3, max_size=9), min_size=2, max_size=8, unique=True))
def test_every_option_is_named_by_letter_and_by_text(words: list[str]) -> None:
    choices = [f"{word} {number}" for number, word in enumerate(words)]
    for index, choice in enumerate(choices):
        letter = LETTERS[index]
        for written in (
            letter,
            f"({letter})",
            f"{letter}.",
            f"**{letter}**",
            f"({letter}) {choice}",
            f"option {letter}",
        ):
            assert named_option(written, choices) == index
        assert named_option(choice, choices) == index


@given(st.text(max_size=30), st.text(max_size=30))
def test_text_equality_is_symmetric(one: str, other: str) -> None:
    words = {"yes", "no"}
    if not words & {one.strip().casefold(), other.strip().casefold()}:
        assert text_equal(one, other) == text_equal(other, one)
    assert text_equal(one.upper(), one.upper())


@pytest.mark.parametrize("text", ["", "abc", "1/0", "5π", "1,2", "12 34", "1.2.3", "0x10", "١٢", "∞", "nan", "inf"])
def test_what_is_no_number_is_not_read_as_one(text: str) -> None:
    assert read_quantity(text) is None


def test_a_gold_that_is_not_of_its_kind_is_an_error_of_the_row() -> None:
    for kind, gold in (("integer", "many"), ("float", "5π"), ("list", "five"), ("choice", "9")):
        with pytest.raises(ValueError, match="gold"):
            judge_answer("<answer>1</answer>", answer=gold, kind=kind, choices=("1", "2"))  # type: ignore[arg-type]


def test_equality_functions_refuse_a_wrong_gold() -> None:
    with pytest.raises(ValueError, match="choices"):
        option_equal("A", "purple", ["red", "blue"])
    with pytest.raises(ValueError, match="not a list"):
        list_equal("[1]", "one")
