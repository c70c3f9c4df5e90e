"""The runs that a profile is made of: finished ones are read, models are asked first."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avar_eval.errors import UsageError
from avar_eval.figures.style import SERIES
from avar_eval.ranks import launched
from avar_eval.results.schema import RESULTS_NAME, read_results

if TYPE_CHECKING:
    from avar_eval.diagnosis.profile import MeasuredRun


def check_models(models: Sequence[str], tasks: Sequence[str] | None) -> None:
    """Raise UsageError or ResultsError for what can be known to be wrong before anything heavy is loaded."""
    if len(models) > len(SERIES):
        raise UsageError(f"{len(models)} models: a picture shows at most {len(SERIES)}, more cannot be told apart")
    if len(set(models)) < len(models):
        raise UsageError("the same MODEL twice")
    from avar_eval.models.checkpoint import ADAPTER_CONFIG
    from avar_eval.run.asking import Asking
    from avar_eval.run.model import resolve

    for model in models:
        if is_run(model):
            continue
        resolved = resolve(Asking(model=model))
        folder = resolved.source.folder
        if folder and not any((folder / name).exists() for name in ("config.json", ADAPTER_CONFIG)):
            read_results(Path(model))  # names what is wrong with a folder that is neither run nor model
        if resolved.backend == "api":
            raise UsageError(f"{model} answers through an API, which shows no attention")
        if tasks is None:
            raise UsageError(f"{model} is no folder of a finished run; to ask it as a model, give --tasks")


def is_run(model: str) -> bool:
    """Whether this is the folder of a finished run."""
    return (Path(model) / RESULTS_NAME).is_file()


def load_runs(
    models: Sequence[str], tasks: Sequence[str] | None, output: Path, asked: Mapping[str, Any], command: str
) -> "list[MeasuredRun]":
    """The runs in the order of `models`; models are asked in OUTPUT/MODEL. Raises AvarError with a message.

    asked: how, as `Asking.of` takes it. command: for their protocols. Of several processes that were launched together
    all but the first have only asked, and get none.
    """
    from avar_eval.diagnosis.profile import MeasuredRun

    folders = [
        Path(model) if is_run(model) else _ask({**asked, "model": model}, tasks or (), output, command)
        for model in models
    ]
    return [MeasuredRun(folder, tasks) for folder in folders] if launched().first else []


def _ask(asked: Mapping[str, Any], tasks: Sequence[str], output: Path, command: str) -> Path:
    from avar_eval.run.asking import Asking
    from avar_eval.run.evaluate import RunConfig, evaluate
    from avar_eval.run.folder import run_folder
    from avar_eval.run.model import resolve

    model = resolve(Asking.of(**asked))
    folder = run_folder(model, output, name=asked["model"].strip("./").replace("/", "--").lower())
    evaluate(RunConfig(model, tasks, folder, command=command))
    return folder
