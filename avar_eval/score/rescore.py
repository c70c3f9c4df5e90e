"""A finished run's responses, judged again by the rules of today: `avar-eval score RUN_DIR`."""

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from avar_eval.answers import Judgement
from avar_eval.atomic import write_atomically
from avar_eval.attention.summary import AttentionSummary
from avar_eval.errors import AvarError
from avar_eval.folder_lock import FolderInUseError, FolderLock
from avar_eval.in_words import in_words
from avar_eval.judge.model import JUDGE_CACHE_NAME, JudgeModel
from avar_eval.leaderboard.store import publish
from avar_eval.leaderboard.verify import JustJudged, verified_tasks
from avar_eval.outcomes import JudgeOutcome, Outcome
from avar_eval.records.book import RECORDS_NAME, RecordBookError
from avar_eval.results.causal import BLIND, PASSES, SWAPPED
from avar_eval.results.grading import Answered, grade_all
from avar_eval.results.metrics import Benchmark
from avar_eval.results.schema import (
    ATTENTION_METRICS,
    Metric,
    Results,
    TaskResult,
    read_results,
    read_task_records,
    run_id,
)
from avar_eval.results.stored import StoredResponse, read_stored, record_lines, run_responses
from avar_eval.results.summary import attention_means, group_results, has_band, task_result, vas_queries
from avar_eval.tasks.catalog import find_tasks
from avar_eval.tasks.files import DataError, rows_by_id
from avar_eval.terminal import note


def score_run(folder: Path, data_dir: Path | None, judge: JudgeModel | None = None) -> Results:
    """Judge a run's responses again, without generating; rewrite their judgements, and results.json with its numbers.

    Attention stays as it was measured. Without `judge` the verdicts of the run's own judge model, if it had one, stay.
    The run is added to the leaderboard. Raises ResultsError for a folder without a finished run, RecordBookError for
    one that is in use or whose records are damaged or incomplete, DataError for rows that cannot be had.
    """
    results = read_results(folder)
    entries = find_tasks(results.tasks)
    with _locked(folder) as lock:
        stored = run_responses(folder, results.tasks, read_stored(folder / RECORDS_NAME))
        asked = read_task_records(folder, results.tasks)
        judgements: dict[str, Judgement] = {}
        outcomes: dict[str, JudgeOutcome] = {}
        tasks = {}
        judged: dict[str, tuple[Benchmark, list[Outcome]]] = {}
        changed: dict[str, str] = {}
        benchmarks: dict[str, Benchmark] = {}
        for entry in entries:
            if entry.form == "lmms-eval":
                tasks[entry.name] = results.tasks[entry.name]
                note(f"{entry.name} is judged by lmms-eval: its numbers stay, the evaluation run again makes them anew")
                continue
            benchmark = benchmarks[entry.name] = Benchmark(entry, rows_by_id(entry, data_dir))
            responses = stored[entry.name]
            new = _graded(benchmark, responses)
            if judge is None:
                outcomes |= _stored_judge_outcomes(responses, results.protocol.get("judge"))
            else:
                found, not_taken = _ask_judge_model(benchmark, responses, new, judge, folder / JUDGE_CACHE_NAME, lock)
                outcomes |= found
                changed |= not_taken
            judgements |= new
            of_task = [one.outcome(new[one.key], outcomes.get(one.key)) for one in responses]
            judged[entry.name] = benchmark, of_task
            before = results.tasks[entry.name]
            kept = _still_true(
                before, {of.grader for of in new.values()}, results.protocol.get("grader", {}).get(entry.name, ())
            )
            tasks[entry.name] = task_result(
                benchmark,
                of_task,
                _attention(benchmark, responses, asked[entry.name].measured, results),
                before.left_out,
                band=has_band(results.protocol),
            )
            tasks[entry.name].metrics.update(kept)
            tasks[entry.name].knockout_windows = before.knockout_windows
            if kept and before.causal:
                same = {} if "visual_gain" in kept else {"visual_gain_p": None}
                tasks[entry.name].causal = before.causal.model_copy(update=same)
        model = judge.model if judge else (results.protocol.get("judge") or {}).get("model")
        _rewrite_records(folder / RECORDS_NAME, judgements, outcomes, model)
        protocol = results.protocol | {
            "judge": judge.identity(changed) if judge else results.protocol.get("judge"),
            "grader": {
                name: sorted({judgements[one.key].grader for one in stored[name] if one.key in judgements}) or before
                for name, before in results.protocol.get("grader", {}).items()
            },
        }
        rescored = results.model_copy(
            update={
                "run_id": run_id(protocol),
                "tasks": tasks,
                "groups": group_results(tasks, judged),
                "protocol": protocol,
            }
        )
        path = rescored.write(folder)
    try:
        verified = verified_tasks(folder, rescored, data_dir, JustJudged(benchmarks, judgements))
    except AvarError as error:  # such as attention that the records do not have
        note(f"warning: the run is not in the leaderboard: {error}")
    else:
        publish(path, verified)
    return rescored


