"""What rows of reinforcement learning are judged by, on its way from a file to the reward: nothing of it is lost."""

import json
from pathlib import Path
from typing import Any

import pytest
import training as runs
from test_grpo import config, processor
from test_grpo import encoded as encode

from avar_eval.answers import judge_answer
from avar_eval.errors import UsageError
from avar_eval.recipes.data import drop_too_long, load
from avar_eval.recipes.difficulty import Difficulty, _write_selected
from avar_eval.recipes.grpo import AvarGRPOTrainer
from avar_eval.recipes.question_options import options_in
from avar_eval.recipes.sources import TrainingDataError

NUMBER = {"answer": "3.14", "answer_type": "float", "precision": 2}
PI = {"id": "q7", "source": "mine", "prompt": "<image>What is this?"} | NUMBER
LETTER = {"prompt": "<image>What is this?\nA. 12 cm\nB. 14 cm", "answer": "A", "answer_type": "choice"}
WORD = {"prompt": "<image>What is this?", "answer": "two"}
SAID = {"PI": "<think>so</think><answer>3.144</answer>", "LETTER": "<think>so</think><answer>12 cm</answer>"}


def write(folder: Path, rows: list[dict[str, Any]]) -> str:
    folder.mkdir(exist_ok=True)
    runs.picture(0).save(folder / "p.png")
    lines = [json.dumps({"images": ["p.png"]} | row) + "\n" for row in rows]
    (folder / "rows.jsonl").write_text("".join(lines))
    return str(folder)


def test_what_judges_a_row_survives_loading_filtering_and_mapping(tmp_path: Path) -> None:
    """From the file to the table, what fits, the difficulty filter's output, and that read again."""
    source = write(tmp_path / "in", [PI, LETTER, WORD])
    rows = load(source, "grpo", system_prompt="Be brief.")
    kept = drop_too_long(rows, runs.processor(), 500).map(lambda row: {"more": row["id"]}).remove_columns("more")
    output = tmp_path / "kept"
    output.mkdir()
    _write_selected(output, kept, Difficulty(8, [4, 4, 4], [0, 1, 2], 0, 0, {}))
    for table in (rows, kept, load(str(output), "grpo", system_prompt=None)):
        judged = [{name: row[name] for name in table.column_names if name not in ("images", "prompt")} for row in table]
        letter = {"answer": "A", "answer_type": "choice", "choices": ["12 cm", "14 cm"]}
        assert judged == [
            NUMBER | {"choices": [], "source": "mine", "id": "q7"},
            letter | {"precision": None, "source": source, "id": "1"},
            {"answer": "two", "answer_type": "text", "choices": [], "precision": None, "source": source, "id": "2"},
        ]  # fmt: skip


def test_the_reward_is_the_evaluation_s_verdict_with_precision_and_options(tmp_path: Path) -> None:
    """3.144 for 3.14 at two decimals, and an option's text for its letter: right in evaluation, and so here."""
    rows = load(write(tmp_path / "in", [PI, LETTER]), "grpo", system_prompt="Be brief.")
    trainer = AvarGRPOTrainer(
        runs.model(),
        config(tmp_path / "out", visual_weight=0.0, format_weight=0.0),
        train_dataset=rows,
        processing_class=processor(),
    )
    inputs = [dict(row) for row in rows]
    responses = [[*ids, trainer._tokenizer.eos_token_id] for ids in encode(trainer, SAID["PI"], SAID["LETTER"])]
    texts = [[{"role": "assistant", "content": said}] for said in SAID.values()]
    table = trainer._calculate_rewards(inputs, [row["prompt"] for row in inputs], texts, responses)
    assert table.tolist() == [[1.0], [1.0]]
    assert judge_answer(SAID["PI"], answer="3.14", kind="float", precision=2).correct
    assert not judge_answer(SAID["PI"], answer="3.14", kind="float").correct
    assert not judge_answer(SAID["LETTER"], answer="A", kind="choice").correct


def test_answers_may_not_be_taken_from_the_trainer(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="remove_unused_columns would take the answers"):
        config(tmp_path, remove_unused_columns=True)


