"""Tables: what people read, and what programs read back."""

import csv
import io
import json
import re
from dataclasses import asdict, fields, replace
from html import unescape
from typing import get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console
from whole_tables import WIDTHS, check_whole

from avar_eval.leaderboard.row import Measure, Row
from avar_eval.leaderboard.table import csv_text, json_text, markdown, terminal_table
from avar_eval.terminal import inert

FULL = Row(
    run_id="00aa11bb22cc33dd",
    task="shapes",
    model="avar-tiny",
    revision=None,
    n=500,
    left_out=0,
    score_name="accuracy",
    score=0.91,
    score_low=0.8817,
    score_high=0.9321,
    official=0.875,
    official_low=0.8401,
    official_high=0.9034,
    judge=0.9,
    accuracy=0.91,
    accuracy_low=0.8817,
    accuracy_high=0.9321,
    vas=12.34567,
    vas_low=11.5,
    vas_high=13.25,
    vas_n=200,
    vas_band="wide",
    vas_response=8.5,
    truncated=0.004,
    unparsed=0.0,
    timeout=0.002,
    judge_error=0.0,
    steering=None,
    limit=None,
    training_run=None,
    training_step=None,
    training_started=None,
    trained_on=False,
    protocol=None,
    prompting_sha256="34" * 32,
    system_prompt_sha256=None,
    prompt_sha256="12" * 32,
    added="2026-01-31T10:00:00+00:00",
    mark="verified",
    backend="transformers",
    dtype="bfloat16",
    temperature=0.0,
    top_p=1.0,
    top_k=0,
    min_p=None,
    repetition_penalty=1.0,
    presence_penalty=None,
    max_new_tokens=512,
    samples=1,
    seed=0,
    min_pixels=None,
    max_pixels=None,
    grader="strict-5",
    judge_model=None,
    task_version=1.0,
    data_revision=None,
    split="test",
    measures={},
)
UNKNOWN = replace(
    FULL,
    score=None,
    score_low=None,
    score_high=None,
    official=None,
    official_low=None,
    official_high=None,
    judge=None,
    accuracy=None,
    accuracy_low=None,
    accuracy_high=None,
    vas=None,
    vas_low=None,
    vas_high=None,
    vas_band=None,
    vas_response=None,
    truncated=None,
    unparsed=None,
)
finite = st.floats(allow_nan=False, allow_infinity=False)
measures = st.dictionaries(
    st.sampled_from(["blind", "swap"]), st.builds(Measure, finite, st.none(), finite, st.just(3))
)
rows = st.lists(
    st.builds(replace, st.just(FULL), accuracy=st.none() | finite, vas=finite, model=st.text(), measures=measures),
    max_size=4,
)


def printed(*shown: Row) -> str:
    text = io.StringIO()
    Console(file=text, width=200).print(terminal_table(shown))
    return text.getvalue()


def cells(*shown: Row) -> list[list[str]]:
    return [line.strip("|\n ").split(" | ") for line in markdown(shown).splitlines()[2:]]


def test_shares_are_percent_with_one_decimal_and_vas_has_its_band() -> None:
    (row,) = cells(FULL)
    assert row[:4] == ["shapes", "avar-tiny", "00aa11bb", "500"]
    assert row[4:] == ["91.0 [88.2–93.2]", "87.5 [84.0–90.3]", "12.35 [11.50–13.25] wide", "0.4", "0.0", "verified"]


def test_unknown_is_a_dash_and_zero_is_zero() -> None:
    assert cells(UNKNOWN)[0][3:] == ["500", "–", "–", "–", "–", "–", "verified"]
    zero = replace(FULL, score=0.0, score_low=None, score_high=None, vas=0.0, vas_low=None, vas_high=None)
    assert cells(zero)[0][4:7:2] == ["0.0", "0.00 wide"]


@pytest.mark.parametrize(
    ("changes", "column", "expected"),
    [
        ({"limit": 100, "n": 100}, 3, "100 (first 100)"),
        ({"trained_on": True}, 3, "500 (trained on it)"),
        ({"left_out": 12, "n": 488}, 3, "488 (12 left out)"),
        ({"limit": 100, "left_out": 2, "n": 98}, 3, "98 (first 100, 2 left out)"),
        ({"revision": "0123456789abcdef0123456789abcdef01234567"}, 1, "avar-tiny@0123456"),
        ({"revision": "step-200"}, 1, "avar-tiny@step-200"),
        ({"steering": '{"mode": "prob"}'}, 1, "avar-tiny (steered)"),
        ({"protocol": "vlmevalkit"}, 1, "avar-tiny (vlmevalkit)"),
        ({"protocol": "custom", "steering": '{"mode": "prob"}'}, 1, "avar-tiny (steered, custom)"),
        ({"task": "hallusion", "score_name": "mean"}, 0, "hallusion (mean)"),
        ({"model": "a|b"}, 1, "a\\|b"),
    ],
)
def test_what_makes_a_row_another_one_is_seen(changes: dict[str, object], column: int, expected: str) -> None:
    assert cells(replace(FULL, **changes))[0][column] == expected  # type: ignore[arg-type]


