"""Writing the page: one file that needs nothing else, from its template, its style and its script."""

import base64
import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined

from avar_eval.atomic import WriteError, write_atomically
from avar_eval.leaderboard.page.contents import page_contents
from avar_eval.leaderboard.page.readme import readme_text
from avar_eval.leaderboard.page.viewers import viewer_links
from avar_eval.leaderboard.paper import paper
from avar_eval.leaderboard.store import SkippedFile, Store
from avar_eval.user_files import read_text

PAGE_NAME: Final = "index.html"
_HERE: Final = Path(__file__).parent
_SCRIPTS: Final = (
    "elements", "contents", "filters", "address", "download", "table", "card", "charts", "curves", "correlation",
    "main",
)  # fmt: skip
"""In this order one script."""


def build_page(
    store: Store,
    output: Path,
    *,
    with_paper: bool = True,
    viewers: Iterable[Path] = (),
    readme: Path | None = None,
) -> list[SkippedFile]:
    """Write `output`/index.html, a page that opens from the disk and from any web server; returns what was unreadable.

    with_paper: with the rows that the paper prints. viewers: folders that `avar-eval view` wrote, or folders of those,
    which the rows of their runs link to. readme: where the rows are written as Markdown, too. Raises StoreError,
    WriteError, and UsageError for a folder without a viewer.
    """
    rows, skipped = store.read()
    contents = page_contents(rows, paper() if with_paper else None, viewer_links(viewers, output))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(output, error.strerror) from error
    write_atomically(output / PAGE_NAME, [page_html(contents)])
    if readme is not None:
        write_atomically(readme, [readme_text(rows, paper(), store.path, readme)])
    return skipped


def page_html(contents: Mapping[str, Any]) -> str:
    """The page's text."""
    style = read_text(_HERE / "page.css")
    parts = "\n".join(read_text(_HERE / "script" / f"{name}.js") for name in _SCRIPTS)
    script = f'"use strict";\n(() => {{\n{parts}}})();\n'
    # Autoescape would break style and script, which are ours; the data holds no < that could end its element.
    environment = Environment(autoescape=False, undefined=StrictUndefined)
    return environment.from_string(read_text(_HERE / "page.html.j2")).render(
        style=style,
        style_hash=_source_hash(style),
        script=script,
        script_hash=_source_hash(script),
        summary=contents["summary"],
        data=_json_in_html(contents),
    )


def _source_hash(text: str) -> str:
    """The hash by which a Content-Security-Policy allows an inline style or script."""
    return f"sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}"


def _json_in_html(contents: Mapping[str, Any]) -> str:
    text = json.dumps(contents, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
