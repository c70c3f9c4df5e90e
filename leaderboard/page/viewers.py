"""Viewers that `avar-eval view RUN… --output DIR` wrote, and which runs they show."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from avar_eval.errors import UsageError
from avar_eval.user_files import read_text

_INDEX: Final = "index.html"
_RUNS: Final = re.compile(r'<script type="application/json" id="runs">(.*?)</script>', re.DOTALL)


class _Run(BaseModel):
    run_id: str


class _Shown(BaseModel):
    runs: list[_Run]


def viewer_links(folders: Iterable[Path], output: Path) -> Mapping[str, tuple[str, int]]:
    """By run id: the viewer's address as seen from `output`, and the run's number in it.

    folders: viewers, or folders with viewers in them. Raises UsageError for one that is neither.
    """
    links = {}
    for folder in folders:
        pages = [folder / _INDEX] if (folder / _INDEX).is_file() else sorted(folder.glob(f"*/{_INDEX}"))
        shown = {page: _runs(page) for page in pages}
        if not any(shown.values()):
            raise UsageError(f"{folder} holds no viewer: `avar-eval view RUN --output {folder}` writes one")
        for page, runs in shown.items():
            address = quote(os.path.relpath(page.resolve(), output.resolve()).replace(os.sep, "/"))
            links.update({run_id: (address, number) for number, run_id in enumerate(runs)})
    return links


def _runs(page: Path) -> list[str]:
    """The run ids of a viewer; none of another page."""
    try:
        found = _RUNS.search(read_text(page))
        return [run.run_id for run in _Shown.model_validate(json.loads(found[1])).runs] if found else []
    except (OSError, ValueError, ValidationError):
        return []
