"""`avar-eval power`: what is printed for a benchmark, and which of the paper's differences are told apart."""

import json

import pytest
from typer.testing import CliRunner

from avar_eval.cli import app
from avar_eval.errors import UsageError
from avar_eval.leaderboard.paper import paper
from avar_eval.power.plan import plan, rows_of
from avar_eval.power.published import published_differences
from avar_eval.tasks.catalog import catalog


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["power", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_printed_table_tells_its_base_from_avar_thinker_and_vision_r1_not() -> None:
    found = published_differences()
    by_pair = {(one.other, one.task): one for one in found.over_others}
    over_vision_r1, over_base = by_pair["Vision-R1", "mathvista"], by_pair["Qwen2.5-VL-7B", "mathvista"]
    assert (round(100 * over_vision_r1.difference, 1), round(100 * over_vision_r1.half, 1)) == (1.2, 2.8)
    assert not over_vision_r1.told_apart
    assert (round(100 * over_base.difference, 1), round(100 * over_base.half, 1)) == (6.5, 2.7)
    assert over_base.told_apart
    assert over_base.surely_apart
    assert over_vision_r1.up_to == pytest.approx(0.0376, abs=1e-4)
    assert {one.task for one in found.over_others} == set(paper().models[2].scores)
    assert found.surely_apart <= found.apart_by_holm <= found.apart <= found.pairs


def test_more_disagreement_tells_less_apart() -> None:
    counts = [published_differences(discordant=share).apart for share in (0.1, 0.2, 0.4)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[2]


def test_a_plan_and_its_json_are_the_same_numbers() -> None:
    said = run("--task", "mathvista", "--difference", "1.5", "--discordant", "0.2")
    for words in ("1,000", " 20 ", "4.0", "6,975", "19", "smallest difference, points"):
        assert words in said
    (read,) = json.loads(run("--task", "mathvista", "--difference", "1.5", "--discordant", "0.2", "--json"))["plans"]
    assert read["needed"] == 6975
    assert round(100 * read["detectable"], 1) == 4.0
    assert [one.rows for one in plan(["avar7"], discordant=0.2)][:3] == [1000, 3040, 788]
    assert len(plan(["mathvista"])) == 3
    assert (
        json.loads(run("--n", "1000", "--discordant", "0.2", "--json"))["plans"][0]["detectable"] == read["detectable"]
    )


def test_variants_of_a_question_count_for_less() -> None:
    (found,), (independent,) = plan(["dynamath"], discordant=0.2), plan(["dynamath"], discordant=0.2, design_effect=1.0)
    assert found.detectable is not None
    assert independent.detectable is not None
    assert found.detectable == pytest.approx(independent.detectable * 5.5**0.5, rel=0.01)
    assert rows_of("mmmu_pro") == 1730


def test_the_printed_table_is_printed() -> None:
    said = run("--paper")
    for words in ("+1.2 ± 2.8  ", "+6.5 ± 2.7 *", "after Holm's correction", "AVAR-CS"):
        assert words in said
    assert json.loads(run("--paper", "--json"))["over_others"][0]["told_apart"] is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --task, --n, or --paper"),
        (["--task", "mathvsta"], "did you mean mathvista"),
        (["--task", "mathvista", "--difference", "0"], "above 0 and below 100"),
        (["--task", "mathvista", "--difference", "nan"], "above 0 and below 100"),
        (["--task", "mathvista", "--difference", "30", "--discordant", "0.2"], "cannot differ by 30 points"),
        (["--task", "mathvista", "--discordant", "20"], "such as 0.2"),
        (["--task", "mathvista", "--discordant", "0"], "such as 0.2"),
        (["--task", "mathvista", "--design-effect", "0"], "1 where rows are independent"),
        (["--paper", "--task", "mathvista"], "--paper takes --discordant and --json alone"),
        (["--paper", "--discordant", "0"], "such as 0.2"),
    ],
)
def test_wrong_input_gets_one_message(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["power", *arguments])
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)


def test_rows_are_asked_for_where_a_task_does_not_say_how_many_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows_of("shapes") == 500
    silent = catalog()["shapes"].model_copy(update={"rows": None})
    monkeypatch.setattr("avar_eval.power.plan.catalog", lambda: {"shapes": silent})
    with pytest.raises(UsageError, match="give --n"):
        rows_of("shapes")
