"""Finished runs that nobody ran: their attention is drawn at random around wanted scores, written by the true code."""

from pathlib import Path
from typing import Any

import torch

from avar_eval.attention.record import AttentionRecord
from avar_eval.attention.roles import Role
from avar_eval.records.attention import attention_line
from avar_eval.records.book import RecordBook
from avar_eval.records.record import JudgementRecord, Record
from avar_eval.results.metrics import Benchmark
from avar_eval.results.schema import Results, TaskRecords, run_id, write_task_records
from avar_eval.results.summary import attention_means, left_out_rows, task_result
from avar_eval.tasks.catalog import catalog

SYSTEM, IMAGE, USER = 11, 64, 20


def attention(vas: float, layers: int, tokens: int, seed: int, heads: int = 4) -> AttentionRecord:
    """Masses whose scores lie around `vas`: low in the first layers, high in the middle, falling along the answer."""
    generator = torch.Generator().manual_seed(seed)
    roles = [Role.SYSTEM] * SYSTEM + [Role.TEMPLATE] + [Role.IMAGE] * IMAGE + [Role.USER] * USER
    roles += [Role.TEMPLATE] * 3 + [Role.RESPONSE] * tokens
    codes = torch.tensor(roles)
    queries = torch.nonzero((codes == Role.USER) | (codes == Role.RESPONSE))[:, 0]
    depth = torch.linspace(0, torch.pi, layers)[:, None, None].sin() * 1.2 + 0.24
    fall = torch.ones(len(queries))
    fall[USER:] = torch.linspace(1.1, 0.5, tokens)
    noise = torch.randn(layers, heads, len(queries), generator=generator).mul(0.25).exp()
    ratio = vas * depth * fall * noise
    system = torch.full_like(ratio, 0.04)
    image = (system * ratio).clamp(max=0.85)
    rest = 1 - system - image
    is_response = codes[queries] == Role.RESPONSE
    mass = {
        "image": image,
        "system": system,
        "sink": system * 0.7,
        "user": rest * torch.where(is_response, 0.3, 0.9),
        "response": rest * torch.where(is_response, 0.6, 0.0),
        "template": rest * 0.1,
    }
    return AttentionRecord(mass, system * 0.3, codes, queries, tuple(range(layers)))


def write_run(
    folder: Path,
    model: str,
    vas: float,
    rows: int = 12,
    layers: int = 28,
    tokens: int = 40,
    accuracy: float = 0.5,
    measured: bool = True,
    **protocol: Any,
) -> Path:
    """A finished run of `shapes` in a folder."""
    folder.mkdir(parents=True)
    right = [row < accuracy * rows for row in range(rows)]
    drawn = [attention(vas * (0.7 + 0.05 * (row % 12)), layers, tokens + row, row) for row in range(rows)]
    records = [
        Record(
            key=f"{row:064x}",
            task="shapes",
            row_id=str(row),
            sample=0,
            prompt="How many?",
            prompt_token_ids=[1],
            response_token_ids=[2],
            response="<answer>1</answer>",
            finish_reason="stop",
            judgement=JudgementRecord(state="scored", extracted="1", correct=right[row], grader="test"),
            attention=drawn[row].summary() if measured else None,
        )
        for row in range(rows)
    ]
    (folder / "records.jsonl").write_text("".join(record.model_dump_json() + "\n" for record in records))
    if measured:
        lines = [attention_line(record.key, looked) for record, looked in zip(records, drawn, strict=True)]
        with RecordBook(folder) as book:
            book.attention.append(lines)
    benchmark = Benchmark(catalog()["shapes"], {record.row_id: {} for record in records})
    result = task_result(
        benchmark,
        [record.outcome() for record in records],
        attention_means([record.attention for record in records if record.attention]),
        left_out_rows({}),
    )
    card = {
        "model": model,
        "revision": None,
        "system_prompt": None,
        "steering": None,
        "prompt_sha256": {},
        "limit": None,
        "trained_on": [],
        "backend": {"backend": "transformers"},
    }
    card |= {"vas": vas, "accuracy": accuracy} | protocol  # which make runs of a model different ones
    Results(run_id=run_id(card), tasks={"shapes": result}, protocol=card).write(folder)
    asked = TaskRecords(keys=[record.key for record in records], clusters=[record.row_id for record in records])
    write_task_records(folder, {"shapes": asked})
    return folder
