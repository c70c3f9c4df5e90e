"""What a shell completes: names of models, tasks and protocols. Light until a name is asked for."""

from collections.abc import Callable, Iterable
from typing import Any, Final


def _models() -> Iterable[str]:
    from avar_eval.models.registry import registry

    return registry()


def _tasks() -> Iterable[str]:
    from avar_eval.tasks.catalog import catalog
    from avar_eval.tasks.groups import groups

    return [*catalog(), *groups()]


def _protocols() -> Iterable[str]:
    from avar_eval.protocols.protocol import protocols

    return protocols()


def complete_models(incomplete: str) -> list[str]:
    """Registered models that begin so."""
    return [name for name in _models() if name.startswith(incomplete)]


def complete_tasks(incomplete: str) -> list[str]:
    """Tasks and groups, behind what already stands before the last comma."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _tasks() if name.startswith(last)]


def complete_protocols(incomplete: str) -> list[str]:
    """Named protocols that begin so."""
    return [name for name in _protocols() if name.startswith(incomplete)]


COMPLETED: Final[dict[str, Callable[[str], Any]]] = {"model": complete_models, "protocol": complete_protocols}
"""By the names of the fields that have these names."""
