"""The finished set: rows.jsonl in TRL's conversational form, sharegpt.jsonl, and a card with each source's licence."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from avar_eval.atomic import write_atomically
from avar_eval.pictures import read_rgb
from avar_eval.recipes.paper_sources import PAPER_SOURCES
from avar_eval.recipes.synthesis.recipe import STAGES
from avar_eval.recipes.synthesis.rows import Finished, Rejected, Rows
from avar_eval.recipes.synthesis.selection import Question, Selection
from avar_eval.recipes.synthesis.survey import Survey
from avar_eval.terminal import inert
from avar_eval.user_files import open_file, parse_json

ROWS_NAME: Final = "rows.jsonl"
"""`--train_data DIR` of a fine-tuning recipe reads it."""
SHAREGPT_NAME: Final = "sharegpt.jsonl"
CARD_NAME: Final = "README.md"
_EMBEDDED_LICENCE: Final = "Apache-2.0 (made by this package)"
_UNKNOWN_LICENCE: Final = "not known here: see where the source was published"


def write_rows(rows: Rows, selection: Selection, asked: Iterator[Question]) -> Survey:
    """Write what is finished, one row at a time, and survey all that is asked. Rows keep the questions' order."""
    survey = Survey(rows.recipe, selection)
    count = _token_counter(rows)

    def lines() -> Iterator[str]:
        for question in asked:
            outcome = rows.outcome(question)
            if isinstance(outcome, Finished):
                row = _row(rows, outcome)
                if count is not None and count(row) > rows.recipe.filters.tokens:
                    outcome = Rejected("finish", "too_many_tokens", outcome.response)
                else:
                    yield inert(json.dumps(row, ensure_ascii=False)) + "\n"
            survey.add(question, outcome)

    write_atomically(rows.folder / ROWS_NAME, lines())
    write_atomically(rows.folder / SHAREGPT_NAME, _sharegpt(rows.folder / ROWS_NAME))
    write_atomically(rows.folder / CARD_NAME, [line + "\n" for line in _card(rows, survey)])
    survey.spent(rows)
    return survey


def _row(rows: Rows, finished: Finished) -> dict[str, Any]:
    question = finished.question
    said = {"role": "assistant", "content": [{"type": "text", "text": finished.response}]}
    return {
        "messages": [*question.prompt, said],
        "images": list(question.images),
        "answer": question.answer,
        "answer_type": question.answer_type,
        "choices": list(question.choices),
        "precision": question.precision,
        "source": question.source,
        "id": question.id,
        "domain": question.domain,
        "difficulty": finished.solution.difficulty,
        "models": {stage: rows.recipe.stage(stage).model for stage in STAGES},
        "prompts": {stage: rows.prompts[stage, question.domain].digest for stage in STAGES},
        "dollars": round(finished.dollars, 8),
    }


def _token_counter(rows: Rows) -> Callable[[Mapping[str, Any]], int] | None:
    """Tokens of a row, images included, as the target's own processor makes them."""
    if rows.recipe.target is None:
        return None
    from transformers import AutoProcessor

    from avar_eval.models.checkpoint import resolve_checkpoint
    from avar_eval.recipes.data import token_count

    processor = AutoProcessor.from_pretrained(resolve_checkpoint(rows.recipe.target).path)

    def tokens(row: Mapping[str, Any]) -> int:
        images = [read_rgb(rows.folder / name) for name in row["images"]]
        return token_count({"prompt": row["messages"], "images": images}, processor)[0]

    return tokens


def _sharegpt(path: Path) -> Iterator[str]:
    """The same rows as LLaMA-Factory reads them."""
    speakers = {"user": "human", "assistant": "gpt", "system": "system"}
    with open_file(path) as file:
        for line in file:
            row = parse_json(line)
            turns = [
                {
                    "from": speakers[turn["role"]],
                    "value": "".join(
                        "<image>" if part["type"] == "image" else part["text"] for part in turn["content"]
                    ),
                }
                for turn in row["messages"]
            ]
            yield inert(json.dumps({"conversations": turns, "images": row["images"]}, ensure_ascii=False)) + "\n"


def _card(rows: Rows, survey: Survey) -> Iterator[str]:
    """A dataset card, as the hub reads it."""
    yield "---\nlicense: other\ntask_categories:\n- image-text-to-text\nconfigs:\n- config_name: default"
    yield f"  data_files: {ROWS_NAME}\n---\n"
    yield "# Visual-anchored reflection data (VARD)\n"
    yield f"{sum(survey.kept.values()):,} rows, synthesised after arXiv 2603.03825 in three stages:\n"
    for stage in STAGES:
        model = rows.recipe.stage(stage)
        digests = ", ".join(sorted({rows.prompts[stage, domain].digest for domain in ("math", "science")}))
        yield f"- {stage}: {model.model}, temperature {model.temperature:g}, prompts {digests}"
    samples = rows.recipe.stage("reason").samples
    yield f"\nOf {samples} solutions of a question one that the grader finds right is kept, drawn by the SHA-256 of the"
    yield f"seed ({rows.recipe.seed}) and the row's id."
    yield "\nA row: `messages` and `images` (TRL), `answer`, `source`, `id`, `domain`, `difficulty` (share of right"
    yield "samples), `models`, `prompts`, `dollars`. The models' own terms hold for what they wrote.\n"
    yield "| source | rows | licence |"
    yield "|---|---|---|"
    for entry in rows.recipe.sources:
        yield f"| {entry.source.partition('=')[0]} | {survey.kept[entry.source]:,} | {source_licence(entry.source)} |"


def source_licence(source: str) -> str:
    """The licence that a source was published under, as far as its card says."""
    name = source.partition("=")[0]
    if name in ("shapes", "shapes_prior"):
        return _EMBEDDED_LICENCE
    paper = PAPER_SOURCES.get(name)
    return (paper.licence if paper is not None else None) or _UNKNOWN_LICENCE
