"""Pictures of the pages in docs/answers.md and docs/leaderboard.md, from folders that the commands there wrote.

python docs/figures/screens.py VIEW_FOLDER PAGE_FOLDER
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURES = Path(__file__).parents[1] / "pictures"


def main(view: Path, page: Path) -> None:
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        shown = browser.new_page(viewport={"width": 1280, "height": 800})
        shown.goto((view / "index.html").absolute().as_uri())
        shown.get_by_role("button", name="wrong", exact=False).first.click()
        shown.keyboard.press("j")
        shown.wait_for_timeout(500)
        shown.screenshot(path=PICTURES / "viewer.png")
        shown.set_viewport_size({"width": 1180, "height": 560})
        shown.goto((page / "index.html").absolute().as_uri())
        shown.wait_for_timeout(500)
        shown.screenshot(path=PICTURES / "leaderboard.png")
        browser.close()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
