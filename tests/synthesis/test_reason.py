"""Stage 2's checks, and the sample that is kept."""

import pytest

from avar_eval.recipes.synthesis.looking import without_marks
from avar_eval.recipes.synthesis.reason import Solution, check_sample, choose, reflections, written
from avar_eval.recipes.synthesis.recipe import Filters

ROW = {"answer": "10", "answer_type": "expression", "choices": [], "precision": None}
THOUGHT = (
    "[LOOK: triangle ABC] The triangle has a right angle at B. Wait, according to the description, [LOOK: segment AB] "
    "AB is 6. Let me double-check this step: $6^2 + 8^2 = 100$. So AC is 10."
)


def reply(thought: str = THOUGHT, answer: str = "10") -> str:
    return f"<reasoning>\n{thought}\n</reasoning>\n\n<answer>{answer}</answer>"


def test_a_right_solution_that_reflects_and_marks_passes() -> None:
    assert check_sample(reply(), "stop", ROW, Filters()) == (THOUGHT, "10")
    assert check_sample(f"Here it is.\n{reply(answer=' 10.0 ')}\n", "stop", ROW, Filters()) == (THOUGHT, "10.0")


REJECTED = {
    "cut": (reply(), "length", "truncated"),
    "no answer's tags": (THOUGHT, "stop", "format"),
    "two answers": (reply() + "<answer>10</answer>", "stop", "format"),
    "nothing but the answer": ("<answer>10</answer>", "stop", "format"),
    "no answer": (reply(answer=" "), "stop", "format"),
    "talk behind it": (reply() + "\nI hope this helps!", "stop", "format"),
    "tags in the thought": (reply(f"{THOUGHT}<think>hm</think>"), "stop", "format"),
    "wrong": (reply(answer="11"), "stop", "wrong"),
    "one reflection": (reply(THOUGHT.replace("Let me double-check this step: ", "")), "stop", "few_reflections"),
    "no marks": (reply(without_marks(THOUGHT)), "stop", "few_marks"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_what_is_no_solution_is_rejected_by_its_reason(name: str) -> None:
    text, ended, reason = REJECTED[name]
    assert check_sample(text, ended, ROW, Filters()) == reason


def test_reflections_are_sentences_that_stop_and_check() -> None:
    text = "It is 3. Hmm, is that right? We wait for nobody who awaits. Let us verify: 3 = 3."
    assert [found[0] for found in reflections(text)] == ["Hmm", "wait", "Let us verify"]
    assert not list(reflections("It is 3, and it is checked by nobody."))


def test_one_right_sample_is_kept_by_a_seeded_draw_and_the_share_of_right_ones_is_the_difficulty() -> None:
    checked = [("a", "1"), "wrong", ("b", "1"), "few_reflections"]
    kept = {row: choose(checked, 0, row) for row in map(str, range(40))}
    assert {solution.sample for solution in kept.values() if isinstance(solution, Solution)} == {0, 2}
    assert all(isinstance(one, Solution) and one.difficulty == 0.75 for one in kept.values())
    assert kept == {row: choose(checked, 0, row) for row in map(str, range(40))}
    assert kept != {row: choose(checked, 1, row) for row in map(str, range(40))}


def test_without_a_sample_the_reason_nearest_to_passing_is_the_rows() -> None:
    assert choose(["format", "wrong", "few_reflections", "truncated"], 0, "x") == "few_reflections"
    assert choose(["truncated", "format"], 0, "x") == "format"


def test_a_reply_is_read_only_whole() -> None:
    assert written("<reasoning>a</reasoning><answer>b</answer><answer>c</answer>") is None
    assert written("<REASONING> a </REASONING> <Answer> b </Answer>") == ("a", "b")
    assert written("a\n<answer>b</answer>") == ("a", "b")
    assert written("<think>a</think><answer>b</answer>\n") == ("a", "b")


def test_a_reply_of_the_answer_alone_has_its_thoughts_as_its_reasoning() -> None:
    assert written("<answer>b</answer>", " a ") == ("a", "b")
    assert written("c <answer>b</answer>", "a") == ("c", "b")
    assert check_sample("<answer>10</answer>", "stop", ROW, Filters(), THOUGHT) == (THOUGHT, "10")


def test_words_that_go_back_to_the_description_are_marks() -> None:
    unmarked = "Wait, according to the description AB is 6. Let me verify: it is. So AC is 10."
    assert check_sample(reply(unmarked), "stop", ROW, Filters()) == (unmarked, "10")
