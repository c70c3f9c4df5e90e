"""Checkpoints that can be told to be complete, and resuming from them.

A checkpoint is marked when all of it is on the disk (`avar_eval.watch.complete`), and only then older ones may go.

`save_pretrained` writes the weights of Qwen2-VL, Qwen2.5-VL and others under their published names. transformers 5.23
reads a checkpoint back by the model's own names: it finds none, warns, and goes on with the weights it started from.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate.utils import is_peft_model
from transformers import Trainer

from avar_eval.errors import AvarError, UsageError
from avar_eval.watch.complete import expired, mark_complete, unmark


class CheckpointDamagedError(AvarError):
    """A checkpoint that cannot be resumed from.

    What to do: Delete that checkpoint: training resumes from the one before it.
    """


class ResumableTrainer(Trainer):  # type: ignore[misc] # transformers is untyped here
    """A Trainer that marks its checkpoints when they are complete and reads them as any model folder is read.

    Its model card is `write_card`'s, if there is one, and TRL's otherwise. Of save_total_limit's checkpoints it keeps,
    beyond the newest, the best one and those that wait for their score.
    """

    write_card: Callable[[], None] | None = None
    """Writes README.md of the output folder."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """README.md of the output folder, by the main process."""
        if self.write_card is None:
            super().create_model_card(*args, **kwargs)
        elif self.is_world_process_zero():
            self.write_card()

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, after making sure that checkpoints will hold weights that can be loaded. Raises UsageError."""
        plugin = self.accelerator.state.fsdp_plugin if self.is_fsdp_enabled else None
        if plugin is not None and "FULL_STATE_DICT" not in str(plugin.state_dict_type):
            raise UsageError(
                "FSDP would save shards that only this training can load, and no checkpoint could be scored: set "
                "fsdp_state_dict_type to FULL_STATE_DICT"
            )
        deepspeed = self.accelerator.state.deepspeed_plugin if self.is_deepspeed_enabled else None
        if deepspeed is not None and deepspeed.zero_stage == 3 and not _gathers_weights(deepspeed):
            raise UsageError(
                "ZeRO-3 would save shards that only this training can load, and no checkpoint could be scored: set "
                "zero3_save_16bit_model (stage3_gather_16bit_weights_on_model_save) to true"
            )
        return super().train(*args, **kwargs)

    def _run_epoch(self, **kwargs: Any) -> None:
        """transformers' epoch; 5.24 would make one step more where a training resumes after the last of max_steps."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(**kwargs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        output_dir = Path(self._get_output_dir(trial=trial))
        folder = output_dir / f"checkpoint-{self.state.global_step}"
        limit = self.args.save_total_limit
        if self.args.should_save:
            unmark(folder)
        self.args.save_total_limit = None  # transformers would delete the last complete one before this one is
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            mark_complete(folder, self.state.global_step)
            for old in expired(output_dir, limit) if limit else ():
                unmark(old)
                shutil.rmtree(old)

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


def _gathers_weights(plugin: Any) -> bool:
    zero: dict[str, Any] = plugin.deepspeed_config.get("zero_optimization", {})
    return bool(zero.get("stage3_gather_16bit_weights_on_model_save"))
