"""One ablation: causal columns of a finished run, added to its results.json; curves beside them, in ablation.json.

Nothing that is recorded is asked again, and what is measured or asked here is kept as it comes: killed and started
again, an ablation goes on where it was.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from avar_eval.ablate.reopen import reopened
from avar_eval.atomic import write_atomically
from avar_eval.attention.sampling import AttentionSampling
from avar_eval.attention.steering import UNSTEERED
from avar_eval.causal.cutoff import SHARES, cutoff_changes
from avar_eval.cluster.jobs import answered_row
from avar_eval.errors import UsageError
from avar_eval.leaderboard.store import publish
from avar_eval.progress import Bar
from avar_eval.ranks import launched
from avar_eval.records.attention import array_lines, float16
from avar_eval.records.journal import Journal
from avar_eval.results.schema import Metric, Results, read_results, read_task_records, write_task_records
from avar_eval.run.causal import blurred_question
from avar_eval.run.evaluate import load_tasks, open_session
from avar_eval.run.loaded_task import LoadedTask
from avar_eval.run.measuring import causal_sampling
from avar_eval.run.protocol import causal_card
from avar_eval.run.questions import Question
from avar_eval.run.requests import build_questions
from avar_eval.run.session import Session
from avar_eval.statistics import clustered_proportion, mean
from avar_eval.tasks.catalog import find_tasks
from avar_eval.terminal import note

BLUR_LEVELS: Final = (0.01, 0.03, 0.1, 0.3)
"""Standard deviations of a Gaussian blur, as shares of a picture's shorter side."""
ABLATION_NAME: Final = "ablation.json"
CUTOFF_NAME: Final = "cutoff.jsonl"


@dataclass
class Curves:
    """Of each task, by name. blur: accuracy at 0 (as recorded) and at each level, on the same rows.

    cutoff: mean change of the final answer's log-probability (nats) where the image goes out of sight at each share of
    what the response says before it.
    """

    blur: dict[str, dict[float, Metric]] = field(default_factory=dict)
    cutoff: dict[str, dict[float, Metric]] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text of ablation.json: curve -> task -> [{"at", "value", "ci95", "n"}]."""
        found = {
            name: {
                task: [{"at": at, **metric.model_dump(mode="json")} for at, metric in of.items()]
                for task, of in curves.items()
            }
            for name, curves in (("blur", self.blur), ("cutoff", self.cutoff))
            if curves
        }
        return json.dumps(found, indent=2) + "\n"


@dataclass(frozen=True)
class Ablation:
    """What was found. results: the run's, with causal columns."""

    results: Results
    curves: Curves


def ablate(folder: Path, blur: bool = False, cutoff: bool = False, **given: Any) -> Ablation:
    """Measure a finished run's causal columns and curves, or what is left of them; results.json gets the columns.

    given: fields of `Asking`: `causal` and what it takes, and what is to be in the place of the run's, such as `model`
    for where the model lies now, `device` or `data_dir`. Raises UsageError where the model or the data are not those
    of the run, ResultsError for a folder without a finished run, and what measuring and answering raise.
    """
    if launched().count > 1:
        raise UsageError("avar-eval ablate is one process: start it without a launcher")
    results = read_results(folder)
    model = reopened(results, given)
    curves = Curves()
    with open_session(model, folder) as session:
        if cutoff and session.observer is None:
            raise UsageError("--cutoff needs the model's weights, which an endpoint has: give --api-weights")
        tasks = load_tasks(find_tasks(list(results.tasks)), model)
        found, records = dict(results.tasks), read_task_records(folder, results.tasks)
        for task in tasks:
            name, decoding = task.entry.name, model.task_decoding(task.entry)
            questions = _questions(session, task)
            answered = session.ask(questions, decoding, recorded_only=True).of_task(name)
            windows = model.asking.knockout_windows
            found[name] = task.with_causal(found[name], answered, session.causal_columns(), windows)
            of_causal = {of.key for of in answered if of.causal is not None}
            records[name] = records[name].model_copy(update={"causal": [of in of_causal for of in records[name].keys]})
            clusters = {question.row_id: task.benchmark.cluster(question.row_id) for question in questions}
            shown = [question for question in questions if _has_image(answered, question)]
            if blur:
                right = {of.row_id: bool(of.judgement and of.judgement.correct) for of in answered}
                curves.blur[name] = _blur_curve(session, task, shown, right, clusters)
            if cutoff:
                curves.cutoff[name] = _cutoff_curve(session, task, shown, clusters, folder)
        card = causal_card(session)
    columns = results.model_copy(update={"tasks": found, "protocol": results.protocol | {"causal": card}})
    write_task_records(folder, records)
    publish(columns.write(folder))
    if blur or cutoff:
        write_atomically(folder / ABLATION_NAME, [curves.to_json()])
    return Ablation(columns, curves)


