"""Stage 1's checks: four headed parts, a list of elements, no refusal, no answer that was not seen."""

from typing import Any

import pytest

from avar_eval.recipes.synthesis.describe import Description, agreement, check_description, objects, parts
from avar_eval.recipes.synthesis.recipe import Filters

QUESTION = "In the figure, AB = 6 and BC = 8. What is the length of AC?"
FRAME = "A line drawing of one right triangle without a frame, axes or grid; nothing else is drawn on the white page."
ELEMENTS = """- triangle ABC: drawn in black, with its right angle marked at B by a small square.
- segment AB: vertical, labelled 6.
- **segment BC**: horizontal, labelled 8.
- segment AC: the slanted side, without any label."""
LINKS = "B is the corner where AB and BC meet; AC closes the triangle. The list agrees with the drawing."
SYNTHESIS = "A right triangle with its legs along the left and the bottom and labels at both legs."


def text(frame: str = FRAME, elements: str = ELEMENTS, links: str = LINKS, synthesis: str = SYNTHESIS) -> str:
    return (
        f"## 1. Global scan and frame\n{frame}\n\n## 2. Elements\n{elements}\n\n"
        f"## 3. Links and cross-check\n{links}\n\n## 4. Synthesis\n{synthesis}"
    )


def check(said: str, *others: str, answer: str = "10", **row: Any) -> Description | str:
    given: dict[str, Any] = {"kind": "expression", "choices": ()} | row
    samples = [(one, "stop") for one in (said, *others)]
    return check_description(samples, QUESTION, answer, given["kind"], given["choices"], Filters())


def test_a_whole_description_passes_with_the_names_of_its_elements() -> None:
    found = check(text())
    assert isinstance(found, Description)
    assert found.objects == ("triangle ABC", "segment AB", "segment BC", "segment AC")


@pytest.mark.parametrize(
    "heading",
    [
        "### 2. Elements", "**2. Elements**", "2. Elements:", "## Part 2: Elements one by one", "## Step 2. Elements",
        "Elements:", "**Elements one by one:**", "Step 2: Iterative element decomposition", "## Elements",
    ],
)  # fmt: skip
def test_headings_are_found_however_they_are_set(heading: str) -> None:
    assert parts(text().replace("## 2. Elements", heading)) is not None


REJECTED = {
    "missing part": (text().replace("## 3. Links and cross-check\n", ""), "missing_part"),
    "empty part": (text(synthesis=""), "missing_part"),
    "parts in another order": (text().replace("## 3.", "## 9.").replace("## 4.", "## 3."), "missing_part"),
    "refusal": ("I'm sorry, but I cannot view images.", "refusal"),
    "refusal before parts": (f"As an AI I can't describe this image.\n{text()}", "refusal"),
    "too short": (text("A.", "- t: x", "B.", "C."), "too_short"),
    "too long": (text(links="word " * 3100), "too_long"),
    "no elements": (text(elements="A triangle and its three sides, drawn in black on white paper."), "no_elements"),
    "called the answer": (text(synthesis=f"{SYNTHESIS} So the answer is 10."), "solved"),
    "concluded": (text(links=f"{LINKS} Therefore AC has the length 10."), "solved"),
    "slipped in": (text(synthesis=f"{SYNTHESIS} The slanted side is 10 long."), "solved"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_what_is_no_description_is_rejected_by_its_reason(name: str) -> None:
    said, reason = REJECTED[name]
    assert check(said) == reason


def test_a_reply_that_the_token_limit_cut_is_truncated() -> None:
    assert check_description([(text(), "length")], QUESTION, "10", "expression", (), Filters()) == "truncated"


@pytest.mark.parametrize(
    ("answer", "row"),
    [
        ("8", {}),  # the question gives it
        ("B", {"kind": "choice", "choices": ("12", "10", "14")}),  # B is a point as well
        ("yes", {"kind": "text"}),
        ("100", {}),  # holds 10, and is not in the text
    ],
)
def test_what_question_or_picture_give_is_no_solution(answer: str, row: dict[str, Any]) -> None:
    assert isinstance(check(text(), answer=answer, **row), Description)


def test_an_option_is_a_solution_where_its_letter_is_called_the_answer_or_its_text_is_concluded() -> None:
    row = {"kind": "choice", "choices": ("12", "10", "14")}
    assert check(text(synthesis=f"{SYNTHESIS} The correct option is (B)."), answer="B", **row) == "solved"
    assert check(text(links=f"{LINKS} Hence AC is 10."), answer="B", **row) == "solved"


def test_what_stands_in_the_picture_may_be_copied_and_said_again() -> None:
    seen = ELEMENTS.replace("without any label", "labelled 10")
    assert isinstance(check(text(elements=seen, synthesis=f"{SYNTHESIS} AC carries the label 10.")), Description)


def test_two_descriptions_have_to_agree_in_numbers_and_labels() -> None:
    assert isinstance(check(text(), text(elements=ELEMENTS.replace("vertical", "upright"))), Description)
    assert (
        check(text(), text(elements=ELEMENTS.replace("labelled 6", "labelled 5").replace("AC", "AD")))
        == "samples_disagree"
    )
    assert check(text(), "I cannot see it") == "samples_disagree"
    assert agreement("a circle", "a square") == 1.0
    assert agreement("AB is 3.5", "AB is 3.6") == pytest.approx(1 / 3)


def test_a_part_may_begin_on_the_line_of_its_heading() -> None:
    said = (
        f"**Global scan and frame:** {FRAME}\n**Elements:**\n{ELEMENTS}\n**Links and cross-check:** {LINKS}\n"
        f"**Synthesis:** {SYNTHESIS}"
    )
    assert parts(said) == (FRAME, ELEMENTS, LINKS, SYNTHESIS)


def test_sentences_are_no_headings() -> None:
    said = "Elements are linked: A to B.\nSynthesis of light is not shown, and neither are links to it."
    assert parts(text(links=said)) is not None


def test_names_of_elements_stand_before_a_colon_in_a_list() -> None:
    assert objects("* `left beaker`: half full\n1) label C: on the right\n\nNote: no list\n- without a colon") == (
        "left beaker",
        "label C",
    )
