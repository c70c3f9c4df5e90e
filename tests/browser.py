"""A page of ours in a real browser: headless Chromium, cut off from all but the page's own folder or server.

    @needs_chromium
    def test_a_page(folder: Path) -> None:
        with opened(folder / "index.html", width=390, dark=True) as browser:
            browser.page.get_by_role("row").first.wait_for()
            assert browser.outside == browser.errors == []

Playwright's synchronous interface keeps an event loop in the thread as long as it runs: close a page before code that
calls `asyncio.run`.
"""

import importlib.util
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def _chromium() -> str | None:
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


def _lacks() -> str | None:
    if importlib.util.find_spec("playwright") is None:
        return 'playwright is not installed: pip install -e ".[test]"'
    return None if _chromium() else f"there is none of {', '.join(_NAMES)} in PATH, and CHROMIUM names none"


needs_chromium = pytest.mark.skipif(_lacks() is not None, reason=f"needs Chromium: {_lacks()}")

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

_PATIENCE = 180_000
"""Milliseconds in which a busy machine starts a browser, opens a page, and shows what is waited for."""


@dataclass
class Browser:
    """A page that is open. errors: what its console and its scripts complained of. outside: requests that left."""

    page: "Page"
    started: float
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def seconds_until(self, selector: str) -> float:
        """Seconds from before the page was asked for until an element that fits is seen."""
        self.page.locator(selector).first.wait_for(state="visible")
        return time.perf_counter() - self.started

    def widest(self) -> int:
        """Pixels by which the page is wider than the window, to be scrolled sideways: 0 where all of it fits."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def least_contrast(self) -> float:
        """The least contrast of a text that is seen, with its ground, by WCAG 2's formula: 4.5 is enough to read."""
        return float(self.page.evaluate(_LEAST_CONTRAST))


_LEAST_CONTRAST = """() => {
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const ground = (element) => {
        for (let one = element; one; one = one.parentElement) {
            const colour = parse(getComputedStyle(one).backgroundColor);
            if (colour.length < 4 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    let least = 21;
    for (const one of document.querySelectorAll("body *")) {
        const hasText = [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
        if (!hasText || !one.checkVisibility() || one.disabled) continue;
        const [a, b] = [light(parse(getComputedStyle(one).color)), light(ground(one))];
        least = Math.min(least, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
    }
    return least;
}"""


@contextmanager
def opened(
    place: Path | str, *, width: int = 1280, height: int = 800, dark: bool = False, **context: Any
) -> Iterator[Browser]:
    """A page in a window of so many pixels; place: its file, or its http address, with a #fragment or not.

    What asks for something outside of the file's folder, or of another server, is refused and listed. context: further
    arguments of Playwright's `new_context`, such as `java_script_enabled`.
    """
    from playwright.sync_api import sync_playwright

    address = place if isinstance(place, str) else place.absolute().as_uri()
    parts = urlsplit(address)
    allowed = address[: address.index("/", len("file://"))]  # a server's; of a file the folder counts
    allowed = f"file://{parts.path.rpartition('/')[0]}/" if parts.scheme == "file" else allowed + "/"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=_chromium(), args=_ARGUMENTS, timeout=_PATIENCE)
        try:
            made = chromium.new_context(
                viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", **context
            )
            made.set_default_timeout(_PATIENCE)
            browser = Browser(made.new_page(), 0.0)

            def decide(route: "Route") -> None:
                if route.request.url.startswith((allowed, "data:", "blob:")):
                    route.continue_()
                else:
                    browser.outside.append(route.request.url)
                    route.abort()

            made.route("**/*", decide)
            browser.page.on(
                "console", lambda said: browser.errors.append(said.text) if said.type in ("error", "warning") else None
            )
            browser.page.on("pageerror", lambda error: browser.errors.append(str(error)))
            browser.started = time.perf_counter()
            browser.page.goto(address)
            yield browser
        finally:
            chromium.close()
