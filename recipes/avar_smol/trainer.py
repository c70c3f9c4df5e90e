"""The project's SFT trainer with a clock: what it does depends on how much of its minutes is over."""

import json
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from avar_eval.models.avar_smol import sight_of
from avar_eval.recipes.avar_smol.first_steps import Probe
from avar_eval.recipes.avar_smol.lessons import IGNORED, Batches
from avar_eval.recipes.sft import AvarSFTConfig, AvarSFTTrainer

TRAINED: Final = "trained.safetensors"
CLOCK: Final = "clock.json"
WARMUP_STEPS: Final = 50
FINAL_RATE: Final = 0.02


@dataclass
class Clock:
    """seconds: what all of it may take. kept: of these, for the evaluation at the end. spent: by earlier parts of a
    training that was killed."""

    seconds: float
    kept: float = 0.0
    spent: float = 0.0
    started: float = field(default_factory=lambda: time.monotonic())

    @property
    def elapsed(self) -> float:
        return self.spent + time.monotonic() - self.started

    @property
    def share(self) -> float:
        """How much of the training's time is over, 0 to 1."""
        return min(1.0, self.elapsed / (self.seconds - self.kept))

    @property
    def over(self) -> bool:
        """Whether no time is left at all."""
        return self.elapsed >= self.seconds


@dataclass(frozen=True)
class Schedule:
    """Learning rates over time. first_steps: of the tower alone. lora_from: the share of the time from which the
    decoder's LoRA learns, too."""

    first_steps: int
    rate: float
    lora_rate: float
    lora_from: float

    def tower(self, step: int, share: float) -> float:
        """Linear warm-up at the beginning, and to half the rate where the language model begins to listen; a cosine
        over time."""
        listens = step >= self.first_steps
        peak, since = (self.rate / 2, step - self.first_steps) if listens else (self.rate, step)
        return peak * min(1.0, (since + 1) / WARMUP_STEPS) * _cosine(share)

    def lora(self, steps: int, share: float) -> float:
        """steps: since LoRA began."""
        return self.lora_rate * min(1.0, (steps + 1) / WARMUP_STEPS) * _cosine(share)


def _cosine(share: float) -> float:
    return FINAL_RATE + (1 - FINAL_RATE) * (1 + math.cos(math.pi * share)) / 2


