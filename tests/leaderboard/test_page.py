"""The leaderboard's page as it is written: its policy, its data, its lines, links into viewers, the README."""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from invented_results import invented_results
from page_rows import many_rows, page_row, write_page
from typer.testing import CliRunner

from avar_eval.atomic import WriteError
from avar_eval.errors import UsageError
from avar_eval.leaderboard.cli import app
from avar_eval.leaderboard.page.build import build_page
from avar_eval.leaderboard.page.contents import page_contents
from avar_eval.leaderboard.page.correlations import correlations
from avar_eval.leaderboard.page.readme import readme_text
from avar_eval.leaderboard.page.rows import own_lines, own_rows
from avar_eval.leaderboard.page.viewers import viewer_links
from avar_eval.leaderboard.paper import paper
from avar_eval.leaderboard.ranking import ranked
from avar_eval.leaderboard.row import Row
from avar_eval.leaderboard.store import Store

HOSTILE = json.loads(Path(__file__).with_name("hostile_names.json").read_text(encoding="utf-8"))


def data_of(page: Path) -> Any:
    """The JSON in a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_policy_allows_this_style_and_this_script_alone(tmp_path: Path) -> None:
    text = write_page(tmp_path, [page_row()]).read_text()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for rule, element in (("style-src", "style"), ("script-src", "script")):
        (content,) = re.findall(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
        assert rules[rule] == f"'sha256-{base64.b64encode(sha256(content.encode()).digest()).decode()}'"
    assert re.findall(r'(?:src|href)="([^"]*)"', text.partition("<style>")[0]) == ["data:,"]


def test_the_same_rows_make_the_same_bytes(tmp_path: Path) -> None:
    first = write_page(tmp_path, many_rows(20), with_paper=True).read_bytes()
    assert write_page(tmp_path, many_rows(20), with_paper=True).read_bytes() == first


def test_rows_of_other_settings_stand_in_lines_of_their_own() -> None:
    row = page_row()
    same = replace(row, task="mathvista", max_new_tokens=9, grader="2", split="testmini", mark="verified")
    for others in (
        {"temperature": 0.7},
        {"steering": "{}"},
        {"limit": 12},
        {"protocol": "vlmevalkit"},
        {"backend": "vllm"},
        {"revision": "b" * 40},
        {"training_step": 3},
        {"run_id": "e" * 16},  # a second run of the same settings: no cell hides another
    ):
        lines = own_lines(own_rows([row, same, replace(row, **others)]))
        assert [line.rows for line in lines] == [[0, 1], [2]], others
    assert not own_lines(own_rows([row, same]))[0].verified, "as soon as one of its rows is only reported"


def test_numbers_in_the_page_are_the_rows(tmp_path: Path) -> None:
    row = page_row(score=1 / 3, vas=12345.678912)
    data = data_of(write_page(tmp_path, [row]))
    cells = {data["measures"][int(place)]["key"]: cell for place, cell in data["rows"][0][2].items()}
    assert cells["score"] == [0.333333, row.score_low, row.score_high, row.n]
    assert cells["vas"] == [12345.7, row.vas_low, row.vas_high, row.vas_n]


def points(rows: list[Row]) -> list[str]:
    """The models that have a point against VAS."""
    shown = own_rows(rows)
    pictures = [one for one in correlations(shown, ranked(rows)) if one.title == "shapes: score against VAS"]
    return sorted(rows[place].model for picture in pictures for place, _ in picture.points)


def test_a_model_has_one_point_among_rows_that_were_asked_alike() -> None:
    alike = [page_row(model=name, run_id=f"{at:016x}", vas=3.0 + at) for at, name in enumerate("abc")]
    assert points(alike) == ["a", "b", "c"]
    again = replace(alike[0], added="2026-11-28T05:00:00+00:00", run_id="9" * 16)
    for other in (
        again,
        replace(again, model="steered", steering="{}"),
        replace(again, model="checkpoint", training_run="t", training_step=5),
        replace(again, model="fewer", limit=12, n=12),
        replace(again, model="sampled", temperature=0.7),
        replace(again, model="blind", vas=None),
    ):
        assert points([*alike, other]) == ["a", "b", "c"]


def test_rows_of_a_viewer_link_to_it(tmp_path: Path) -> None:
    for name, runs in (("one", ["a" * 16]), ("two of them", ["b" * 16, "c" * 16])):
        shown = json.dumps({"runs": [{"run_id": run, "model": "m"} for run in runs], "measures": []})
        folder = tmp_path / "views" / name
        folder.mkdir(parents=True)
        (folder / "index.html").write_text(f'<script type="application/json" id="runs">{shown}</script>')
    expected = {
        "b" * 16: ("../views/two%20of%20them/index.html", 0),
        "c" * 16: ("../views/two%20of%20them/index.html", 1),
    }
    assert viewer_links([tmp_path / "views" / "two of them"], tmp_path / "page") == expected
    of_all = viewer_links([tmp_path / "views"], tmp_path / "page")
    assert of_all == expected | {"a" * 16: ("../views/one/index.html", 0)}
    for folder in (tmp_path / "page", tmp_path / "missing", tmp_path):
        with pytest.raises(UsageError, match="holds no viewer"):
            viewer_links([folder], tmp_path / "page")


def test_a_page_of_no_rows_is_written_and_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    assert build_page(Store(tmp_path / "empty"), tmp_path / "page") == []
    assert data_of(tmp_path / "page" / "index.html")["rows"]
    build_page(Store(tmp_path / "empty"), tmp_path / "page", with_paper=False)
    assert data_of(tmp_path / "page" / "index.html")["rows"] == []
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="file"):
        build_page(Store(tmp_path / "empty"), tmp_path / "file")


def test_ours_point_to_what_the_paper_prints_of_the_same_model() -> None:
    ours = page_row(model="avar-thinker", task="mathvista")
    steered = replace(ours, steering="{}", run_id="e" * 16)
    contents = page_contents([ours, steered, replace(ours, model="other", run_id="f" * 16)], paper(), {})
    pointed = [row[-1] for row in contents["rows"][:3]]
    assert pointed[1:] == [None, None]
    score = contents["rows"][pointed[0]][2][0][0]
    assert score == pytest.approx(0.747)


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_name_is_one_cell_of_the_readme(name: str) -> None:
    row = page_row(model=name, task=name, protocol=name, grader=name)
    text = readme_text([row], paper(), Path("board"), Path("README.md"))
    plain = readme_text([page_row()], paper(), Path("board"), Path("README.md"))
    assert text.count("\n") == plain.count("\n")
    (line,) = [line for line in text.splitlines() if line.endswith("| as reported |") and not line.startswith("| ---")]
    assert len(re.findall(r"(?<!\\)\|", line)) == 8
    assert not re.search(r"[<>\x00-\x1f\x7f-\x9f\u2028-\u202e]|(?<!\\)[*`~$]|(?<!\\)\]\(", line)


def test_the_command_writes_the_page_and_says_where(tmp_path: Path, write_run: Callable[..., Path]) -> None:
    board, page = str(tmp_path / "board"), tmp_path / "page"
    Store(tmp_path / "board").add(write_run())
    (tmp_path / "board" / "runs" / "unreadable.json").write_text("{")
    view = tmp_path / "view"
    view.mkdir()
    shown = json.dumps({"runs": [{"run_id": invented_results()["run_id"]}]})
    (view / "index.html").write_text(f'<script type="application/json" id="runs">{shown}</script>')
    options = ["--store", board, "--output", str(page), "--viewers", str(view), "--no-paper"]
    done = CliRunner().invoke(app, ["page", *options, "--readme", str(tmp_path / "README.md")])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"page: {page / 'index.html'}\nreadme: {tmp_path / 'README.md'}\n"
    assert "1 file in the store could not be read" in done.stderr
    data = data_of(page / "index.html")
    assert data["viewers"] == {invented_results()["run_id"]: ["../view/index.html", 0]}
    assert not any(line[5] for line in data["lines"]), "without the paper's rows"
    assert (
        "| shapes | avar-tiny | 500 | 91.0 [88.2–93.2] | 12.35 [11.50–13.25] |" in (tmp_path / "README.md").read_text()
    )
