"""The runs that a profile is made of: finished ones are read, models are asked first."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from avar_eval.errors import UsageError
from avar_eval.look.style import SERIES
from avar_eval.ranks import launched
from avar_eval.results.schema import RESULTS_NAME, read_results

if TYPE_CHECKING:
    from avar_eval.diagnosis.profile import MeasuredRun


@dataclass(frozen=True)
class RunOptions:
    """How models are asked that have no finished run; the fields are those of `RunConfig` and its options."""

    limit: int
    batch_size: int | None
    max_new_tokens: int | None
    data_dir: Path | None
    device: str | None
    dtype: str | None
    attn_implementation: str | None
    command: str


def check_models(models: Sequence[str], tasks: Sequence[str] | None) -> None:
    """Raise UsageError or ResultsError for what can be known to be wrong before anything heavy is loaded."""
    if len(models) > len(SERIES):
        raise UsageError(f"{len(models)} models: a picture shows at most {len(SERIES)}, more cannot be told apart")
    if len(set(models)) < len(models):
        raise UsageError("the same MODEL twice")
    from avar_eval.models.checkpoint import find_source
    from avar_eval.models.registry import choose_backend, find_model

    for model in models:
        if find_model(model) is None and Path(model).is_dir() and not (Path(model) / "config.json").exists():
            read_results(Path(model))  # names what is wrong with a folder that is neither run nor model
        if is_run(model):
            continue
        find_source(model)
        if choose_backend(find_model(model), None) == "api":
            raise UsageError(f"{model} answers through an API, which shows no attention")
        if tasks is None:
            raise UsageError(f"{model} is no folder of a finished run; to ask it as a model, give --tasks")


def is_run(model: str) -> bool:
    """Whether this is the folder of a finished run."""
    return (Path(model) / RESULTS_NAME).is_file()


def runs_of(
    models: Sequence[str], tasks: Sequence[str] | None, output: Path, options: RunOptions
) -> "list[MeasuredRun]":
    """The runs in the order of `models`; models are asked in OUTPUT/MODEL. Raises AvarError with a message.

    Of several processes that were launched together all but the first have only asked, and get none.
    """
    from avar_eval.diagnosis.profile import MeasuredRun

    folders = [Path(model) if is_run(model) else _ask(model, tasks or (), output, options) for model in models]
    return [MeasuredRun(folder, tasks) for folder in folders] if launched().first else []


def _ask(model: str, tasks: Sequence[str], output: Path, options: RunOptions) -> Path:
    from avar_eval.run.evaluate import RunConfig, evaluate, kernel_options

    folder = output / model.strip("./").replace("/", "--").lower()
    evaluate(
        RunConfig(
            model=model,
            tasks=tasks,
            output=folder,
            limit=options.limit,
            batch_size=options.batch_size,
            max_new_tokens=options.max_new_tokens,
            data_dir=options.data_dir,
            device=options.device,
            dtype=options.dtype,
            attention_samples=None,
            backend_options=kernel_options(options.attn_implementation),
            command=options.command,
        )
    )
    return folder
