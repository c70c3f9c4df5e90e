"""The browser that tests of pages share sees what a page does, and lets nothing out."""

from pathlib import Path

from browser import needs_chromium, opened

PAGE = """<!doctype html><title>t</title><meta name="viewport" content="width=device-width">
<style>body { margin: 0; background: white } @media (prefers-color-scheme: dark) { body { background: black } }</style>
<div id="wide" style="width: 500px; color: black">x</div><script src="beside.js"></script>
<img src="https://example.invalid/tracker.png"><img src="../outside.png">"""


@needs_chromium
def test_what_a_page_asks_for_complains_of_and_looks_like(tmp_path: Path) -> None:
    folder = tmp_path / "page"
    folder.mkdir()
    (tmp_path / "outside.png").write_bytes(b"")
    (folder / "index.html").write_text(PAGE)
    (folder / "beside.js").write_text("document.title = 'beside'; undefinedFunction()")
    with opened(folder / "index.html", width=390, dark=True) as browser:
        assert browser.page.title() == "beside"
        assert browser.seconds_until("#wide") < 20
        assert browser.widest() == 110
        assert browser.least_contrast() == 1, "black on black"
        assert browser.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(0, 0, 0)"
        browser.page.wait_for_load_state("load")
        assert sorted(browser.outside) == [f"file://{tmp_path}/outside.png", "https://example.invalid/tracker.png"]
        assert any("undefinedFunction is not defined" in error for error in browser.errors)
    with opened(f"{(folder / 'index.html').as_uri()}#row", java_script_enabled=False) as browser:
        assert browser.page.title() == "t"
        assert browser.page.url.endswith("#row")
        assert browser.widest() == 0
        assert browser.least_contrast() == 21
