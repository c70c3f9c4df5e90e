"""The viewer in a real browser: what it shows, finds and compares, from a file and without a network."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import Browser, needs_chromium, opened
from invented_run import invented_data, invented_run
from runs import Finished, records_of

from avar_eval.view.page import build_viewer
from avar_eval.view.server import served

if TYPE_CHECKING:
    from playwright.sync_api import Page

RUN = ("--model", "avar-tiny", "--limit", "24", "--device", "cpu", "--attention-samples", "6")


@pytest.fixture(scope="module")
def runs(avar_eval: Callable[..., Finished], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs on rows in common: as it is, and steered until it stumbles."""
    folder = tmp_path_factory.mktemp("viewed")
    plain, steered = folder / "plain", folder / "steered"
    for tasks, output, more in (("shapes", plain, ()), ("shapes,shapes_prior", steered, ("--steer", "avar"))):
        done = avar_eval(*RUN, "--tasks", tasks, "--output", str(output), *more)
        assert done.code == 0, done.stderr
    return [plain, steered]


@pytest.fixture(scope="module")
def viewer(runs: list[Path], avar_eval: Callable[..., Finished], tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("viewer") / "page"
    done = avar_eval("view", *map(str, runs), "--output", str(page))
    assert done.code == 0, done.stderr
    assert done.stdout == f"{page}/index.html\n"
    return page


def texts(page: "Page", selector: str) -> list[str]:
    return [text.strip() for text in page.locator(selector).all_inner_texts()]


def ids(page: "Page") -> list[str]:
    return page.locator("#list .id").all_text_contents()  # rows out of sight are not rendered


def settled(page: "Page", part: str) -> None:
    """Wait until the page shows what its address says, with `part` in that."""
    page.wait_for_function(
        "part => location.hash.includes(part) && document.getElementById('main').dataset.shows === location.hash",
        arg=part,
    )


def wrong_rows(run: Path) -> set[str]:
    return {one["row_id"] for one in records_of(run) if one["task"] == "shapes" and not one["judgement"]["correct"]}


@pytest.fixture
def browser(viewer: Path) -> Iterator[Browser]:
    with opened(viewer / "index.html") as browser:
        browser.seconds_until("#list li a")
        yield browser
        assert browser.errors == browser.outside == []


@needs_chromium
def test_a_row_shows_all_that_is_known_of_it(browser: Browser, runs: list[Path]) -> None:
    record = next(one for one in records_of(runs[0]) if one["attention"])
    page = browser.page
    page.locator("#other").select_option("none")
    page.locator("#list a", has=page.get_by_text(record["row_id"], exact=True)).click()
    page.locator("#row .card").first.wait_for()
    assert page.evaluate("document.querySelector('#row img').naturalWidth") > 0
    shown = page.locator("#row").inner_text()
    thought, _, answer = record["response"].partition("</think>")
    assert record["prompt"].strip() in texts(page, "#row pre.prompt")[0]
    assert answer.strip() in shown
    assert thought[:30] not in shown, "it is folded"
    page.keyboard.press("t")
    assert thought in page.locator("#row details.thought pre").inner_text()
    user = record["attention"]["user"]
    for words in (f"{user['vas']:.3f}", f"{user['ratio_of_sums']:.3f}", "itself (stop)", "strict-5", record["key"]):
        assert words in shown
    assert f"{len(record['prompt_token_ids'])} of the prompt, {len(record['response_token_ids'])} of the resp" in shown
    assert texts(page, "#row .verdicts tr")[0].startswith("strict")
    assert record["reference"] in texts(page, "#row .verdicts tr")[-1]


@needs_chromium
def test_wrong_and_flipped_rows_are_a_click_away(browser: Browser, runs: list[Path]) -> None:
    plain, steered = map(wrong_rows, runs)
    page = browser.page
    page.get_by_role("button", name="wrong", exact=False).first.click()
    settled(page, "show=wrong")
    assert set(ids(page)) == plain
    page.get_by_role("button", name="flipped").click()
    settled(page, "show=flipped")
    assert set(ids(page)) == plain ^ steered != set()
    page.get_by_role("button", name="right → wrong").click()
    settled(page, "show=lost")
    assert set(ids(page)) == steered - plain
    page.locator("#list a").first.click()
    page.locator("#row .sides .card").nth(1).wait_for()
    assert ["✗ wrong" in text for text in texts(page, "#row .sides .card .verdicts")] == [False, True]


@needs_chromium
def test_an_address_is_that_of_one_row(viewer: Path) -> None:
    with opened(f"{(viewer / 'index.html').as_uri()}#shapes/test-0-7?beside=none") as browser:
        browser.seconds_until("#row .card")
        assert browser.page.locator("#row h2").first.inner_text() == "shapes · test-0-7"
        assert browser.page.locator("#list a[aria-current=true] .id").inner_text() == "test-0-7"
        browser.page.keyboard.press("j")
        settled(browser.page, "#shapes/test-0-8")
        browser.page.keyboard.press("k")
        settled(browser.page, "#shapes/test-0-7")
        browser.page.locator("#task").select_option("shapes_prior")
        settled(browser.page, "#shapes_prior")
        assert browser.page.locator("#list li a").count() == 24
    with opened(f"{(viewer / 'index.html').as_uri()}#shapes/no-such-row") as browser:
        browser.seconds_until("#row p")
        assert "There is no row no-such-row here" in browser.page.locator("#row").inner_text()


@needs_chromium
def test_it_is_the_same_from_a_server(viewer: Path) -> None:
    with served(viewer) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with opened(f"http://127.0.0.1:{server.server_port}/#shapes/test-0-7") as browser:
            browser.seconds_until("#row .card")
            browser.page.wait_for_function("() => document.querySelector('#row img')?.naturalWidth > 0")
            assert browser.page.locator("#row h2").first.inner_text() == "shapes · test-0-7"
            assert browser.errors == browser.outside == []
        server.shutdown()


@needs_chromium
def test_rows_are_searched_and_sorted(browser: Browser, runs: list[Path]) -> None:
    page = browser.page
    page.locator("#query").fill("how many")
    settled(page, "search=how")
    assert {text.split()[0].lower() for text in page.locator("#list .text").all_text_contents()} == {"how"}
    word = records_of(runs[0])[0]["response"].split()[0].removeprefix("<think>").lower()
    page.locator("#query").fill(word)
    settled(page, f"search={word}")
    page.locator("#deep").check()
    settled(page, "deep=1")
    having = {
        one["row_id"]
        for run in runs
        for one in records_of(run)
        if one["task"] == "shapes" and word in f"{one['prompt']}\n{one['response']}".lower()
    }
    assert set(ids(page)) == having != set()
    page.locator("#query").fill("")
    page.wait_for_function("() => !location.hash.includes('search')")
    page.locator("#deep").uncheck()
    page.locator("#descending").check()
    settled(page, "highest=1")
    page.locator("#sort").select_option("vas")
    settled(page, "sort=vas")
    measured = {
        one["row_id"]: one["attention"]["user"]["vas"]
        for one in records_of(runs[0])
        if one["task"] == "shapes" and one["attention"]
    }
    assert ids(page)[: len(measured)] == sorted(measured, key=lambda row: -measured[row])
    assert len(ids(page)) == 24, "those that were not measured stand last"


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone_list_and_row_take_turns(viewer: Path, dark: bool) -> None:
    with opened(viewer / "index.html", width=390, height=844, dark=dark) as browser:
        browser.seconds_until("#list li a")
        assert browser.widest() == 0
        browser.page.locator("#list a").first.click()
        browser.seconds_until("#row .card")
        assert not browser.page.locator("#list").is_visible()
        assert browser.widest() == 0
        browser.page.locator("#back").click()
        browser.page.locator("#list").wait_for(state="visible")
        assert not browser.page.locator("#row").is_visible()
        assert browser.least_contrast() >= 4.5


@needs_chromium
@pytest.mark.parametrize("width", [1280, 1024, 390])
def test_all_measures_and_all_orders_fit_the_width(viewer: Path, width: int) -> None:
    with opened(viewer / "index.html", width=width) as browser:
        browser.seconds_until("#list li a")
        page = browser.page
        page.get_by_text("more measures").click()
        assert {"accuracy", "vas", "vas_median", "information_after_thought"} <= set(texts(page, "#summary dt"))
        assert page.evaluate("[...document.querySelectorAll('#summary *')].map(of => of.scrollWidth - of.clientWidth)"
                             ".filter(beyond => beyond > 1)") == []  # fmt: skip
        beyond = """() => {
            const select = document.getElementById("sort"), style = getComputedStyle(select);
            const pen = document.createElement("canvas").getContext("2d");
            pen.font = `${style.fontSize} ${style.fontFamily}`;
            const widest = Math.max(...[...select.options].map((option) => pen.measureText(option.text).width));
            return widest + 2 * parseFloat(style.paddingLeft) + 20 - select.clientWidth;  // 20 for the arrow
        }"""
        assert page.evaluate(beyond) < 0
        assert browser.widest() == 0


@needs_chromium
def test_each_kind_of_verdict_has_its_filter(tmp_path: Path) -> None:
    judged = {"state": "scored", "extracted": "7", "correct": True, "grader": "g", "official": True}
    changes = {
        1: {"judgement": judged | {"state": "unparsed", "extracted": None, "correct": False, "official": True}},
        2: {"judgement": judged | {"state": "truncated", "extracted": None, "correct": False, "official": False},
            "finish_reason": "length"},
        3: {"judge": {"model": "judge-1", "state": "scored", "extracted": "six", "correct": False}},
        4: {"judgement": None},
        5: {"causal": {"tokens": 9, "dependence": 1.25, "knockout_answer": -0.5,
                       "knockout_windows": [{"layers": [0, 3], "answer": -0.125, "response": -2.5}],
                       "blind": {"images": "grey", "extracted": "7", "correct": True, "state": "scored"},
                       "swap": {"images": "swapped", "extracted": None, "correct": None, "state": None,
                                "image_of": "3"}}},
    }  # fmt: skip
    run = invented_run(tmp_path / "run", [f"<think>row {n}</think>7" for n in range(6)], changes=changes)
    results = json.loads((run / "results.json").read_text())
    results["tasks"]["mathvista"]["left_out"] = {"n": 2, "ids": ["7", "<b>8"], "reason": "its picture is missing"}
    window = {"layers": [0, 3], "answer": {"value": -0.125, "n": 1}, "response": {"value": -2.5, "n": 1}}
    results["tasks"]["mathvista"]["knockout_windows"] = [window]
    (run / "results.json").write_text(json.dumps(results))
    build_viewer([run], tmp_path / "page", invented_data(tmp_path / "data", 6))
    with opened(tmp_path / "page" / "index.html") as browser:
        browser.seconds_until("#list li a")
        page = browser.page
        assert "invented: 2 rows are not here: its picture is missing [7, <b>8]" in texts(page, "#summary .notice")
        page.get_by_text("more measures").click()
        assert "knockout_answer, layers 0 to 3" in texts(page, "#summary dt")
        found = {}
        for name in ("wrong", "truncated", "unparsed", "official ≠ strict", "right without", "judge ≠ strict"):
            page.get_by_role("button", name=name).click()
            settled(page, "show=")
            found[name] = ids(page)
        assert found == {
            "wrong": ["2", "3"],
            "truncated": ["3"],
            "unparsed": ["2"],
            "official ≠ strict": ["2"],
            "judge ≠ strict": ["4"],
            "right without": ["6"],
        }
        page.locator("#list a").first.click()
        page.locator("#row .verdicts", has_text="judge-1; answer found: six").wait_for()
        page.goto(f"{(tmp_path / 'page' / 'index.html').as_uri()}#mathvista/6")
        page.locator("#row dl", has_text="visual dependence").wait_for()
        shown = page.locator("#row").inner_text()
        for words in (
            "visual dependence (KL, nats)\n1.250",
            "knockout, answer (nats)\n-0.500",
            "knockout_response, layers 0 to 3\n-2.500",
            "with the picture of 3",
        ):
            assert words in shown
        assert "without the picture (grey)\t✓ right\tanswer found: 7" in shown
        assert browser.errors == browser.outside == []
