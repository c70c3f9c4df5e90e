"""Wide tables and LaTeX: the paper's row below ours, bold only where a test allows it, and no name that acts."""

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from invented_runs import write_run as write_run_folder
from markdown_it import MarkdownIt
from test_table import FULL
from tex import TexError, read_table
from typer.testing import CliRunner

from avar_eval.leaderboard.cli import app
from avar_eval.leaderboard.history import History
from avar_eval.leaderboard.latex import latex, long_latex, wide_latex
from avar_eval.leaderboard.paper import paper
from avar_eval.leaderboard.ranking import last_of_each
from avar_eval.leaderboard.row import Row
from avar_eval.leaderboard.significance import BestCells, best_cells
from avar_eval.leaderboard.store import Store
from avar_eval.leaderboard.table import csv_text, json_text, markdown
from avar_eval.leaderboard.wide import WideTable, wide_table
from avar_eval.leaderboard.wide_text import wide_csv, wide_json, wide_markdown
from avar_eval.terminal import inert

PRINTED = {"mathvista": 0.747, "mathvision": 0.374, "mathverse_vo": 0.504, "mmmu": 0.638, "mmstar": 0.641}
HOSTILE = (
    r"\input{/etc/passwd}", r"\end{tabular}\write18{rm}", "100% best", "a & b", "$x^2$", "#1_a~b^c", "{unclosed",
    "closed}", "[optional]", "*starred", "--", "``quoted''", "?`!`", "tab\tand\nline", "日本語 🎉", "naïve é",
    "=HYPERLINK(\"http://x\")", "@SUM(A1)", "<script>alert(1)</script>", "![p](http://x/p.png)", "| cell", "`code`",
    "\x1b[31mred", "\u202eabc", "a\\", "a,,b <<c>>",
)  # fmt: skip


def of(model: str, scores: dict[str, float], **changes: Any) -> list[Row]:
    """The rows of a run."""
    run_id = f"{abs(hash((model, str(changes)))):016x}"[:16]
    return [
        replace(
            FULL, **{"run_id": run_id, "model": model, "task": task, "score": score, "score_low": score - 0.02,
            "score_high": score + 0.02, "vas": 10.0} | changes
        )
        for task, score in scores.items()
    ]  # fmt: skip


def wide(rows: list[Row], *tasks: str) -> WideTable:
    return wide_table(rows, tasks, paper())


def markdown_rows(text: str) -> list[list[str]]:
    return [line.strip("| \n").split(" | ") for line in text.split("\n\n")[0].splitlines() if "---" not in line]


def test_the_papers_row_and_the_difference_stand_below_ours() -> None:
    table = wide(of("avar-thinker", PRINTED | {"mathvista": 0.767}))
    heading, ours, printed, difference = markdown_rows(wide_markdown(table, BestCells(), "arXiv"))
    assert heading == ["model", "mathvista", "mathvision", "mathverse_vo", "mmmu", "mmstar", "average", "VAS"]
    assert ours[:2] == ["avar-thinker", "76.7 [74.7–78.7]"]
    assert ours[-2:] == ["58.5", "10.00"]
    assert printed[0] == "AVAR-Thinker (arXiv), as printed"
    assert printed[1:] == ["74.7", "37.4", "50.4", "63.8", "64.1", "58.1", "18.90"]
    assert difference[1:] == ["+2.0", "+0.0", "+0.0", "+0.0", "+0.0", "+0.4", "-8.90"]


def test_two_steerings_of_a_model_are_told_apart() -> None:
    steerings = ('{"image": 0.3, "mode": "logit", "system": 0}', '{"mode": "prob", "system": 0.4}')
    rows = [row for steering in steerings for row in of("a", {"mmmu": 0.5}, steering=steering)]
    assert {line.differs.removesuffix(", as reported") for line in wide(rows).lines} == {
        "steering image=0.3,mode=logit", "steering mode=prob,system=0.4"
    }  # fmt: skip


