"""HallusionBench: the published yes/no rule and the three accuracies against the published code, on invented rows."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from invented_rows import ROWS, drawn, hallusion_row

from avar_eval.tasks.catalog import catalog
from avar_eval.tasks.hallusion.official import yes_or_no
from avar_eval.tasks.hallusion.task import cluster, doc_to_target, doc_to_visual, judge, needed_pictures, parts
from avar_eval.tasks.shares import share_values


@pytest.fixture(scope="module")
def published() -> ModuleType:
    """HallusionBench's own aggregation as lmms-eval ships it."""
    package = importlib.util.find_spec("lmms_eval")
    assert package is not None
    assert package.origin is not None
    path = Path(package.origin).parent / "tasks" / "hallusion_bench" / "utils.py"
    spec = importlib.util.spec_from_file_location("published_hallusion", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rows_and_verdicts = st.lists(
    st.tuples(
        st.sampled_from(["VD", "VS"]),
        st.sampled_from(["chart", "ocr"]),
        st.sampled_from("01"),
        st.sampled_from("012"),
        st.sampled_from("01"),
        st.booleans(),
    ),
    min_size=1,
    unique_by=lambda row: row[:5],
)


@given(made=rows_and_verdicts)
def test_the_three_accuracies_are_the_published_ones(published: ModuleType, made: list[tuple[Any, ...]]) -> None:
    names = ("category", "subcategory", "set_id", "figure_id", "question_id", "correct")
    rows = [dict(zip(names, row, strict=True)) | {"visual_input": row[3], "check": str(int(row[5]))} for row in made]
    found = share_values(parts(rows), [row["correct"] for row in rows])
    assert found["aAcc"] == share(published.get_eval_all(rows, "check"))
    assert found["qAcc"] == share(published.get_eval_pair_all(rows, "check"))
    for category in ("", " VD", " VS"):
        of = [row for row in rows if row["category"] in (category.split() or ("VD", "VS"))]
        # get_eval_pair_easy and _hard of the published utils.py: pairs of the rows with figure 0, and of the others
        for name, chosen in (
            ("easy", [row for row in of if row["figure_id"] == "0"]),
            ("hard", [row for row in of if row["figure_id"] != "0"]),
        ):
            expected = share(published.get_eval_pair_all(chosen, "check")) if chosen else None
            assert found[f"{name}{category}"] == expected
    for category in ("VD", "VS"):
        chosen = [row for row in rows if row["category"] == category]
        if chosen:
            assert found[f"aAcc {category}"] == share(published.get_eval_all(chosen, "check"))
            assert found[f"qAcc {category}"] == share(published.get_eval_pair_all(chosen, "check"))
    if all(row["category"] == "VS" and row["figure_id"] == "0" for row in rows):
        assert found["fAcc"] is None
        assert found["mean"] is None
    else:
        assert found["fAcc"] == share(published.get_eval_fig(rows))
        assert found["mean"] == pytest.approx((found["aAcc"] + found["fAcc"] + found["qAcc"]) / 3)  # type: ignore[operator]


def share(counts: dict[str, Any]) -> float:
    return float(counts["correct"] / counts["total"])


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("Yes", "Yes"),
        ("no.", "No"),
        ("Yes, it is.", "Yes"),
        ("**No**, it is not", None),
        ("No,it is not", "No"),
        ("The answer is: [no]", "No"),
        ("Yes, although no leaf is seen", None),
        ("It is an oak", None),
        ("None", None),
        ("yes,it has 2,000 leaves", None),
        ("Yes it has 2,000 leaves", "Yes"),
        ("a. " * 32 + "yes.", None),
        ("a. " * 31 + "yes.", "Yes"),
        ("<think>yes or no?</think><answer>Yes</answer>", None),
        ("<answer>Yes</answer>", "Yes"),
        ("", None),
    ],
)
def test_which_answer_a_response_gives(response: str, answer: str | None) -> None:
    assert yes_or_no(response) == answer


@pytest.mark.parametrize(
    ("figure", "gold", "response", "state", "correct", "said"),
    [
        ("1", "1", "<think>yes or no?</think><answer>Yes</answer>", "scored", True, False),
        ("1", "0", "No, it is a fir.", "scored", True, True),
        ("1", "0", "Yes", "scored", False, False),
        ("1", "1", "It is hard to say whether it is one.", "unparsed", False, False),
        ("0", "1", "It is hard to say whether it is one.", "unparsed", False, True),
        ("0", "1", "No", "scored", False, False),
        ("0", "1", "Yes", "scored", True, True),
        ("1", "1", "<think>Yes", "truncated", False, True),
    ],
)
def test_judgements(figure: str, gold: str, response: str, state: str, correct: bool, said: bool) -> None:
    judgement = judge(hallusion_row(figure, "0", gold), response)
    assert (judgement.state, judgement.correct, judgement.official) == (state, correct, said)


def test_rows_are_named_and_grouped_by_set() -> None:
    row = hallusion_row("2", "1", "0")
    assert catalog()["hallusion"].row_id(row) == "VS_chart_3_2_1"
    assert cluster(row) == "VS_chart_3"
    assert doc_to_target(row) == "No"


def test_a_row_of_figure_0_of_vs_has_no_picture() -> None:
    without, with_one = hallusion_row("0", "0"), hallusion_row("1", "0")
    assert needed_pictures(without) == doc_to_visual(without) == []
    assert needed_pictures(with_one) == ["image"]
    assert [picture.size for picture in doc_to_visual(drawn(with_one))] == [(60, 41)]
    assert needed_pictures(hallusion_row("0", "0", category="VD")) == ["image"]
    with pytest.raises(ValueError, match="row VS_chart_3_1, question 0 has no picture"):
        doc_to_visual(with_one)


def test_the_task_of_pictures_leaves_out_the_rows_without() -> None:
    chosen = [row for row in ROWS["hallusion"] if catalog()["hallusion_image"].selects(row)]
    assert chosen == ROWS["hallusion_image"]
    assert len(chosen) == 3