def test_the_terminal_shows_the_same_cells_with_tasks_grouped() -> None:
    other = replace(FULL, model="[red]bold[/red]", score=0.5)
    text = printed(replace(FULL, task="mathvista"), FULL, other)
    assert "91.0 [88.2–93.2]" in text
    assert "12.35 [11.50–13.25] wide" in text
    assert "[red]bold[/red]" in text
    assert text.count("shapes") == text.count("mathvista") == 1


def test_a_ratio_of_billions_stays_readable() -> None:
    assert "424M [1.14M–1.25e9] panoramic" in markdown(
        [replace(FULL, vas=424362354.39, vas_low=1140665.57, vas_high=1248256840.31, vas_band="panoramic")]
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_every_value_is_whole_at_this_width(width: int) -> None:
    name = "organisation/" + "model-name-" * 4
    long_name = replace(FULL, model=name, vas_band="panoramic", limit=100, unparsed=0.123)
    check_whole(terminal_table([FULL, long_name, replace(long_name, task="mathvista"), UNKNOWN]), width)


@settings(deadline=None)
@given(rows)
def test_json_reads_back_to_the_same_rows(table: list[Row]) -> None:
    read = json.loads(json_text(table))
    measures = [{name: Measure(**of) for name, of in row.pop("measures").items()} for row in read]
    assert [Row(**row, measures=of) for row, of in zip(read, measures, strict=True)] == table


def test_csv_reads_back_to_the_same_numbers() -> None:
    kinds = get_type_hints(Row)
    table = [FULL, UNKNOWN, replace(FULL, accuracy=1 / 3, model='name, with "quotes"', limit=100)]

    def value(name: str, text: str) -> object:
        if text == "":
            return None
        if kinds[name] is bool:
            return {"True": True, "False": False}[text]
        return float(text) if kinds[name] == float | None else int(text) if kinds[name] in (int, int | None) else text

    read = [
        {name: value(name, text) for name, text in row.items()} for row in csv.DictReader(io.StringIO(csv_text(table)))
    ]
    assert read == [{name: of for name, of in asdict(row).items() if name != "measures"} for row in table]


def test_measures_that_any_row_has_are_columns() -> None:
    rows = [replace(FULL, measures={"blind": Measure(0.3, 0.2, 0.4, 50)}), FULL]
    first, second = csv.DictReader(io.StringIO(csv_text(rows)))
    assert {name: first[name] for name in list(first)[-4:]} == {
        "blind": "0.3",
        "blind_low": "0.2",
        "blind_high": "0.4",
        "blind_n": "50",
    }
    assert second["blind"] == second["blind_n"] == ""


def test_an_empty_leaderboard_is_an_empty_table() -> None:
    assert json_text([]) == "[]\n"
    assert csv_text([]) == ",".join(field.name for field in fields(Row) if field.name != "measures") + "\n"
    assert len(markdown([]).splitlines()) == 2


@pytest.mark.parametrize(
    "name",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        " =1",
        "\n=1",
        "\uff1d1",
        '=HYPERLINK("http://x")',
        "=cmd|' /C calc'!A0",
    ],
)
def test_a_name_is_no_formula_of_a_spreadsheet(name: str) -> None:
    (row,) = csv.DictReader(io.StringIO(csv_text([replace(FULL, model=name, vas_band=name)])))
    assert row["model"][0] == row["vas_band"][0] == "'"
    assert row["model"][1:] == inert(name)
    assert row["vas"] == "12.34567", "numbers stay numbers, also below zero"


@pytest.mark.parametrize(
    "name",
    [
        "<img src=x onerror=alert(1)>",
        "a | b",
        "[click](http://evil.example)",
        "![p](http://evil.example/p.png)",
        "http://evil.example",
        "www.evil.example",
        "`code`",
        "**bold**",
        "_it_",
        "&lt;b&gt;",
        "two\nlines\r\nand | more",
        "back\\slash",
        "\x1b[31mred",
    ],
)
def test_a_name_is_no_markup(name: str) -> None:
    table = markdown([replace(FULL, model=name)])
    assert len(table.splitlines()) == 3
    html = MarkdownIt("commonmark", {"linkify": False}).enable("table").render(table)
    (shown,) = re.findall(r"<tr>\n<td>shapes</td>\n<td>(.*?)</td>", html, re.DOTALL)
    assert not re.search(r"<(?!/?td|/?tr)", shown), "no element of any kind"
    assert unescape(shown) == " ".join(inert(name.replace("\n", " ").replace("\r", " ")).split())


def test_plain_names_stay_as_they_are() -> None:
    for name in ("avar-tiny", "Qwen/Qwen2.5-VL-7B-Instruct", "my_model_v2", "a.b (c)", "C++"):
        assert cells(replace(FULL, model=name))[0][1] == name
        (row,) = csv.DictReader(io.StringIO(csv_text([replace(FULL, model=name)])))
        assert row["model"] == name
