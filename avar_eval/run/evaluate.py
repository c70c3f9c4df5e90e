"""One evaluation: tasks x model -> responses -> judgements -> attention -> results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from avar_eval.command_line import own_command
from avar_eval.errors import UsageError
from avar_eval.extras import check_extras
from avar_eval.judge.model import JUDGE_CACHE_NAME, JudgeModel
from avar_eval.leaderboard.store import publish
from avar_eval.models.assembled import SMOL_EXTRA, assembled_folder
from avar_eval.models.backend_options import ApiOptions, VllmOptions
from avar_eval.outcomes import JudgeOutcome
from avar_eval.ranks import init_ranks
from avar_eval.results.schema import Results, TaskRecords, note_other_run, run_id, write_task_records
from avar_eval.results.summary import group_results
from avar_eval.results.unfinished import remove_resume, write_resume
from avar_eval.run.model import ResolvedModel
from avar_eval.tasks.catalog import TaskEntry, find_tasks
from avar_eval.terminal import note

if TYPE_CHECKING:
    from avar_eval.models.decoding import Decoding
    from avar_eval.records.record import Record
    from avar_eval.run.loaded_task import LoadedTask
    from avar_eval.run.responses import Responses
    from avar_eval.run.session import Session


@dataclass(frozen=True)
class TrainingStep:
    """A checkpoint's place: its run's name, when that run was first started (ISO 8601; None: unknown), its step.

    Step 0 is the base model.
    """

    run: str
    started: str | None
    step: int


@dataclass(frozen=True)
class RunConfig:
    """What to evaluate: a model, with how it is asked, and what a run adds.

    judge: a model that judges beside the rules. training: which run and step the model comes from, if it is a
    checkpoint of one that is watched. command: how the run was started, for the protocol. resume: what goes on with it,
    where it is not the command line of this process.
    """

    model: ResolvedModel
    tasks: Sequence[str]
    output: Path
    judge: JudgeModel | None = None
    training: TrainingStep | None = None
    command: str = ""
    resume: str | None = None


def evaluate(config: RunConfig) -> Results:
    """Run an evaluation, or what is left of it, write results.json and add the run to the leaderboard.

    Started as one of several processes, each answers its share, and the first one writes.

    Raises AvarError with a message for the user; the record book holds every response so far.
    """
    entries = check_config(config)
    with open_session(config.model, config.output) as session:
        if session.ranks.first:
            write_resume(config.output, config.resume or own_command())
        tasks = load_tasks(entries, config.model)
        limit = config.model.asking.limit
        # Now, and not at the end: what changes while they are asked is to be seen as changed.
        made_from = {task.entry.name: task.sha256(limit) for task in tasks if session.ranks.first}
        found = ask(session, tasks, config)
    if session.ranks.first:
        note_other_run(config.output, found.results)
        asked = {name: of.model_copy(update={"task_sha256": made_from[name]}) for name, of in found.asked.items()}
        write_task_records(config.output, asked)
        path = found.results.write(config.output)
        remove_resume(config.output)
        publish(path, list(found.results.tasks))
    return found.results


def check_config(config: RunConfig) -> list[TaskEntry]:
    """The tasks of a run. Raises UsageError for unknown ones, MissingPackagesError, and as `check_tasks` does."""
    tasks = find_tasks(config.tasks)
    check_extras(_needed_extras(config.model, tasks))
    check_tasks(config.model, tasks, config.judge)
    options = config.model.options
    if isinstance(options, ApiOptions) and config.model.asking.causal == "full":
        rest = "; the others need the weights (--api-weights)" if options.weights is None else ""
        note(f"note: an endpoint is asked without the images: blind, visual_gain and mirage{rest}")
    if config.model.protocol is not None and config.judge is None:
        named = config.model.protocol.protocol
        if judged := [task.name for task in tasks if named.published_verdict(task) == "judge"]:
            note(f"note: scores of {named.name} on {', '.join(judged)} are a judge model's: give --judge to have them")
    return tasks


def _needed_extras(model: ResolvedModel, tasks: Sequence[TaskEntry]) -> dict[str, str]:
    """The extras of avar-eval that a run needs, and what needs each: all that is known before a model is loaded."""
    needed = {task.extra: task.name for task in tasks if task.extra is not None}
    if model.asking.cluster is not None:
        needed["ray"] = "--cluster"
    if isinstance(model.options, VllmOptions):
        needed["vllm"] = "--backend vllm"
    source = model.weights
    if source is not None and source.entry is not None and source.entry.assembled:
        if not assembled_folder(source.entry.name).is_dir():
            needed[SMOL_EXTRA] = source.entry.name
    elif source is not None and source.is_adapter:
        needed["peft"] = f"the adapter {source.name}"
    return needed


def check_tasks(model: ResolvedModel, tasks: Sequence[TaskEntry], judge: JudgeModel | None) -> None:
    """Raise UsageError for tasks that a judge cannot judge, and for those of which a named protocol says nothing."""
    if judge is not None and (others := [task.name for task in tasks if task.form == "lmms-eval"]):
        raise UsageError(f"--judge is for tasks in avar-eval's form, and {others[0]} is in lmms-eval's: ask it without")
    if model.protocol is not None:
        for task in tasks:
            model.protocol.protocol.published_verdict(task)


def open_session(model: ResolvedModel, output: Path) -> "Session":
    """A run's session; each of several processes on a machine with GPUs takes one of them."""
    from avar_eval.run.session import Session

    ranks = init_ranks()
    if ranks.count > 1 and model.backend != "transformers":
        raise UsageError(f"--backend {model.backend} spreads its work by itself: start one process, without a launcher")
    if ranks.count > 1 and model.asking.device is None:
        import torch

        device = f"cuda:{ranks.local_rank}" if torch.cuda.is_available() else "cpu"
        model = replace(model, asking=replace(model.asking, device=device))
    return Session(model, output, ranks)


