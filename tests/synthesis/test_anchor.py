"""Stage 3's checks: looking phrases that name objects, and nothing else that has changed."""

import difflib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avar_eval.recipes.synthesis.anchor import Anchored, check_anchored, equal_share
from avar_eval.recipes.synthesis.looking import anchors, forbidden, marks, without_marks
from avar_eval.recipes.synthesis.reason import Solution
from avar_eval.recipes.synthesis.recipe import Filters

OBJECTS = ("triangle ABC", "segment AB", "segment BC", "second bar")
QUESTION = "In the figure, AB = 6 and BC = 8. What is the length of AC?"
PLAIN = """[LOOK: triangle ABC] The triangle has a right angle at B, so the theorem of Pythagoras holds in it.
Wait, according to the description, [LOOK: segment AB] AB is 6 and is one of the legs, as is BC with its length of 8.
So [LOOK: segment BC] the squares add up: $6^2 + 8^2 = 36 + 64 = 100$, and the root of 100 is 10, longer than both.
Let me double-check this step. As described, [LOOK: segment BC] BC is 8, and 64 = 100 - 36, so AC is 10."""
SOLUTION = Solution(PLAIN, "10", 0, 1.0)
LOOKING = """Look at the triangle ABC: The triangle has a right angle at B, so the theorem of Pythagoras holds in it.
Wait, look back at the segment AB to confirm: AB is 6 and is one of the legs, as is BC with its length of 8.
So, looking at segment BC, the squares add up: $6^2 + 8^2 = 36 + 64 = 100$, and the root of 100 is 10, longer than both.
Let me double-check this step. Let me check segment BC in the image again: BC is 8, and 64 = 100 - 36, so AC is 10."""


def check(anchored: str, ended: str = "stop", question: str = QUESTION, **filters: object) -> Anchored | str:
    given = Filters.model_validate(filters)
    return check_anchored(f"<reasoning>\n{anchored}\n</reasoning>", ended, SOLUTION, question, OBJECTS, given)


def test_a_solution_that_only_looks_more_passes() -> None:
    found = check(LOOKING)
    assert isinstance(found, Anchored)
    assert [anchor.named for anchor in found.looking] == ["triangle ABC", "segment AB", "segment BC", "segment BC"]
    assert [anchor.text for anchor in found.looking] == [
        "Look at the triangle ABC:",
        "look back at the segment AB to confirm:",
        "looking at segment BC,",
        "Let me check segment BC in the image again:",
    ]


REJECTED = {
    "a mark is left": (
        LOOKING.replace("look back at the segment AB to confirm:", "[LOOK: segment AB]"),
        "forbidden_word",
    ),
    "the description is left": (LOOKING.replace("Wait,", "Wait, as described,"), "forbidden_word"),
    "a step is gone": (LOOKING.replace(", so the theorem of Pythagoras holds in it", ""), "steps_changed"),
    "a step is new": (
        LOOKING.replace("Let me double", "All of it is quite easy to see. Let me double"),
        "steps_changed",
    ),
    "a number": (LOOKING.replace("AB is 6", "AB is 7"), "numbers_changed"),
    "a sign": (LOOKING.replace("100 - 36", "100 + 36"), "numbers_changed"),
    "a formula": (LOOKING.replace("8^2", "9^2"), "formulas_changed"),
    "an anchor tells a number": (
        LOOKING.replace("look back at the segment AB", "look back at the segment AB of 6"),
        "numbers_changed",
    ),
    "an anchor names nothing": (LOOKING.replace("segment AB to confirm", "circle of Thales"), "unnamed_anchor"),
    "two of four see but the image": (
        LOOKING.replace("segment AB to", "image to").replace("triangle ABC:", "picture:"),
        "unnamed_anchor",
    ),
    "two are missing": (
        LOOKING.replace("Look at the triangle ABC: ", "").replace(", looking at segment BC,", ""),
        "few_anchors",
    ),
    "all at the beginning": (
        f"Look at triangle ABC: look at segment AB: look at segment BC: {without_marks(PLAIN)}",
        "unplaced_anchors",
    ),
    "within a formula": (LOOKING.replace("$6^2", "$ look at the second bar: 6^2"), "formulas_changed"),
    "tags": (LOOKING + "</think>", "format"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_what_has_changed_otherwise_is_rejected_by_its_reason(name: str) -> None:
    anchored, reason = REJECTED[name]
    assert check(anchored) == reason


def test_replies_that_are_cut_or_not_in_their_tags_are_none() -> None:
    assert check(LOOKING, ended="length") == "truncated"
    for answer, outcome in (("10", Anchored), ("9", str)):
        said = f"<reasoning>{LOOKING}</reasoning><answer>{answer}</answer>"
        found = check_anchored(said, "stop", SOLUTION, QUESTION, OBJECTS, Filters())
        assert isinstance(found, outcome)
        assert found == "answer_changed" or answer == "10"


def test_density_and_count_are_the_filters() -> None:
    assert check(LOOKING, anchors=5) == "few_anchors"
    assert check(LOOKING, anchors_per_100_words=(10, 12)) == "few_anchors"
    assert check(LOOKING, anchors_per_100_words=(0, 3)) == "many_anchors"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("It was Described so.", "Described"),
        ("the captions say", "captions"),
        ("a descriptive text", "descriptive"),
        ("describing it", "describing"),
        ("as transcribed", "transcribed"),
        ("the text provided says", "text provided"),
        ("I cannot see the image", "cannot see the image"),
        ("at [look : B]", "[look"),
        ("The circumscribed circle is inscribed in the captain's text.", None),
        ("Describe the described curve.", "Describe"),
    ],
)
def test_words_of_a_description_are_found_in_all_their_forms(text: str, word: str | None) -> None:
    assert forbidden(text, "What is it?") == word


