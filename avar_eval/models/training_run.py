"""What AVAR's trainers say about a training, in its output folder. Light: knows no torch."""

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from avar_eval.atomic import write_atomically
from avar_eval.user_files import read_bytes

TRAINING_RUN_NAME: Final = "training_run.json"


class TrainingRun(BaseModel):
    """What AVAR's trainers say about a run, in its output folder.

    run: its name. base: the model it started from. started: when it was first started, ISO 8601. finished: no further
    checkpoint will come.
    """

    run: str
    base: str
    started: str
    finished: bool

    def write(self, output_dir: Path) -> None:
        """Write it, atomically."""
        output_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(output_dir / TRAINING_RUN_NAME, [self.model_dump_json(indent=2) + "\n"])


def read_training_run(output_dir: Path) -> TrainingRun | None:
    """What AVAR's trainers say about the run in this folder; None if they have not written there."""
    try:
        return TrainingRun.model_validate_json(read_bytes(output_dir / TRAINING_RUN_NAME))
    except (FileNotFoundError, ValidationError):
        return None