@pytest.mark.parametrize("changes", [{"limit": 12}, {"steering": '{"mode": "prob"}'}])
def test_what_is_not_the_whole_benchmark_or_another_model_is_not_set_against_the_paper(changes: dict[str, Any]) -> None:
    (line,) = wide(of("avar-thinker", PRINTED, **changes)).lines
    assert line.paper is None


def test_an_average_needs_all_columns_and_a_group_stands_for_its_tasks() -> None:
    rows = of("a", PRINTED | {"mmmu_pro_standard10": 0.4, "mmmu_pro_vision": 0.5, "mmmu_pro": 0.45, "avar7": 0.6})
    rows += of("b", {"mmmu": 0.5})
    table = wide(rows)
    assert table.columns == ["mathvista", "mathvision", "mathverse_vo", "mmmu", "mmmu_pro", "mmstar"]
    assert [line.average is None for line in table.lines] == [False, True]
    assert wide(of("a", {"mmmu_pro_standard10": 0.4}) + rows[-1:]).columns == ["mmmu", "mmmu_pro_standard10"]
    assert wide(rows, "mmstar", "mmmu").columns == ["mmstar", "mmmu"]


def test_a_model_asked_in_two_ways_has_two_lines_that_say_so() -> None:
    table = wide(of("a", {"mmmu": 0.5}) + of("a", {"mmmu": 0.6}, temperature=0.6))
    assert [(line.name, line.differs) for line in table.lines] == [
        ("a", "temperature 0.6, top p 1, top k 0, seed 0"),
        ("a", "temperature 0"),
    ]


def test_bold_needs_intervals_apart_where_records_are_not_at_hand() -> None:
    rows = of("a", {"mmmu": 0.60, "mmstar": 0.60}) + of("b", {"mmmu": 0.50, "mmstar": 0.59})
    table = wide(rows)
    found = best_cells(table, History([]))
    assert found.best == {(0, "mmmu")}
    assert (found.by_test, found.by_interval) == ([], ["mmmu", "mmstar"])
    text = wide_markdown(table, found, "arXiv")
    assert "**60.0 [58.0–62.0]** | 60.0 [58.0–62.0]" in text
    assert "intervals that do not overlap, as the records of a run are not at hand" in text
    said, cells, bold = read_table(wide_latex(table, found, "arXiv"))
    assert "intervals that do not overlap" in said
    assert bold == {(1, 1)}
    assert cells[1][:2] == ["a", "60.0 [58.0–62.0]"]


@pytest.mark.parametrize(
    "changes", [{"n": 12, "limit": 12}, {"temperature": 0.6}, {"grader": "strict-4"}, {"trained_on": True}]
)
def test_rows_that_were_asked_otherwise_take_no_bold_away_and_get_none(changes: dict[str, Any]) -> None:
    table = wide(of("a", {"mmmu": 0.9}, **changes) + of("b", {"mmmu": 0.5}))
    assert best_cells(table, History([])).best == set()


def test_bold_is_by_the_paired_test_where_records_are_at_hand(tmp_path: Path) -> None:
    store = Store(tmp_path / "board")
    for name, accuracy in (("best", 0.95), ("other", 0.8)):
        write_run_folder(tmp_path / name, name, 8.0, rows=60, layers=2, tokens=2, accuracy=accuracy, measured=False)
        store.add_judged(tmp_path / name / "results.json", ["shapes"])
    table = wide(store.rows())
    assert table.lines[1].rows["shapes"].score_high > table.lines[0].rows["shapes"].score_low, "intervals overlap"  # type: ignore[operator]
    found = best_cells(table, store.history())
    assert (found.best, found.by_test) == ({(0, "shapes")}, ["shapes"])
    assert "the paired test of avar-eval compare (p &lt; 0.05 after Holm)" in wide_markdown(table, found, "arXiv")
    shutil.rmtree(tmp_path / "other")
    found = best_cells(table, store.history())
    assert (found.best, found.by_interval) == (set(), ["shapes"])


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_its_letters_in_every_format(name: str) -> None:
    rows = [replace(row, model=name, judge_model=name, backend=name) for row in of("x", {"mmmu": 0.5})]
    table, shown = wide(rows), inert(" ".join(name.split()))
    for text in (long_latex(rows), wide_latex(table, BestCells(), name)):
        _, cells, _ = read_table(text)
        printed = "".join(sign if sign.isascii() or "À" <= sign <= "ÿ" else f"[U+{ord(sign):04X}]" for sign in shown)
        assert printed in [cell for row in cells for cell in row]
    for text in (markdown(rows), wide_markdown(table, BestCells(), name)):
        html = MarkdownIt("commonmark").enable("table").render(text)
        assert not re.search(r"<(?!/?(?:table|thead|tbody|tr|td|th|p|strong)\b)", html)
    for text in (csv_text(rows), wide_csv(table, name)):
        for record in csv.DictReader(io.StringIO(text)):
            assert not any(re.match(r"\s*[=+@]", value) for value in record.values())
            assert record["model"].lstrip("'") == inert(name).lstrip("'")
    assert json.loads(json_text(rows))[0]["model"] == json.loads(wide_json(table, name))[0]["model"] == name
    for text in (long_latex(rows), markdown(rows), csv_text(rows), wide_csv(table, name)):
        assert "\x1b" not in text
        assert "\u202e" not in text


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_is_read_back_from_latex(text: str) -> None:
    table = long_latex([replace(FULL, model=text or "x", steering=None)])
    read_table(table)
    assert "\n" not in latex(text)


