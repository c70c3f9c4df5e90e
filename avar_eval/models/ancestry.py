"""Which models a model was trained from."""

from pathlib import Path

from avar_eval.models.registry import find_model
from avar_eval.models.training_run import read_training_run


def model_ancestry(name: str) -> tuple[str | None, list[str]]:
    """The repository on the hub that a model descends from, if its trainings say so, and the names on the way to it."""
    chain = [name]
    while (path := Path(chain[-1])).is_dir():
        run = read_training_run(path) or read_training_run(path.parent)
        if run is None or run.base in chain:
            return None, chain
        chain.append(run.base)
    entry = find_model(chain[-1])
    repository = chain[-1] if entry is None else entry.repository
    return (repository if repository and "/" in repository else None), chain
