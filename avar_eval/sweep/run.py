"""One sweep: the unsteered model first, then every steering of the grid, with one loaded model and one record book.

Each response is in the book as soon as it is there, so a sweep that was killed goes on where it was, and a grid that
grows asks for its new points only.
"""

from collections.abc import Sequence

from avar_eval.attention.steer import check_steering
from avar_eval.attention.steering import Steering
from avar_eval.errors import UsageError
from avar_eval.models.transformers_backend import TransformersBackend
from avar_eval.records.record import Record
from avar_eval.results.schema import TaskResult
from avar_eval.run.evaluate import RunConfig, ask, check_config, load_tasks, open_session
from avar_eval.sweep.compare import Sweep, compare
from avar_eval.tasks.catalog import find_avar_tasks


def sweep(config: RunConfig, grid: Sequence[Steering]) -> Sweep:
    """Run a sweep, or what is left of it, and write sweep.json. The steering of `config` is not used.

    Raises AvarError with a message for the user; the record book holds every response so far.
    """
    model, entries = config.model, check_config(config)
    find_avar_tasks(config.tasks)
    if model.backend != "transformers":
        raise UsageError(
            f"{model.asking.model} cannot be swept: it does not run with --backend transformers, the only one in "
            "which steering changes between questions"
        )
    with open_session(model, config.output) as session:
        assert isinstance(session.backend, TransformersBackend)
        _check_grid(session.backend, grid)
        tasks = load_tasks(entries, model)
        session.steer(None)
        unsteered = ask(session, tasks, config)
        points: list[tuple[Steering, str, TaskResult, Sequence[Record]]] = []
        for steering in grid:
            session.steer(steering)
            steered = ask(session, tasks, config)
            points += [
                (steering, name, steered.results.tasks[name], steered.records[name]) for name in unsteered.records
            ]
    clusters = {task.entry.name: task.benchmark.cluster for task in tasks}
    strata = {task.entry.name: task.benchmark.stratum for task in tasks}
    comparisons = compare(points, unsteered.records, clusters, model.decoding.seed, strata)
    results = unsteered.results
    found = Sweep(unsteered=results.tasks, comparisons=comparisons, protocol=results.protocol)
    if session.ranks.first:
        found.write(config.output)
    return found


def _check_grid(backend: TransformersBackend, grid: Sequence[Steering]) -> None:
    """Raise SteerError for layers or heads that the model lacks, before anything is asked."""
    for steering in grid:
        if steering.layers is not None or steering.heads is not None:
            check_steering(backend.model.config.get_text_config(), steering)
