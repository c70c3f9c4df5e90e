"""Whatever models, rows and runs are called or say, the page shows it as text, and nothing of it is done."""

from pathlib import Path
from typing import Any

import pytest
from browser import needs_chromium, opened
from invented_run import invented_data, invented_run

from avar_eval.view.page import build_viewer

HOSTILE = {
    "a script": "<script>window.done = 1; document.title = 'done'</script>",
    "a script that ends ours": "</script><script>window.done = 1</script>",
    "an event": "<img src=x onerror='window.done = 1'><svg onload='window.done = 1'>",
    "a frame": "<iframe src='https://example.invalid/'></iframe><object data='https://example.invalid/'></object>",
    "a form": "<form action='https://example.invalid/'><button autofocus onfocus='window.done = 1'>x</button></form>",
    "a style": "<style>* { display: none }</style><link rel=stylesheet href='https://example.invalid/x.css'>",
    "a base": "<base href='https://example.invalid/'><meta http-equiv=refresh content='0; url=https://example.invalid/'>",
    "Markdown": "![x](https://example.invalid/pixel.png) [click](javascript:window.done=1) # Title",
    "LaTeX": r"\href{javascript:window.done=1}{x} $\input{/etc/passwd}$ \unicode{x3c}script\unicode{x3e}",
    "JSON": '"}]);window.done = 1;//\\u0022 \\" \\\\ </script>',
    "a template": "{{ 7 * 7 }} {% raw %} ${window.done = 1} `${window.done = 1}`",
    "a formula": '=HYPERLINK("https://example.invalid") +1 @SUM -1',
    "terminal escapes": "\x1b]0;renamed\x07\x1b[2J\x1b[31mred\x1b[0m\x9b31m\x08\x08\x7f",
    "writing backwards": "ab\u202egnp.\u202c\u2066cd\u2069\u200e\u200f\u061c",
    "what is not seen": "a\u200bb\u00adc\ufeffd\u2028e\u2029f\u0085g",
    "zero bytes": "a\x00b\x00",
    "half a letter": "a\ud83d b\ude00",
    "prototypes": "__proto__ constructor toString hasOwnProperty",
    "thoughts that never end": "<think>" * 40 + "x",
    "another script": "\u0645\u0631\u062d\u0628\u0627 \u4f60\u597d \U0001f469\u200d\U0001f52c",
}


def seen(text: str) -> str:
    """As the page is to show it: what acts or cannot be seen stands as its code."""
    codes = {*range(9), *range(0xB, 0x20), *range(0x7F, 0xA0), 0xAD, 0x61C, 0x200B, 0x200E, 0x200F}
    codes |= {*range(0x2028, 0x202F), *range(0x2060, 0x206A), 0xFEFF, *range(0xD800, 0xE000)}
    return "".join(f"\\u{ord(letter):04x}" if ord(letter) in codes else letter for letter in text)


def changed(text: str) -> dict[str, Any]:
    """A record that has the text wherever other people's text can stand."""
    return {
        "row_id": text,
        "prompt": f"<|im_start|>{text}",
        "reference": text,
        "finish_reason": "stop",
        "judgement": {"state": "scored", "extracted": text, "correct": False, "grader": text, "official": None},
        "judge": {"model": text, "state": "scored", "extracted": text, "correct": True},
        "changed": {text: text},
        "causal": {
            text: 1.5,
            "__proto__": {"polluted": 1},
            "no measure of ours": float("nan"),
            "nor this": float("inf"),
        },
    }


@needs_chromium
def test_text_of_others_is_inert(tmp_path: Path) -> None:
    texts = list(HOSTILE.values())
    model = HOSTILE["a script that ends ours"] + HOSTILE["writing backwards"]
    changes = {number: changed(text) for number, text in enumerate(texts)}
    run = invented_run(tmp_path / "</script><b>run", texts, model=model, changes=changes)
    assert build_viewer([run], tmp_path / "page", invented_data(tmp_path / "data", len(texts)))
    with opened(tmp_path / "page" / "index.html") as browser:
        browser.seconds_until("#list li a")
        page = browser.page
        for text in texts:
            page.keyboard.press("j")
            page.wait_for_function("() => document.getElementById('main').dataset.shows === location.hash")
            shown = page.evaluate("document.getElementById('row').textContent")
            assert shown.count(seen(text)) >= 8, text
            assert seen(text) in page.locator("#row h2").first.text_content()
        assert page.evaluate("document.getElementById('position').textContent") == f"{len(texts)} of {len(texts)}"
        state = "[window.done, document.title === 'done', {}.polluted, document.querySelectorAll('iframe').length]"
        assert page.evaluate(state) == [None, False, None, 0]
        assert page.title() == f"{seen(model)} · avar-eval view"
        assert seen(model) in page.locator("#summary").text_content()
        assert page.locator("body *").evaluate_all("all => all.every((one) => !one.matches('script[src], form, b'))")
        assert browser.errors == browser.outside == []


@needs_chromium
@pytest.mark.parametrize("name", ["a script", "an event", "a frame", "Markdown", "a style"])
def test_even_as_markup_nothing_would_run_or_be_fetched(tmp_path: Path, name: str) -> None:
    """The page's policy holds by itself: markup that is put into the page is kept from acting."""
    run = invented_run(tmp_path / "run", ["7"])
    build_viewer([run], tmp_path / "page", invented_data(tmp_path / "data", 1))
    index = tmp_path / "page" / "index.html"
    index.write_text(index.read_text().replace("<footer", HOSTILE[name] + "<footer", 1))
    with opened(index) as browser:
        browser.seconds_until("#list li a")
        assert browser.page.evaluate("window.done") is None
        assert browser.outside == []
        wrapped = "try { document.body.innerHTML = '<p>x</p>'; 'taken' } catch (error) { error.name }"
        assert browser.page.evaluate(wrapped) == "TypeError", "no text becomes markup"


@needs_chromium
def test_a_huge_line_is_readable_and_the_rest_of_it_a_click_away(tmp_path: Path) -> None:
    response = "a" * 99_999 + "\U0001f600" + "b" * 200_000 + "end"
    run = invented_run(tmp_path / "run", [response])
    build_viewer([run], tmp_path / "page", invented_data(tmp_path / "data", 1))
    with opened(f"{(tmp_path / 'page' / 'index.html').as_uri()}#mathvista/1", width=390) as browser:
        browser.seconds_until("#row .card pre >> nth=1")
        assert browser.widest() == 0
        shown = browser.page.locator("#row .sides pre")
        assert len(shown.text_content() or "") < 101_000
        while shown.locator("button").count():
            shown.locator("button").click()
        assert shown.text_content() == response
