"""MMMU and MMMU-Pro: pictures by number, the published parsers, and strict judgements, on invented rows."""

import ast
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from invented_rows import MANY_PICTURES, drawn, mmmu_pro_row, mmmu_row, vision_row

from avar_eval.tasks.mmmu import official
from avar_eval.tasks.mmmu import task as mmmu
from avar_eval.tasks.mmmu_pro import official as official_pro
from avar_eval.tasks.mmmu_pro import task as mmmu_pro

OPTIONS = ["a tall oak", "the fir", "an elm", "A pine tree"]


def published(path: str, *names: str) -> list[Callable[..., Any]]:
    """Functions of MMMU's scripts as lmms-eval ships them, without importing the rest of their module."""
    spec = importlib.util.find_spec("lmms_eval")
    assert spec is not None
    assert spec.origin is not None
    source = ast.parse((Path(spec.origin).parent / "tasks" / path).read_text(encoding="utf-8"))
    source.body = [
        node
        for node in source.body
        if isinstance(node, ast.Import) or (isinstance(node, ast.FunctionDef) and node.name in names)
    ]
    source.body = [
        node
        for node in source.body
        if not isinstance(node, ast.Import) or node.names[0].name in ("re", "random", "numpy")
    ]
    module: dict[str, Any] = {}
    exec(compile(source, path, "exec"), module)
    return [module[name] for name in names]


_NUMBERS = ("check_is_number", "normalize_str", "extract_numbers")
(parse_choice,) = published("_task_utils/mmmu_mcq_utils.py", "parse_mmmu_multi_choice_response")
*_, parse_open, right_open = published("mmmu/utils.py", *_NUMBERS, "parse_open_response", "eval_open")

# What the parsers look for, and what stands between.
pieces = st.sampled_from(
    ["A", "B", "C", "D", "I", "(A)", "(B)", "(C)", "B.", "C.", "D,", " ", " ", "\n", ". ", ":", "'", "!", "answer ",
     "is ", "so ", "=", "the fir", "AN ELM", "oak", "word", "3", "3.14", "-2", "1,234", "1,23", "2e3", "0.005", "x",
     "final "]
)  # fmt: skip
responses = st.lists(pieces, max_size=14).map("".join)


class NoGuess:
    """In the place of the module `random`: says that the published parser would guess."""

    choice = staticmethod(lambda letters: None)


@given(response=responses)
def test_the_parser_of_options_is_the_published_one(response: str) -> None:
    # lmms-eval's version of it has MMMU-Pro's forms.
    parse_choice.__globals__["random"] = NoGuess
    expected = parse_choice(response, list("ABCD"), dict(zip("ABCD", OPTIONS, strict=True)))
    assert official.option_letter(response, OPTIONS, official_pro._FORMS) == expected


@given(response=responses, gold=st.sampled_from(["3", "3.14", "x", "oak", "1234", "2,000", "-2", "0.01", "the fir"]))
def test_open_answers_are_right_as_published(response: str, gold: str) -> None:
    assert official.open_right(response, [gold]) == right_open(gold, parse_open(response))
    assert official.open_right(response, [gold, "elm"]) == right_open([gold, "elm"], parse_open(response))


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B", "B"),
        ("(C)", "C"),
        ("It is (A), no, (B).", "B"),
        ("I think B is it", "B"),
        ("B is not C but A or so", "A"),
        ("B.", "B"),
        ("A) a tall oak", None),
        ("B. the fir", None),
        ("Answer: B.", "B"),
        ("This must be the fir in my eyes", "B"),
        ("the fir", None),
        ("no idea", None),
        ("", None),
        ("(E)", None),
    ],
)
def test_mmmu_knows_three_forms_of_an_option(response: str, letter: str | None) -> None:
    assert official.option_letter(response, OPTIONS) == letter
    assert official.choice_right(response, OPTIONS, "B") == (None if letter is None else letter == "B")


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("(C) it seems. Answer: B", True),
        ("Answer: A\nBut no. Answer: (B)", True),
        ("(B) it is. Answer: A or B", True),
        ("Answer: the fir", None),
        ("Answer: not C, not D. ", False),
        ("B. the fir", True),
        ("**B** ", None),
        ("", None),
    ],
)
def test_mmmu_pro_reads_what_follows_the_last_answer(response: str, right: bool | None) -> None:
    assert official_pro.choice_right(response, OPTIONS, "B") is right


@pytest.mark.parametrize("text", ["1", "1,", "1.", ".1", "1e", "-", "is ", "\n", "Answer:", "1,111"])
def test_a_long_response_is_read_in_linear_time(text: str) -> None:
    start = time.thread_time()
    official.open_right(text * 100_000, ["3", "x"])
    official_pro.choice_right(text * 100_000, OPTIONS, "B")
    assert time.thread_time() - start < 5


def test_pictures_are_found_by_number_as_often_as_they_are_named() -> None:
    row = drawn(mmmu_row("validation_Botany_1", **MANY_PICTURES))
    sizes = [(20, 21), (20, 21), (10, 11), (100, 101), (10, 11), (30, 31)]
    assert [picture.size for picture in mmmu.doc_to_visual(row)] == sizes
    (message,) = mmmu.doc_to_messages(row, {"prompt_style": "direct"})
    parts = [part["text"] if part["type"] == "text" else part["url"].size for part in message["content"]]
    assert parts == [
        "Match ", (20, 21), " with its leaf. ", (20, 21), " grew beside ", (10, 11), ".\n(A) ", (100, 101), "\n(B) ",
        (10, 11), " and ", (30, 31), "\n\nAnswer with the option's letter from the given choices directly.",
    ]  # fmt: skip
    assert mmmu.needed_pictures(row) == ["image_1", "image_10", "image_2", "image_3"]