def test_the_reader_of_the_tests_is_strict() -> None:
    good = long_latex([FULL])
    read_table(good)
    for old, new in (("shapes", r"\shapes"), ("shapes", "sha_pes"), ("shapes", "sha & pes"), ("shapes", "sha{pes"),
                     ("shapes", "[shapes"), ("shapes", "sha%pes"), ("0.4", "$0.4"), (r" \\", "")):  # fmt: skip
        with pytest.raises(TexError):
            read_table(good.replace(old, new))


def test_the_last_of_each_model_on_a_task() -> None:
    early, late = "2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00"
    rows = of("a", {"mmmu": 0.5}, added=late) + of("a", {"mmmu": 0.9}, added=early, temperature=1.0)
    rows += of("a", {"mmmu": 0.7}, added=early, steering='{"image": 0.2}')
    assert [row.score for row in last_of_each(rows)] == [0.5, 0.7]


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_run: Callable[..., Path]) -> Path:
    monkeypatch.setenv("AVAR_LEADERBOARD", str(tmp_path / "board"))
    store = Store(tmp_path / "board")
    store.add(write_run(model="avar-thinker", accuracy=0.5))
    store.add(write_run(model="avar-tiny"))
    return store.path


def export(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["export", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_command_chooses_tasks_models_and_forms(board: Path, tmp_path: Path) -> None:
    wide_rows = list(csv.DictReader(io.StringIO(export("--format", "csv", "--wide"))))
    assert [row["source"] for row in wide_rows] == ["ours", "ours", "arXiv 2603.03825", "difference"]
    assert len({*wide_rows[0]} & {"temperature", "samples", "seed", "backend", "judge_model", "prompting_sha256"}) == 6
    (row,) = csv.DictReader(io.StringIO(export("--format", "csv", "--tasks", "shapes", "--models", "avar-tiny")))
    assert (row["task"], row["model"], row["mark"]) == ("shapes", "avar-tiny", "as reported")
    _, cells, _ = read_table(export("--format", "tex", "--wide", "--tasks", "shapes,mathvista", "--last"))
    assert cells[0] == ["model", "shapes", "mathvista", "average", "VAS"]
    file = tmp_path / "table.tex"
    assert export("--format", "tex", "--output", str(file)) == ""
    read_table(file.read_text())
    assert {row["model"] for row in json.loads(export("--format", "json", "--wide"))} == {
        "avar-thinker", "avar-tiny", "AVAR-Thinker"
    }  # fmt: skip


def test_an_unknown_name_is_told_the_nearest(board: Path) -> None:
    for option, typed, meant in (("--tasks", "shapes,mathvist", "mathvista"), ("--models", "avar-tini", "avar-tiny")):
        done = CliRunner().invoke(app, ["export", "--format", "md", option, typed])
        assert f"did you mean {meant}" in str(done.exception)