def load_tasks(entries: Sequence[TaskEntry], model: ResolvedModel) -> "list[LoadedTask]":
    """The tasks of a run with their rows, as this model is asked them. Raises DataError, TaskFolderError."""
    from avar_eval.run.loaded_task import LoadedTask

    return [LoadedTask.of(entry, model) for entry in entries]


@dataclass(frozen=True)
class Evaluation:
    """What a run found. records, asked: by task, what the results are of."""

    results: Results
    records: "Mapping[str, list[Record]]"
    asked: Mapping[str, TaskRecords]


def ask(session: "Session", tasks: "Sequence[LoadedTask]", config: RunConfig) -> Evaluation:
    """All questions of the tasks to a model, as it is steered now."""
    from avar_eval.attention.sampling import AttentionSampling
    from avar_eval.records.record import protocol_id
    from avar_eval.run.measuring import causal_sampling
    from avar_eval.run.protocol import protocol, protocol_before
    from avar_eval.run.requests import build_questions

    asking, decoding = session.model.asking, session.model.decoding
    sampling = AttentionSampling(asking.attention_samples if session.observer else 0, decoding.seed)
    causal = causal_sampling(session)
    named = {task.entry.name: task for task in tasks}
    rows = {name: task.task.dataset for name, task in named.items()}
    targets = {name: task.target for name, task in named.items()}
    entries = [task.entry for task in tasks]
    before = protocol_before(session, entries)
    by_decoding: "dict[Decoding, list[LoadedTask]]" = {}
    for task in tasks:
        by_decoding.setdefault(session.model.task_decoding(task.entry), []).append(task)
    responses: dict[str, Responses] = {}
    chosen: set[tuple[str, str]] = set()
    for how_drawn, group in by_decoding.items():
        requests = [request for task in group for request in task.requests(asking.limit, how_drawn.samples)]
        questions = build_questions(requests, rows, sampling, targets, causal)
        chosen |= {(question.task, question.row_id) for question in questions if question.causal}
        answered = session.ask(questions, how_drawn, before)
        responses |= {task.entry.name: answered for task in group}
    records = {name: responses[name].of_task(name) for name in named}
    judged, judge_changed = _ask_judge(session, tasks, records, config)
    how = protocol(session, entries, records, config, sampling, judge_changed)
    results = {}
    for name, task in named.items():
        found = task.result(
            records[name],
            responses[name].refused.get(name, {}),
            judged,
            asking.vas_queries,
            session.steering is not None,
        )
        of_causal = [one for one in records[name] if one.sample == 0 and (name, one.row_id) in chosen]
        results[name] = task.with_causal(found, of_causal, session.causal_columns(), asking.knockout_windows)
    asked = {name: task.task_records(records[name]) for name, task in named.items()}
    whole = Results(
        run_id=run_id(how),
        protocol_id=protocol_id(before),
        tasks=results,
        groups=group_results(
            results,
            {name: (task.benchmark, task.outcomes(records[name], judged)) for name, task in named.items()},
        ),
        protocol=how,
        notes=session.book.notes(protocol_id(before)),
    )
    return Evaluation(whole, records, asked)


def _ask_judge(
    session: "Session", tasks: "Sequence[LoadedTask]", records: "Mapping[str, list[Record]]", config: RunConfig
) -> tuple[dict[str, JudgeOutcome], dict[str, str]]:
    """The judge model's outcomes by record key, if one is configured; they are written into the record book, too.

    With them what `judge_questions` tells.
    """
    if config.judge is None or not session.ranks.first:
        return {}, {}
    from avar_eval.judge.verdict import Question, judge_questions

    rows = {task.entry.name: task.benchmark.rows for task in tasks}
    judged = [record for of_task in records.values() for record in of_task if record.judgement]
    questions = [
        Question.of(record.task, rows[record.task][record.row_id], record.response, judgement.state)
        for record in judged
        if (judgement := record.judgement)
    ]
    outcomes, changed = judge_questions(questions, config.judge, config.output / JUDGE_CACHE_NAME, session.book.lock)
    by_key = {record.key: outcome for record, outcome in zip(judged, outcomes, strict=True)}
    session.book.add_judged(by_key, config.judge.model)
    return by_key, changed
