"""Rows for pages: those of an invented run, with fields replaced, and many of them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from invented_results import invented_results

from avar_eval.leaderboard.page.build import PAGE_NAME, page_html
from avar_eval.leaderboard.page.contents import page_contents
from avar_eval.leaderboard.paper import paper
from avar_eval.leaderboard.row import ListedRun, Row, run_rows

TASKS = ("mathvista", "mathvision", "mathverse_vo", "mmmu", "mmstar")


def page_row(**fields: Any) -> Row:
    """The row of `shapes` of an invented run; `fields` replace its own."""
    run = ListedRun.model_validate(invented_results())
    return replace(next(run_rows(run, "2026-11-27T05:00:00+00:00")), **fields)


def many_rows(count: int) -> list[Row]:
    """Rows of models that are asked alike, a run each five benchmarks, with intervals."""
    return [row for row, _ in zip(_models(), range(count), strict=False)]


def _models() -> Iterator[Row]:
    first, number = page_row(), 0
    while True:
        for place, task in enumerate(TASKS):
            score = (7 * number + 13 * place) % 100 / 100
            ends = {"score_low": score - 0.02, "score_high": score + 0.02, "vas_low": 9.5, "vas_high": 20.0}
            known = {"score": score, "vas": 10 + 9 * score, "accuracy": score, "official": None}
            yield replace(first, run_id=f"{number:016x}", task=task, model=f"model-{number:05}", **known, **ends)
        number += 1


def write_page(
    folder: Path,
    rows: list[Row],
    with_paper: bool = False,
    viewers: Mapping[str, tuple[str, int]] | None = None,
) -> Path:
    """A page of these rows, which stand in no store."""
    path = folder / PAGE_NAME
    path.write_text(page_html(page_contents(rows, paper() if with_paper else None, viewers or {})), encoding="utf-8")
    return path
