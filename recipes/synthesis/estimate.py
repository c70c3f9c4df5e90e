"""What a run is going to ask, and what that costs, before anything is asked: `--dry-run`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from avar_eval.folder_lock import FolderLock
from avar_eval.pictures import open_picture
from avar_eval.recipes.synthesis.engine import Request
from avar_eval.recipes.synthesis.recipe import STAGES, Recipe, StageName
from avar_eval.recipes.synthesis.rows import ALL_STAGES, Rows, Stage, Waiting
from avar_eval.recipes.synthesis.selection import Question, questions, select

_LETTERS_OF_A_TOKEN: Final = 4.0
_PIXELS_OF_A_TOKEN: Final = 28 * 28
_TOKENS_A_SECOND: Final = 40.0
"""Of one response, until replies have been timed."""


@dataclass
class StageEstimate:
    """One stage's requests that are still to be sent. counted: replies that the token counts are taken from.

    requests: exact if no row is rejected on its way there, else the most there can be. dollars: None without a price.
    """

    requests: int
    prompt_tokens: int
    completion_tokens: int
    dollars: float | None
    hours: float
    counted: int


def estimate(
    recipe: Recipe, folder: Path, *, stage: Stage = "finish", limit: int | None = None
) -> tuple[int, dict[StageName, StageEstimate]]:
    """Number of questions, and the estimate of each stage up to and with `stage`; only the selection is written.

    Tokens are the mean of the replies that are there (`--limit 20` makes some), else taken from the length of texts,
    the size of pictures and the recipe's expected_tokens.
    """
    with FolderLock(folder) as lock:
        select(recipe, folder)
        with Rows(recipe, folder, lock) as rows:
            waiting: dict[StageName, list[int]] = {name: [0, 0] for name in STAGES}
            count = 0
            for question in questions(folder, limit):
                count += 1
                outcome = rows.outcome(question)
                if isinstance(outcome, Waiting):
                    _wait(rows, question, outcome, waiting)
            names = STAGES[: ALL_STAGES.index(stage) + 1]
            return count, {name: _stage(rows, name, *waiting[name]) for name in names}


def _wait(rows: Rows, question: Question, outcome: Waiting, waiting: Mapping[StageName, list[int]]) -> None:
    """Add a row's missing requests and their prompts' tokens to the stages that it has yet to go through."""
    for name in STAGES[STAGES.index(outcome.stage) :]:
        model = rows.recipe.stage(name)
        if name == outcome.stage:
            tokens = [_prompt_tokens(request) for request in outcome.requests]
        else:
            # what is rewritten is as long as what comes of it: of a solution's tokens most may be thoughts
            given = model if name == "anchor" else rows.recipe.stage("describe")
            text = rows.prompts[name, question.domain].render(**_empty(name, question))
            tokens = [round(len(text) / _LETTERS_OF_A_TOKEN) + given.expected_tokens] * model.samples
        waiting[name][0] += len(tokens)
        waiting[name][1] += sum(tokens)


def _empty(name: StageName, question: Question) -> dict[str, str]:
    return {"question": question.text, "description": ""} if name == "reason" else {"objects": "", "reasoning": ""}


def _prompt_tokens(request: Request) -> int:
    pixels = 0
    for path in request.pictures:
        with open_picture(path) as picture:
            pixels += picture.width * picture.height
    return round(len(request.text) / _LETTERS_OF_A_TOKEN + pixels / _PIXELS_OF_A_TOKEN)


def _stage(rows: Rows, name: StageName, requests: int, prompt_tokens: int) -> StageEstimate:
    model, replies = rows.recipe.stage(name), list[tuple[int, int, float]]()
    for reply in rows.askers[name].journal:
        if reply.prompt_tokens is not None and reply.completion_tokens is not None:
            replies.append((reply.prompt_tokens, reply.completion_tokens, reply.seconds))
    completion_tokens = requests * min(model.expected_tokens, model.max_tokens)
    seconds = completion_tokens / _TOKENS_A_SECOND
    if replies:
        prompts, completions, waited = (sum(column) / len(replies) for column in zip(*replies, strict=True))
        prompt_tokens, completion_tokens = round(requests * prompts), round(requests * completions)
        seconds = requests * waited
    dollars = None
    if model.price is not None:
        dollars = (prompt_tokens * model.price[0] + completion_tokens * model.price[1]) / 1e6
    at_a_time = min(model.concurrency, max(1, requests))
    return StageEstimate(requests, prompt_tokens, completion_tokens, dollars, seconds / at_a_time / 3600, len(replies))


def table(count: int, found: Mapping[StageName, StageEstimate]) -> Any:
    """A rich table of an estimate."""
    from avar_eval.tables import Column, FittedTable

    counted = any(stage.counted for stage in found.values())
    how = (
        "Tokens and hours as replies so far had them."
        if counted
        else (
            "No reply is there yet: tokens are guessed from texts and expected_tokens, hours from 40 tokens a second. "
            "--limit 20 without --dry-run makes replies to count."
        )
    )
    made = FittedTable(
        [
            Column("stage", text=True, key=True),
            *map(Column, ("requests", "prompt tokens", "response tokens", "dollars", "hours")),
        ],
        note=f"{count:,} questions. Requests: at most, all of them if no row is rejected on the way. {how}",
    )
    for name, stage in found.items():
        made.add_row(name, *_cells(stage))
    known = [stage.dollars for stage in found.values() if stage.dollars is not None]
    total = StageEstimate(
        sum(stage.requests for stage in found.values()),
        sum(stage.prompt_tokens for stage in found.values()),
        sum(stage.completion_tokens for stage in found.values()),
        math.fsum(known) if len(known) == len(found) else None,
        math.fsum(stage.hours for stage in found.values()),
        0,
    )
    made.add_row("all", *_cells(total))
    return made


def _cells(stage: StageEstimate) -> tuple[str, ...]:
    dollars = "–" if stage.dollars is None else f"{stage.dollars:,.2f}"
    return (
        f"{stage.requests:,}",
        f"{stage.prompt_tokens:,}",
        f"{stage.completion_tokens:,}",
        dollars,
        f"{stage.hours:,.2f}",
    )
