"""How long the leaderboard's page takes to be written and to open in headless Chromium.

    PYTHONPATH=tests:tests/leaderboard python tests/benchmarks/page_opening.py

Each line: rows, seconds until the page is written, its size, seconds from asking for it to its first number, and the
seconds that sorting by another column and finding one model take.
"""

import tempfile
import time
from pathlib import Path

from browser import opened
from page_rows import many_rows, write_page


def main() -> None:
    for count in (1, 30, 1_000, 10_000):
        rows = many_rows(count)
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            path = write_page(Path(folder), rows, with_paper=True)
            written = time.perf_counter() - started
            with opened(path) as browser:
                opening = browser.seconds_until("#board tbody .cell")
                started = time.perf_counter()
                browser.page.locator("#board thead button").nth(2).click()
                browser.page.get_by_label("Filter by model").fill(rows[-1].model)
                browser.page.locator("#board tbody").get_by_text(rows[-1].model).first.wait_for()
                using = time.perf_counter() - started
            size = path.stat().st_size / 1e6
            first = f"{count:6,} rows: written in {written:.1f} s, {size:.1f} MB"
            print(f"{first}, opens in {opening:.2f} s, sorted and searched in {using:.2f} s")


if __name__ == "__main__":
    main()