class SmolTrainer(AvarSFTTrainer):
    """AvarSFTTrainer on batches that workers make, with pictures as bytes; batches of scenes go to the probe alone.

    A checkpoint holds what is trained, not the decoder under it.
    """

    optimizer: Any
    lr_scheduler: Any

    def __init__(
        self,
        model: Any,
        args: AvarSFTConfig,
        *,
        batches: Batches,
        probe: Probe,
        clock: Clock,
        schedule: Schedule,
        processor: Any,
        workers: int,
    ) -> None:
        self._batches, self.clock, self.schedule, self._workers = batches, clock, schedule, workers
        # TRL looks at a first row; the rows themselves come from `batches`
        rows = Dataset.from_list([{"input_ids": [0], "labels": [0]}])
        super().__init__(model, args, train_dataset=rows, processing_class=processor, data_collator=_as_it_is)
        self.write_card = _no_card
        self.probe = probe.to(self.accelerator.device)
        image = processor.image_processor
        of_image = {"dtype": torch.float32, "device": self.accelerator.device}
        self._mean = 255 * torch.tensor(image.image_mean, **of_image).view(3, 1, 1)
        self._deviation = 255 * torch.tensor(image.image_std, **of_image).view(3, 1, 1)
        self._lora_began: int | None = None

    def get_train_dataloader(self) -> Any:
        """Batches as they are, from workers that stay ahead."""
        return DataLoader(
            self._batches,
            batch_size=None,
            num_workers=self._workers,
            prefetch_factor=4 if self._workers else None,
            pin_memory=torch.cuda.is_available(),
        )

    def create_optimizer(self, model: Any = None) -> Any:
        """AdamW over two groups: tower, projector and probe; the decoder's LoRA."""
        if self.optimizer is None:
            lora: list[Tensor] = []
            others: list[Tensor] = list(self.probe.parameters())
            for name, parameter in self.model.named_parameters():
                if parameter.requires_grad:
                    (lora if ".lora_" in name else others).append(parameter)
            self.optimizer = torch.optim.AdamW(
                [{"params": others}, {"params": lora}],
                lr=self.schedule.rate,
                betas=(0.9, 0.98),
                weight_decay=0.01,
                fused=torch.cuda.is_available(),
            )
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Rates by the clock, not by a number of steps that nobody knows before."""
        optimizer = self.optimizer if optimizer is None else optimizer
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, [self._relative(self._tower_rate), self._relative(self._lora_rate)]
        )
        return self.lr_scheduler

    def _relative(self, rate: Callable[[], float]) -> Callable[[int], float]:
        return lambda _: rate() / self.schedule.rate

    def _tower_rate(self) -> float:
        return self.schedule.tower(self.state.global_step, self.clock.share)

    def _lora_rate(self) -> float:
        step, share = self.state.global_step, self.clock.share
        if step < self.schedule.first_steps or share < self.schedule.lora_from:
            return 0.0
        if self._lora_began is None:
            self._lora_began = step
        return self.schedule.lora(step - self._lora_began, share)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The probe's loss of a batch of scenes, else what TRL's would be: a scalar.

        The vocabulary's logits of pictures and questions, three quarters of all tokens, are not made; on a CPU that
        saves a third of a step. With `return_outputs` None stands beside it.
        """
        values = self.normalised(inputs["pixels"])
        with self.lower_precision():
            if "told" in inputs:
                loss = self.probe(self.seen(values), inputs["told"].flatten(0, 1))
            else:
                tokens, mask = inputs["input_ids"], inputs["attention_mask"]
                hidden = self.model.model(pixel_values=values, input_ids=tokens, attention_mask=mask).last_hidden_state
                following = inputs["labels"][:, 1:]
                learnt = following != IGNORED
                logits = self.model.lm_head(hidden[:, :-1][learnt]).float()
                loss = torch.nn.functional.cross_entropy(logits, following[learnt])
        return (loss, None) if return_outputs else loss

    def normalised(self, pixels: Tensor) -> Tensor:
        """Bytes as the image processor rescales and normalises them."""
        return (pixels.float() - self._mean) / self._deviation

    def seen(self, values: Tensor) -> Tensor:
        """Image tokens of pictures, (pictures * tokens, hidden)."""
        output = self.model.model.get_image_features(pixel_values=values, return_dict=True).pooler_output
        features = torch.cat(list(output)) if isinstance(output, list | tuple) else output
        return features.flatten(0, -2)

    def lower_precision(self) -> AbstractContextManager[Any]:
        """bfloat16 where the training uses it."""
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.args.bf16)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        from safetensors.torch import save_file

        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        trained = sight_of(self.model) | {f"probe.{name}": value for name, value in self.probe.state_dict().items()}
        save_file({name: value.detach().cpu().contiguous() for name, value in trained.items()}, folder / TRAINED)
        clock = {"spent": self.clock.elapsed, "lora_began": self._lora_began}
        (folder / CLOCK).write_text(json.dumps(clock) + "\n")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        from safetensors.torch import load_file

        folder = Path(resume_from_checkpoint)
        trained = load_file(folder / TRAINED)
        probe = {name.removeprefix("probe."): value for name, value in trained.items() if name.startswith("probe.")}
        self.probe.load_state_dict(probe)
        rest = {name: value for name, value in trained.items() if not name.startswith("probe.")}
        missing, unknown = self.model.load_state_dict(rest, strict=False)
        if unknown or any(name in sight_of(self.model) for name in missing):
            raise ValueError(f"{folder / TRAINED} is of another model: train into another folder")
        clock = json.loads((folder / CLOCK).read_text())
        self._lora_began = clock["lora_began"]


def _as_it_is(batch: Any) -> Any:
    return batch


def _no_card() -> None:
    """A checkpoint of what is trained is no model, and has no card."""


class ByTheClock(TrainerCallback):  # type: ignore[misc] # transformers is untyped here
    """Saves every `save_seconds`, calls `look` with the step every `look_seconds`, and ends the training in time."""

    def __init__(self, clock: Clock, *, save_seconds: float, look_seconds: float, look: Callable[[int], None]) -> None:
        self._clock, self._look = clock, look
        self._save_seconds, self._look_seconds = save_seconds, look_seconds
        self._next_save, self._next_look = clock.elapsed + save_seconds, clock.elapsed + look_seconds

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Decide what is due."""
        if self._clock.share >= 1:
            control.should_training_stop = control.should_save = True
            return
        if self._clock.elapsed >= self._next_save:
            control.should_save = True
            self._next_save = self._clock.elapsed + self._save_seconds
        if self._clock.elapsed >= self._next_look:
            self._look(state.global_step)
            self._next_look = self._clock.elapsed + self._look_seconds