def test_a_picture_that_is_named_and_missing_is_refused() -> None:
    with pytest.raises(ValueError, match="row validation_Botany_1 has no picture in image_1"):
        mmmu.doc_to_messages(mmmu_row("validation_Botany_1", image_1=None))
    with pytest.raises(ValueError, match="has no picture in image"):
        mmmu_pro.doc_to_messages(vision_row("test_Botany_1", image=None))


def test_a_vision_rows_options_name_no_pictures() -> None:
    row = drawn(vision_row("test_Botany_1", options="['<image 1>', '<image 2>']"))
    assert mmmu_pro.needed_pictures(row) == ["image"]
    assert [picture.size for picture in mmmu_pro.doc_to_visual(row)] == [(90, 70)]
    (message,) = mmmu_pro.doc_to_messages(row)
    assert [part["type"] for part in message["content"]] == ["image", "text"]


@pytest.mark.parametrize(
    ("fields", "response", "state", "correct", "said"),
    [
        ({}, "<think>B?</think><answer>C</answer>", "scored", True, None),
        ({}, "<think>(B)?</think><answer>(C)</answer>", "scored", True, True),
        ({}, "<answer>Autumn</answer>", "scored", True, None),
        ({}, "<answer>B</answer>", "scored", False, None),
        ({}, "C) Autumn", "scored", True, None),
        ({}, "I cannot see any picture in here.", "unparsed", False, None),
        ({}, "It could be Autumn, it could be Winter.", "unparsed", False, False),
        ({}, "<think>It is (C)", "truncated", False, True),
        ({"options": "['<image 1>', '<image 2>', 'none']"}, "C", "scored", True, True),
        ({"options": "['s', 's+', 's*', 'ss']"}, "<answer>A</answer>", "scored", False, None),
        ({"options": "['s', 's+', 's*', 'ss']"}, "<answer>C</answer>", "scored", True, None),
        ({"options": "['s', 's+', 's', 'ss']"}, "<answer>A</answer>", "scored", True, None),
        ({}, "Not (A), nor (B).\n\\[\n\\text{Answer: C}\n\\]", "scored", True, False),
        ({"options": "['<image 1>', '<image 2>', 'none']"}, "<answer>(A)</answer>", "scored", False, False),
    ],
)
def test_judgements_of_options(
    fields: dict[str, Any], response: str, state: str, correct: bool, said: bool | None
) -> None:
    judgement = mmmu.judge(mmmu_row("validation_Botany_1", **fields), response)
    assert (judgement.state, judgement.correct, judgement.official) == (state, correct, said)


@pytest.mark.parametrize(
    ("gold", "response", "correct", "said"),
    [
        ("1.5", "<answer>1.5</answer>", True, True),
        ("1.5", "\\boxed{1.504}", True, True),
        ("1.5", "It is 1.5", True, True),
        ("1.5", "It is 1.52", False, False),
        ("1/64", "<answer>1/64</answer>", True, True),
        ("1/64", "<answer>0.015625</answer>", True, False),
        ("1/64", "<answer>0.02</answer>", False, False),
        ("['24/7', '3.429']", "<answer>3.43</answer>", True, True),
        ("['24/7', '3.429']", "The answer is 24/7.", True, True),
        ("['Bern', 'Berne']", "Berne", True, True),
        ("['Bern', 'Berne']", "Not Bern", False, True),
        ("B", "<answer>B</answer>", True, False),
        ("B", "b", True, True),
        ("B", "It is B.", True, True),
        ("B", "C", False, False),
        ("embryo", "<answer>Embryo</answer>", True, True),
    ],
)
def test_judgements_of_open_questions(gold: str, response: str, correct: bool, said: bool) -> None:
    row = mmmu_row("validation_Botany_1", answer=gold, options="[]", question_type="open")
    judgement = mmmu.judge(row, response)
    assert (judgement.correct, judgement.official) == (correct, said)


def test_twelve_options_have_letters() -> None:
    row = mmmu_pro_row("test_Botany_1", options=str([f"{number} rings" for number in range(12)]), answer="L")
    assert mmmu_pro.judge(row, "Answer: L").correct
    assert mmmu_pro.judge(row, "Answer: L").official
    assert mmmu_pro.judge(row, "<answer>11 rings</answer>").correct
    assert not mmmu_pro.judge(row, "Answer: K").correct


def test_rows_are_grouped_by_subject() -> None:
    assert mmmu.stratum(mmmu_row("validation_Art_Theory_3")) == "Art_Theory"
    assert mmmu_pro.stratum(vision_row("test_Botany_12")) == "Botany"
    assert mmmu_pro.question(vision_row("test_Botany_12")) == mmmu.question(mmmu_row("test_Botany_12"))


def test_options_that_are_no_list_are_named() -> None:
    with pytest.raises(ValueError, match=r"row validation_Botany_1: .* is no list"):
        mmmu.options_of(mmmu_row("validation_Botany_1", options="Oak, Fir"))
