"""Where final answers stand, in letters and in tokens; swapped pictures; what an answer begins with."""

import pytest
from family_models import FAMILIES
from PIL import Image

from avar_eval.causal.altered import blurred, derangement, grey
from avar_eval.causal.answers import AnswerTokens, answer_opening, answer_span, answer_tokens

SPANS = [
    ("<think>7 or 8?</think><answer>7</answer>", "7", "7</answer>"),
    ("<think>A</think><answer>(A) A cat</answer>", "A", "A) A cat</answer>"),
    ("So 12. \\boxed{12}", "12", "12}"),
    ("<answer>5</answer> no: \\boxed{6}", "6", "6}"),
    ("First 3, so the answer is 3.", "3", "3."),
    ("<think>It is 3</think>It is 3", "3", "3"),
    ("It is 13", "3", None),
    ("Yes, a red one", "red one", "red one"),
    ("<think>7</think>", "7", None),
    ("x", "", None),
]


@pytest.mark.parametrize(("response", "extracted", "rest"), SPANS)
def test_spans(response: str, extracted: str, rest: str | None) -> None:
    found = answer_span(response, extracted)
    if rest is None:
        assert found is None
    else:
        assert found is not None
        assert response[slice(*found)] == extracted
        assert response[found[0] :] == rest


@pytest.mark.parametrize("response", ["<think>one two</think><answer>five</answer>", "the answer is 42!", "é: wörld"])
def test_tokens_of_an_answer_hold_it_and_nothing_else(response: str) -> None:
    tokenizer = FAMILIES["qwen2_5_vl"].processor().tokenizer
    extracted = {"<": "five", "t": "42", "é": "wörld"}[response[0]]
    tokens = tokenizer.encode(response, add_special_tokens=False)
    found = answer_tokens(tokenizer, tokens, response, extracted)
    assert isinstance(found, AnswerTokens)
    assert (
        tokenizer.decode(tokens[: found.first]) + found.lead + extracted
        == response[: response.index(extracted) + len(extracted)]
    )
    assert extracted in tokenizer.decode(tokens[found.first : found.end])
    assert extracted not in tokenizer.decode(tokens[found.first + 1 : found.end])
    assert extracted not in tokenizer.decode(tokens[found.first : found.end - 1])
    assert answer_tokens(tokenizer, tokens[:2], response, extracted) is None
    assert answer_tokens(tokenizer, tokens, response, None) is None


def test_openings_are_what_the_prompt_asks_for() -> None:
    assert answer_opening("give the final answer inside <answer> </answer> tags.") == "<answer>"
    assert answer_opening("put your final answer within \\boxed{}.") == "\\boxed{"
    assert answer_opening("Answer with one word.") == ""
    assert answer_opening("within \\boxed{}.<|im_start|>assistant\n<think>\n") == "\n</think>\n\n\\boxed{"


def test_pictures_of_the_same_size() -> None:
    picture = Image.effect_noise((40, 30), 90).convert("RGB")
    assert grey(picture).size == blurred(picture, 0.1).size == picture.size
    assert set(grey(picture).getdata()) == {(128, 128, 128)}
    assert blurred(picture, 0.1).tobytes() != picture.tobytes()


def test_no_row_keeps_its_pictures_or_gets_those_of_another_kind() -> None:
    rows = [f"r{number}" for number in range(41)]
    kinds = {row: "number" if number % 3 else "choice" for number, row in enumerate(rows)}
    pictures = {
        row: () if number == 5 else ("a",) * (1 + number % 2) if number < 4 else (row,)
        for number, row in enumerate(rows)
    }
    givers = derangement(rows, kinds, pictures, seed=0)
    assert "r5" not in givers
    assert len(givers) >= len(rows) - 3
    assert len(set(givers.values())) == len(givers)
    for row, giver in givers.items():
        assert (kinds[row], len(pictures[row])) == (kinds[giver], len(pictures[giver]))
        assert pictures[row] != pictures[giver]
    assert givers == derangement(rows[::-1], kinds, pictures, seed=0)
    assert givers != derangement(rows, kinds, pictures, seed=1)
    assert derangement(["a"], {"a": 1}, {"a": ("p",)}, seed=0) == {}
