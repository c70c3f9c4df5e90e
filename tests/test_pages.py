"""docs/ as a site: built strictly, opened as files in Chromium without a network, searched, wide and narrow."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from browser import needs_chromium, opened

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(find_spec("mkdocs") is None, reason='needs mkdocs: pip install -e ".[docs]"')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_llms_txt_lists_every_page(site: Path) -> None:
    listed = re.findall(r"\]\((.*)\)", (site / "llms.txt").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(path.name for path in site.glob("*.html") if path.name != "404.html")


@needs_chromium
def test_search_finds_a_page_that_is_opened_as_a_file(site: Path) -> None:
    with opened(site / "index.html") as browser:
        browser.page.get_by_placeholder("Search").fill("CheckpointError")
        found = browser.page.locator(".md-search-result__link[href*='errors.html']").first
        found.wait_for()
        assert browser.outside == browser.errors == []


@needs_chromium
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_no_page_is_wider_than_its_window_or_fetches_anything(site: Path, width: int, dark: bool) -> None:
    with opened(site / "index.html", width=width, dark=dark) as browser:
        for page in sorted({*site.glob("*.html")} - {site / "404.html"}):  # whose links are those of a server
            browser.page.goto(page.as_uri())
            assert browser.widest() == 0, page.name
        assert browser.outside == browser.errors == []