def test_words_that_the_question_has_itself_are_allowed() -> None:
    assert forbidden("The word described by the description.", "Which caption fits? Describe it.") is None
    assert forbidden("The caption is B.", "Which caption fits?") is None
    assert forbidden("As described, the caption is B.", "Which caption fits?") == "described"


def test_steps_of_the_solution_are_no_anchors() -> None:
    plain = "Look at this equation: x = 3. Let us check the sum of segment AB, which is 6."
    assert anchors(plain, OBJECTS, plain) == []
    assert anchors("Let me check the equation: x = 3. Go to the next step.", OBJECTS, "x = 3.") == []


def test_the_object_that_says_most_is_named() -> None:
    names = ("circle at row 1 column 2", "blue circle at row 1 column 1", "blue circle at row 2 column 1", "dial")
    (anchor,) = anchors("Look back at the blue circle at row 2 column 1: it is blue.", names, "")
    assert anchor.named == "blue circle at row 2 column 1"
    (plural,) = anchors("Glancing at the dials once more, they differ.", names, "")
    assert plural.named == "dial"
    assert anchors("Look at the decimal 3.5 in the picture: yes.", names, "")[0].text.endswith("picture:")


def test_an_object_may_be_named_by_its_noun_or_its_label_alone() -> None:
    names = ("triangle ABC", "segment DE", "second bar")
    said = "Look back at the triangle to confirm the relation. Look at DE again: yes. Glance at the bars, then."
    assert [anchor.named for anchor in anchors(said, names, "")] == ["triangle ABC", "segment DE", "second bar"]
    assert anchors("Look at the second equation: yes.", names, "")[0].named is None


def test_marks_and_the_words_beside_them_can_be_taken_out() -> None:
    assert marks(PLAIN) == ["triangle ABC", "segment AB", "segment BC", "segment BC"]
    assert "descri" not in without_marks(PLAIN)
    assert without_marks(
        "Going back to the description, [LOOK: A] it is, as stated in the description, red."
    ).split() == [
        "it",
        "is",
        "red.",
    ]


words = st.lists(st.sampled_from("abcd"), max_size=25)


@settings(deadline=None, max_examples=200)
@given(words, words)
def test_the_share_of_equal_tokens_is_that_of_the_longest_common_subsequence(one: list[str], other: list[str]) -> None:
    lengths = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, first in enumerate(one):
        for j, second in enumerate(other):
            lengths[i + 1][j + 1] = lengths[i][j] + 1 if first == second else max(lengths[i][j + 1], lengths[i + 1][j])
    share = 2 * lengths[-1][-1] / (len(one) + len(other)) if one or other else 1.0
    assert equal_share(one, other, 0.0) == pytest.approx(share)
    assert equal_share(one, other, 0.9) == (pytest.approx(share) if share >= 0.9 else 0.0)
    assert difflib.SequenceMatcher(None, one, other, autojunk=False).ratio() <= equal_share(one, other, 0.0) + 1e-9
