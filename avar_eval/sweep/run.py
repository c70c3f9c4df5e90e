"""One sweep: the unsteered model first, then every steering of the grid, with one loaded model and one record book.

Each response is in the book as soon as it is there, so a sweep that was killed goes on where it was, and a grid that
grows asks for its new points only.
"""

from collections.abc import Sequence

from avar_eval.attention.steering import Steering
from avar_eval.errors import UsageError
from avar_eval.models.transformers_backend import TransformersBackend
from avar_eval.run import RunConfig, ask, check_config, data_folder, open_model
from avar_eval.sweep.compare import Comparison, Sweep, adjusted, compare


def sweep(config: RunConfig, grid: Sequence[Steering]) -> Sweep:
    """Run a sweep, or what is left of it, and write sweep.json. config.steering is not used.

    Raises AvarError with a message for the user; the record book holds every response so far.
    """
    tasks = check_config(config)
    lm = open_model(config)
    if not isinstance(lm.backend, TransformersBackend):
        raise UsageError("a sweep changes steering between questions: only --backend transformers can do that")
    with data_folder(config.data_dir), lm.book:
        lm.backend.steering = None
        unsteered, _ = ask(lm, tasks, config)
        plain = {task.name: list(lm.asked[task.name]) for task in tasks}
        comparisons: list[Comparison] = []
        for steering in grid:
            lm.backend.steering = steering
            results, _ = ask(lm, tasks, config)
            comparisons += [
                compare(
                    steering,
                    task.name,
                    results.tasks[task.name],
                    lm.asked[task.name],
                    plain[task.name],
                    config.seed,
                )
                for task in tasks
            ]
    found = Sweep(unsteered=unsteered.tasks, comparisons=adjusted(comparisons), protocol=unsteered.protocol)
    if lm.ranks.first:
        found.write(config.output)
    return found
