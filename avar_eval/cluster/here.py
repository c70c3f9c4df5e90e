"""Jobs computed in this process, one after the other."""

from collections.abc import Iterator, Sequence
from typing import TypeVar, cast

from avar_eval.cluster.jobs import ModelJob, Plan
from avar_eval.models.transformers_backend import TransformersBackend

T = TypeVar("T")


class Here:
    """backend: the session's own model, loaded when the first job needs it."""

    def __init__(self, backend: TransformersBackend) -> None:
        self._backend = backend

    def run(self, plans: Sequence[Plan[T]]) -> Iterator[list[T]]:
        """What comes of each plan, in their order."""
        for plan in plans:
            steps = plan.steps()
            try:
                job = next(steps)
                while True:
                    job = steps.send(cast(ModelJob, job).compute(self._backend))
            except StopIteration as end:
                yield [end.value]

    def close(self) -> None:
        """Nothing is held."""
