"""Resuming from checkpoints whose names of weights transformers translates.

`save_pretrained` writes the weights of Qwen2-VL, Qwen2.5-VL and others under their published names. transformers 5.23
reads a checkpoint back by the model's own names: it finds none, warns, and goes on with the weights it started from.
"""

from pathlib import Path
from typing import Any

from accelerate.utils import is_peft_model
from transformers import Trainer

from avar_eval.errors import AvarError


class CheckpointDamagedError(AvarError):
    """A checkpoint that cannot be resumed from."""


class ResumableTrainer(Trainer):  # type: ignore[misc] # transformers is untyped here
    """A Trainer that reads its checkpoints as any model folder is read, and stops where weights are missing."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        model = self.model if model is None else model
        if self.is_fsdp_enabled or is_peft_model(model):  # these are saved by the model's own names
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        if not (Path(resume_from_checkpoint) / "config.json").is_file():
            raise CheckpointDamagedError(f"{resume_from_checkpoint} holds no model: delete it to resume from another")
        saved, info = type(model).from_pretrained(
            resume_from_checkpoint, dtype=model.dtype, output_loading_info=True, local_files_only=True
        )
        if info["missing_keys"]:
            raise CheckpointDamagedError(
                f"{resume_from_checkpoint} lacks {len(info['missing_keys'])} weights, such as "
                f"{sorted(info['missing_keys'])[0]}: delete it to resume from another"
            )
        model.load_state_dict(saved.state_dict())