def test_rows_that_cannot_be_judged_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad: list[dict[str, Any]] = [
        {"prompt": "<image>Which?", "answer": "E", "answer_type": "choice", "choices": ["x", "y"]},
        {"prompt": "<image>How many?", "answer": "seven and a bit", "answer_type": "integer"},
        {"prompt": "<image>How many?", "answer": "7", "answer_type": "essay"},
        {"prompt": "<image>Which?", "answer": "zebra", "answer_type": "choice", "id": "q4"},
    ]
    source = write(tmp_path / "in", [PI, *bad, LETTER])
    assert [row["answer"] for row in load(source, "grpo", system_prompt=None)] == ["3.14", "A"]
    said = capsys.readouterr().err
    assert "warning: 4 of 6 rows are left out, for their own answer would be judged wrong" in said
    assert f"row 1 of {source}: the answer 'E' of a row is not of its type 'choice'" in said
    assert "row q4" not in said  # three examples are enough
    load(write(tmp_path / "good", [PI, LETTER, WORD]), "grpo", system_prompt=None)
    assert "left out" not in capsys.readouterr().err
    with pytest.raises(TrainingDataError, match=r"no answer of .* can be judged, such as that of row 0"):
        load(write(tmp_path / "bad", bad), "grpo", system_prompt=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "2"}, "its precision must be a number of decimals, not '2'"),
        ({"precision": -1}, "its precision must be"),
        ({"choices": "x, y"}, "its choices must be a list of texts, not 'x, y'"),
        ({"choices": [1, 2]}, "its choices must be a list of texts"),
    ],
)
def test_values_of_another_type_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingDataError, match=f"row 1 of .*: {message}"):
        load(write(tmp_path, [WORD, PI | change]), "grpo", system_prompt=None)


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("Which?\nA. cat\nB. dog", ["cat", "dog"]),
        ("How long?\n(A) 12 cm\n(B) 14 cm\n(C) none\nAnswer with the letter.", ["12 cm", "14 cm", "none"]),
        ("Which? A) 1 B) 2 C) 3 D) 4", ["1", "2", "3", "4"]),
        ("Which? (A) 1; (B) 2; (C) 3", ["1", "2", "3"]),
        ("Which?\nOptions:A.1\nB.2", ["1", "2"]),
        ("Choices: A: 12.5, B: 14", ["12.5", "14"]),
        ("Which?\n- A. cat\n- B. dog", ["cat", "dog"]),
        ("Which?\n**A.** cat\n**B.** dog", ["cat", "dog"]),
        ("Which?\nA. first line\nmore of it\nB. second", ["first line more of it", "second"]),
        ("Figure (A) shows x, figure (B) y. Which?\nA. x\nB. y", ["x", "y"]),
        ("如图，求AB的长（  ）\nA．12厘米；B．14厘米；C．16厘米", ["12厘米", "14厘米", "16厘米"]),
        ("下列哪个？A、猫 B、狗 C、鸟", ["猫", "狗", "鸟"]),
        ("（A）猫（B）狗", ["猫", "狗"]),
        ("Which of the pictures?\nA.\nB.\nC.", ["A", "B", "C"]),
        ("In circle A. find B", []),
        ("P(A)=0.3, P(B)=0.5. Find P(A∪B).", []),
        ("Triangle A, B, C are points. Which is the longest side?", []),
        ("Is the U.S.A. B. good?", []),
        ("Which?\nB. dog\nC. cat", []),
        ("", []),
    ],
)
def test_options_are_read_from_a_question(question: str, options: list[str]) -> None:
    assert options_in(question) == options


def test_a_letter_outside_of_the_options_takes_none(tmp_path: Path) -> None:
    rows = [LETTER | {"answer": answer} for answer in ("C", "(B)", "AB", "A")]
    rows.append({"prompt": "<image>Which?\nA. C\nB. A\nC. B", "answer": "A", "answer_type": "choice"})
    rows.append(LETTER | {"choices": ["mine", "yours"]})
    loaded = load(write(tmp_path, rows), "grpo", system_prompt=None)
    found = {row["id"]: (row["answer"], row["choices"]) for row in loaded}
    assert found["0"] == ("C", [])
    assert found["1"] == ("(B)", ["12 cm", "14 cm"])
    assert found["3"] == ("A", ["12 cm", "14 cm"])
    assert found["4"] == ("C", ["C", "A", "B"])  # its text: the letter A would be taken for option B
    assert found["5"] == ("A", ["mine", "yours"])
    assert "2" not in found