def _attention(
    benchmark: Benchmark, responses: Sequence[StoredResponse], in_run: Sequence[bool] | None, results: Results
) -> dict[str, Metric]:
    """What the records say of attention; in a run of before that told which of it is its own, maybe what it said."""
    told = {name: of for name, of in results.tasks[benchmark.entry.name].metrics.items() if name in ATTENTION_METRICS}
    known = [
        one for one, own in zip(responses, in_run or [True] * len(responses), strict=True) if own and one.attention
    ]
    found = attention_means(
        [_summary(one) for one in known],
        [benchmark.cluster(one.row_id) for one in known],
        vas_queries(results.protocol),
    )
    return found if all(found[name].n == of.n for name, of in told.items()) else told


def _summary(response: StoredResponse) -> AttentionSummary:
    """Raises RecordBookError."""
    try:
        return AttentionSummary.model_validate(response.attention)
    except ValidationError as error:
        raise RecordBookError(
            f"the attention of row {response.row_id} of {response.task} cannot be read ({in_words(error)}): delete the "
            "line of that record, then run the evaluation again"
        ) from error


def _still_true(before: TaskResult, graders: Set[str], recorded: Sequence[str]) -> dict[str, Metric]:
    """The causal columns that stay: all where the rules do, else those that no rule has judged."""
    found = {name: before.metrics[name] for name in (*PASSES, *BLIND, *SWAPPED) if name in before.metrics}
    if graders <= set(recorded):
        return found
    if judged := found.keys() - set(PASSES):
        note(
            f"{', '.join(sorted(judged))} were judged by older rules and are left out: run the evaluation again with "
            "--causal full, it asks nothing twice"
        )
    return {name: found[name] for name in PASSES if name in found}


def _graded(benchmark: Benchmark, responses: Sequence[StoredResponse]) -> dict[str, Judgement]:
    """The judgement of each response, by key."""
    unknown = {one.row_id for one in responses} - benchmark.rows.keys()
    if unknown:
        raise DataError(
            f"the run answers {len(unknown)} rows of {benchmark.entry.name} that its data lacks, such as "
            f"{min(unknown)!r}: give --data-dir the folder that the run was made with"
        )
    answered = [Answered(benchmark.rows[one.row_id], one.response, one.finish_reason) for one in responses]
    judgements = grade_all(benchmark.entry.name, answered)
    return {one.key: judgement for one, judgement in zip(responses, judgements, strict=True)}


def _stored_judge_outcomes(
    responses: Sequence[StoredResponse], judge: Mapping[str, Any] | None
) -> dict[str, JudgeOutcome]:
    """The outcomes of the run's own judge model as they stand in the records."""
    if judge is None:
        return {}
    return {
        one.key: JudgeOutcome(one.judge["state"], one.judge["extracted"], one.judge["correct"])
        for one in responses
        if one.judge and one.judge["model"] == judge["model"]
    }


def _ask_judge_model(
    benchmark: Benchmark,
    responses: Sequence[StoredResponse],
    judgements: Mapping[str, Judgement],
    judge: JudgeModel,
    replies: Path,
    lock: FolderLock,
) -> tuple[dict[str, JudgeOutcome], dict[str, str]]:
    """Outcomes by key, and what `judge_questions` tells."""
    from avar_eval.judge.verdict import Question, judge_questions

    questions = [
        Question.of(one.task, benchmark.rows[one.row_id], one.response, judgements[one.key].state) for one in responses
    ]
    outcomes, changed = judge_questions(questions, judge, replies, lock)
    return dict(zip((one.key for one in responses), outcomes, strict=True)), changed


def _rewrite_records(
    path: Path, judgements: Mapping[str, Judgement], outcomes: Mapping[str, JudgeOutcome], model: str | None
) -> None:
    """Put the judgements into the record book; the file is left alone if none is new, as are lines that keep theirs."""
    changed = False

    def lines() -> Iterator[str]:
        nonlocal changed
        for _, line in record_lines(path):
            record = json.loads(line)
            new = _judgement_fields(record, judgements, outcomes, model)
            if all(record.get(name) == value for name, value in new.items()):
                yield line.decode()
            else:
                changed = True
                yield json.dumps(record | new, ensure_ascii=False, separators=(",", ":")) + "\n"

    for _ in lines():
        if changed:
            write_atomically(path, lines())
            return


def _judgement_fields(
    record: Mapping[str, Any],
    judgements: Mapping[str, Judgement],
    outcomes: Mapping[str, JudgeOutcome],
    model: str | None,
) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if judgement := judgements.get(record["key"]):
        fields["judgement"] = judgement.to_json()
    if outcome := outcomes.get(record["key"]):
        fields["judge"] = {
            "model": model,
            "state": outcome.state,
            "extracted": outcome.extracted,
            "correct": outcome.correct,
        }
    return fields


@contextmanager
def _locked(folder: Path) -> Iterator[FolderLock]:
    """Hold the folder as a run does, so that none writes to it meanwhile."""
    try:
        lock = FolderLock(folder)
    except FolderInUseError:
        raise RecordBookError(f"a run is writing to {folder}: wait for it to end") from None
    except OSError as error:
        raise RecordBookError(f"cannot write to {folder}: {error.strerror or error}; copy the run elsewhere") from error
    with lock:
        yield lock
