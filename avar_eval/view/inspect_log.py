"""Runs as logs of inspect_ai, a file a task: `inspect view --log-dir DIR` shows them, `samples_df` reads them.

Verdicts are scores C and I, measures are scores with their numbers, the rest of a record is metadata.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avar_eval.answers.visible import thought_end
from avar_eval.errors import UsageError
from avar_eval.figures.file import make_folder
from avar_eval.pictures import image_sha256
from avar_eval.progress import Bar
from avar_eval.view.picture_files import encoded
from avar_eval.view.records import Record, RunRecords
from avar_eval.view.rows import details, measures
from avar_eval.view.task_rows import TaskRows, data_folder

_SCORES = {"strict": "accuracy", "official": "official", "judge": "judge"}
"""A verdict -> the metric of results.json that is its share."""


def write_inspect_logs(
    runs: Sequence[Path], output: Path, data_dir: Path | None = None, allow_outside: bool = False
) -> tuple[list[Path], list[str]]:
    """Write a log for each task of each run; returns their files, and which pictures are lacking and why.

    data_dir, allow_outside: as `build_viewer` takes them. Raises UsageError without the extra `inspect`, and as
    `build_viewer` does.
    """
    try:
        from inspect_ai.log import write_eval_log
    except ImportError as error:
        raise UsageError("--format inspect needs inspect_ai: pip install 'avar-eval[inspect]'") from error
    read = [RunRecords.of(folder) for folder in dict.fromkeys(folder.resolve() for folder in runs)]
    make_folder(output, "--output")
    files, problems = [], dict[str, None]()
    with Bar("rows", sum(run.size(task) for run in read for task in run.results.tasks)) as bar:
        for run in read:
            folder = data_dir or data_folder(str(run.results.protocol.get("command", "")))
            for task in run.results.tasks:
                rows = TaskRows.of(task, folder, allow_outside)
                problems |= {f"{task}: {rows.problem}": None} if rows.problem else {}
                name = re.sub(r"[^\w.-]+", "_", f"{run.folder.name}-{run.results.run_id[:8]}-{task}")
                files.append(output / f"{name}.eval")
                write_eval_log(_log(run, task, rows, bar), str(files[-1]))
    return files, list(problems)


def _log(run: RunRecords, task: str, rows: TaskRows, bar: Bar) -> Any:
    from inspect_ai.log import (
        EvalConfig,
        EvalDataset,
        EvalLog,
        EvalMetric,
        EvalResults,
        EvalScore,
        EvalSpec,
        EvalStats,
    )

    samples = []
    for record in run.of_task(task):
        samples.append(_sample(record, rows))
        bar.advance(1)
    protocol, metrics = run.results.protocol, run.results.tasks[task].metrics
    found = [
        EvalScore(name=verdict, scorer=verdict, metrics={metric: EvalMetric(name=metric, value=metrics[metric].value)})
        for verdict, metric in _SCORES.items()
        if metric in metrics and metrics[metric].value is not None
    ]
    return EvalLog(
        status="success",
        eval=EvalSpec(
            created="1970-01-01T00:00:00+00:00",  # nothing of a run says when it was
            task=task,
            run_id=run.results.run_id,
            dataset=EvalDataset(name=task, samples=len(samples)),
            model=f"avar/{protocol.get('model', run.folder.name)}",
            config=EvalConfig(epochs=1 + max((int(sample.epoch) - 1 for sample in samples), default=0)),
            metadata={
                "protocol": protocol,
                "intervals": {name: metric.ci95 for name, metric in metrics.items() if metric.ci95 is not None},
            },
        ),
        results=EvalResults(total_samples=len(samples), completed_samples=len(samples), scores=found),
        stats=EvalStats(),
        samples=samples,
    )


def _sample(record: Record, rows: TaskRows) -> Any:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import (
        ChatCompletionChoice,
        ChatMessageAssistant,
        ChatMessageUser,
        ContentImage,
        ContentReasoning,
        ContentText,
        ModelOutput,
        ModelUsage,
    )

    reference = record.get("reference")
    if reference is None:
        reference = rows.reference(record["row_id"])
    at_hand, asked = rows.visuals(record["row_id"]) or [], record.get("image_sha256")
    shown = [picture for picture in at_hand if asked is None or image_sha256(picture) in asked]
    pictures = [ContentImage(image=_data_url(*encoded(picture))) for picture in shown]
    end = thought_end(record["response"])
    thought = [ContentReasoning(reasoning=record["response"][:end])] if end else []
    question = ChatMessageUser(content=[*pictures, ContentText(text=record["prompt"])])
    answer = ChatMessageAssistant(content=[*thought, ContentText(text=record["response"][end:])])
    known = details(record, reference, [], None)
    read, written = known["prompt_tokens"] or 0, len(record.get("response_token_ids") or ())
    stop = "max_tokens" if record["finish_reason"] == "length" else "stop"
    return EvalSample(
        id=record["row_id"],
        epoch=record["sample"] + 1,
        input=[question],
        target=reference or "",
        messages=[question, answer],
        output=ModelOutput(
            model=record.get("protocol_id") or "avar",
            choices=[ChatCompletionChoice(message=answer, stop_reason=stop)],
            usage=ModelUsage(input_tokens=read, output_tokens=written, total_tokens=read + written),
        ),
        scores=_scores(record),
        metadata={name: known[name] for name in ("key", "grader", "shares", "changed")},
    )


def _scores(record: Record) -> dict[str, Any]:
    from inspect_ai.scorer import CORRECT, INCORRECT, Score

    def verdict(right: bool, of: Mapping[str, Any]) -> Any:
        return Score(value=CORRECT if right else INCORRECT, answer=of.get("extracted"), explanation=of.get("state"))

    judgement, judge = record.get("judgement") or {}, record.get("judge") or {}
    found = {"strict": verdict(judgement["correct"], judgement)} if judgement else {}
    if judgement.get("official") is not None:
        found["official"] = verdict(judgement["official"], {"state": "the published rule"})
    if judge.get("correct") is not None:
        found["judge"] = verdict(judge["correct"], judge)
    return found | {name: Score(value=value) for name, value in measures(record).items()}


def _data_url(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