def _questions(session: Session, task: LoadedTask) -> list[Question]:
    """Those of the run's questions whose causal columns are measured."""
    name, decoding = task.entry.name, session.model.task_decoding(task.entry)
    requests = task.requests(session.model.asking.limit, decoding.samples)
    unmeasured, causal = AttentionSampling(0), causal_sampling(session)
    questions = build_questions(requests, {name: task.task.dataset}, unmeasured, {name: task.target}, causal)
    return [question for question in questions if question.causal]


def _has_image(answered: Sequence[Any], question: Question) -> bool:
    return any(of.row_id == question.row_id and of.image_sha256 for of in answered)


def _blur_curve(
    session: Session,
    task: LoadedTask,
    questions: Sequence[Question],
    right: Mapping[str, bool],
    clusters: Mapping[str, str],
) -> dict[float, Metric]:
    decoding = session.model.task_decoding(task.entry)
    asked = [blurred_question(question, level) for level in BLUR_LEVELS for question in questions]
    answers = iter(session.ask_altered(asked, decoding))
    curve = {0.0: {question.row_id: right[question.row_id] for question in questions}}
    for level in BLUR_LEVELS:
        known = [(question.row_id, next(answers)) for question in questions]
        curve[level] = {row: bool(of.judgement and of.judgement.correct) for row, of in known if of is not None}
    return {
        level: Metric.of(clustered_proportion(list(of.values()), [clusters[row] for row in of]))
        for level, of in curve.items()
    }


def _cutoff_curve(
    session: Session,
    task: LoadedTask,
    questions: Sequence[Question],
    clusters: Mapping[str, str],
    folder: Path,
) -> dict[float, Metric]:
    observer, decoding = session.observer, session.model.task_decoding(task.entry)
    assert observer is not None
    if (observer.steering or UNSTEERED).mode == "abs":
        raise UsageError("--cutoff: a model steered in mode abs cannot be knocked out")
    batches = session.recorded_batches(questions, decoding)
    curves: dict[str, np.ndarray] = {}
    with (
        Journal(folder / CUTOFF_NAME, array_lines("cut-off"), lock=session.book.lock) as journal,
        Bar(f"cut-offs of {task.entry.name}", sum(map(len, batches))) as bar,
    ):
        for batch in batches:
            rows = {record.key: answered_row(observer, asked, record) for asked, record in batch}
            rows = {key: row for key, row in rows.items() if row.answer is not None and row.answer.first}
            if not rows.keys() <= {key for key in rows if key in journal}:
                changes = cutoff_changes(observer, list(rows.values()))
                journal.append([{"key": key, "change": float16(of)} for key, of in zip(rows, changes, strict=True)])
            for _, record in batch:
                if record.key in rows and (line := journal.get(record.key)) is not None:
                    curves[record.row_id] = line["change"].astype(np.float64)
            bar.advance(len(batch))
    if len(curves) < len(questions):
        note(
            f"{task.entry.name}: {len(questions) - len(curves)} of {len(questions)} responses say no answer after words"
        )
    return {
        share: Metric.of(mean([float(of[number]) for of in curves.values()], [clusters[row] for row in curves]))
        for number, share in enumerate(SHARES)
    }
