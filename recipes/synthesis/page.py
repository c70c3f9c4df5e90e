"""Finished rows side by side with their pictures, on one page that needs nothing else: `--inspect N`."""

import base64
import hashlib
import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment

from avar_eval.atomic import write_atomically
from avar_eval.errors import AvarError
from avar_eval.folder_lock import FolderLock
from avar_eval.recipes.synthesis.looking import MARK
from avar_eval.recipes.synthesis.recipe import Recipe
from avar_eval.recipes.synthesis.rows import Finished, Rows
from avar_eval.recipes.synthesis.selection import questions, select
from avar_eval.user_files import read_bytes, read_text

PAGE_NAME: Final = "inspect.html"
_TEMPLATE: Final = Path(__file__).with_name("inspect.html.j2")


def write_page(recipe: Recipe, folder: Path, count: int) -> Path:
    """A seeded sample of `count` finished rows; returns the page's path. Raises AvarError if none is finished."""
    with FolderLock(folder) as lock:
        select(recipe, folder)
        with Rows(recipe, folder, lock) as rows:
            found = _Finished(rows)
            drawn = heapq.nsmallest(count, found, key=lambda one: hashlib.sha256(one.question.id.encode()).digest())
            if not drawn:
                raise AvarError(f"no row of {folder} is finished: run avar-train synthesize without --inspect first")
            content = (
                Environment(autoescape=True)
                .from_string(read_text(_TEMPLATE))
                .render(finished=found.count, rows=[_shown(folder, one) for one in drawn])
            )
    path = folder / PAGE_NAME
    write_atomically(path, [content])
    return path


class _Finished:
    """All finished rows, one at a time, and how many they were."""

    def __init__(self, rows: Rows) -> None:
        self._rows, self.count = rows, 0

    def __iter__(self) -> Iterator[Finished]:
        for question in questions(self._rows.folder):
            outcome = self._rows.outcome(question)
            if isinstance(outcome, Finished):
                self.count += 1
                yield outcome


def _shown(folder: Path, finished: Finished) -> dict[str, Any]:
    question, solution, anchored = finished.question, finished.solution, finished.anchored
    return {
        "id": question.id,
        "domain": question.domain,
        "answer": solution.answer,
        "difficulty": solution.difficulty,
        "question": question.text,
        "images": [_data_url(folder / image) for image in question.images],
        "description": finished.description.text,
        "solution": list(_pieces(solution.reasoning, (mark.span() for mark in MARK.finditer(solution.reasoning)))),
        "anchored": list(_pieces(anchored.reasoning, ((one.start, one.end) for one in anchored.looking))),
    }


def _pieces(text: str, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[str, bool]]:
    """The text in pieces, each with whether it is one of the spans."""
    position = 0
    for start, end in spans:
        yield text[position:start], False
        yield text[start:end], True
        position = end
    yield text[position:], False


def _data_url(path: Path) -> str:
    kind = "jpeg" if path.suffix == ".jpg" else path.suffix.lstrip(".")
    return f"data:image/{kind};base64,{base64.b64encode(read_bytes(path)).decode()}"
