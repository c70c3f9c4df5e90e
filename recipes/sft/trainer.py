"""AGTO as a TRL trainer: L_total = L_LM + alpha L_enhance-img + beta L_suppress-sys (Eq. 4-6).

The attention losses of a step are the mean over its sequences, taken after the logarithms, however the step is cut:
each micro-batch on each process adds its sequences' sum, divided by the number of sequences that have the term in the
whole step. The language loss is divided by the step's number of tokens in the same way, so that batch 1 with 4
accumulation steps, batch 4, and 2 processes with batch 2 train alike. A sequence without an image has no image term.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from trl import SFTTrainer

from avar_eval.attention.objectives import SequenceLosses, sequence_losses
from avar_eval.attention.observe import observe
from avar_eval.attention.roles import TokenRoles
from avar_eval.errors import UsageError
from avar_eval.recipes.attention_terms import (
    CAPTURED,
    AttentionKeys,
    AttentionTrainingError,
    attention_keys,
    attention_metrics,
    captured,
    prepared_markup,
    query_weights,
)
from avar_eval.recipes.resume import ResumableTrainer
from avar_eval.recipes.sft.config import AvarSFTConfig
from avar_eval.recipes.sharding import gather_head, refuse_uneven_images

_ROLES = "token_roles"


class _Share(NamedTuple):
    """What part of a step one micro-batch is. image, system: sequences with that term in the step. processes: over
    how many these are counted, and gradients averaged. steps: micro-batches of the step. scaled: whether TRL's loss is
    divided by the step's tokens already; otherwise it will be divided by `steps`."""

    image: float
    system: float
    processes: int
    steps: int
    scaled: bool


class AvarSFTTrainer(ResumableTrainer, SFTTrainer):  # type: ignore[misc] # TRL is untyped here
    """TRL's SFTTrainer with the two attention losses of AGTO; with alpha = beta = 0 it is TRL's, bit by bit.

    Attention is measured in the forward pass that is trained on, in memory linear in the length of the sequence, with
    any kernel and with non-reentrant gradient checkpointing. Logged beside TRL's metrics: `loss_lm`,
    `loss_enhance_image` and `loss_suppress_system`, before their weights (`loss` is their sum after Eq. 4), `vas`
    (Eq. 2, over `attention_queries`), and shares of attention (`attention/...`, see `attention_metrics`).

    Raises, before any training, UsageError, ChatTemplateError, ObserveError or AttentionTrainingError if attention
    cannot be measured.
    """

    _total_train_tokens: int  # TRL's

    def __init__(self, model: Any, args: AvarSFTConfig, **kwargs: Any) -> None:
        self._trains_attention = bool(args.alpha or args.beta)
        if self._trains_attention and kwargs.get("compute_loss_func") is not None:
            raise UsageError("compute_loss_func makes a second pass, in which attention has no gradient: leave it out")
        super().__init__(model, args, **kwargs)
        self.model.register_forward_pre_hook(gather_head)
        if self._trains_attention if args.normalize_over_step is None else args.normalize_over_step:
            # transformers would not count tokens for most vision-language models, whose own loss cannot use the count
            self.model_accepts_loss_kwargs = True
        if self._trains_attention:
            self._markup = prepared_markup(self, args.attention_layers)
            self._check_first_row()
            self._step_keys = (0.0, 0.0)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        # in the state, as TRL's GRPO trainer has it: TRL's SFT would count `num_tokens` from 0 after a resume
        self.state.num_input_tokens_seen = self._total_train_tokens
        super()._save_checkpoint(model, trial)

    def _run_epoch(self, **kwargs: Any) -> None:
        self._total_train_tokens = max(self._total_train_tokens, self.state.num_input_tokens_seen)
        super()._run_epoch(**kwargs)

    def _check_first_row(self) -> None:
        """Roles can be told from a rendered row, and it has what beta trains on."""
        row = self.data_collator([dict(next(iter(self.train_dataset)))])
        keys = attention_keys(self._roles(row), self.args.attention_queries)
        if self.args.beta and not int(keys.system.sum()):
            raise AttentionTrainingError(
                "the first row has no system turn, so L_suppress-sys (Eq. 6) has no keys: begin every conversation "
                "with a system message, or set beta to 0"
            )

    def _roles(self, inputs: Mapping[str, Any]) -> TokenRoles:
        return self._markup.roles(inputs["input_ids"], inputs["attention_mask"])

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The micro-batches of a step with their token roles, and the number of its tokens."""
        batches, num_items_in_batch = super().get_batch_samples(epoch_iterator, num_batches, device)
        refuse_uneven_images(self, ["pixel_values" in batch for batch in batches])
        if self._trains_attention:
            counts = torch.zeros(2, device=self.accelerator.device)
            for batch in batches:
                batch[_ROLES] = self._roles(batch)
                for place, of in enumerate(attention_keys(batch[_ROLES], self.args.attention_queries)):
                    counts[place] += (of > 0).sum()
            if num_items_in_batch is not None and self.args.average_tokens_across_devices:
                counts = self.accelerator.reduce(counts, "sum")
            self._step_keys = tuple(counts.tolist())
        return batches, num_items_in_batch

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """TRL's loss, plus the weighted attention losses of this micro-batch's sequences."""
        if not self.model.training:  # those of a training step were measured at together
            refuse_uneven_images(self, ["pixel_values" in inputs])
        if not self._trains_attention:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        roles = inputs.pop(_ROLES, None)  # an evaluation batch comes without
        roles = self._roles(inputs) if roles is None else roles
        keys = attention_keys(roles, self.args.attention_queries)
        with observe(
            self.model,
            roles,
            queries=self.args.attention_queries,
            groups=CAPTURED,
            layers=self.args.attention_layers,
        ) as observation:
            result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss_lm, outputs = result if return_outputs else (result, None)
        share = self._share(keys, num_items_in_batch)
        image = system = loss_lm.new_zeros(())
        measured: dict[str, Tensor] = {}
        if any(bool(of.any()) for of in keys):
            masses = captured(observation, roles)
            keys = AttentionKeys(*(of.to(masses.image.device) for of in keys))
            measured = attention_metrics(masses, keys)
            queries = masses.queries
            if self.args.late_queries:
                queries = query_weights(roles, observation.positions, queries, self.args.late_queries)
            losses = sequence_losses(masses.image, masses.system, queries, *keys, epsilon=self.args.attention_epsilon)
            image, system = _mean_masses(losses, share)
        attention = self.args.alpha * image + self.args.beta * system
        loss = loss_lm + (attention if share.scaled else attention * share.steps)
        self._log_losses(loss_lm if share.scaled else loss_lm / share.steps, image, system, share)
        self._log_attention(measured)
        return (loss, outputs) if return_outputs else loss

    def _share(self, keys: AttentionKeys, num_items_in_batch: Any) -> _Share:
        processes = self.accelerator.num_processes
        if not self.model.training:  # each batch stands for itself
            counts = torch.stack([(of > 0).sum().float() for of in keys]).to(self.accelerator.device)
            images, systems = self.accelerator.reduce(counts, "sum").tolist()
            return _Share(images, systems, processes, 1, scaled=True)
        scaled = num_items_in_batch is not None
        together = scaled and self.args.average_tokens_across_devices
        return _Share(*self._step_keys, processes if together else 1, self.current_gradient_accumulation_steps, scaled)

    def _log_losses(self, lm: Tensor, image: Tensor, system: Tensor, share: _Share) -> None:
        """Log the step's losses: TRL logs the mean over micro-batches, and each holds a part of the step's sum."""
        parts = torch.stack([part.detach().float() for part in (lm, image, system)])
        whole = (self.accelerator.reduce(parts, "mean") * share.steps).tolist()
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value, count in zip(
            ("loss_lm", "loss_enhance_image", "loss_suppress_system"),
            whole,
            (1, share.image, share.system),
            strict=True,
        ):
            if count:
                metrics[name].append(value)

    def _log_attention(self, measured: Mapping[str, Tensor]) -> None:
        """Log means over the sequences of all processes."""
        names = ("vas", "attention/image", "attention/system", "attention/sink", "attention/text")
        sums = torch.zeros(2, len(names), device=self.accelerator.device)
        for place, name in enumerate(names):
            if name in measured:
                values = measured[name][~measured[name].isnan()]
                sums[:, place] = torch.stack([values.sum(), values.new_tensor(len(values))])
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, total, count in zip(names, *self.accelerator.reduce(sums, "sum").tolist(), strict=True):
            if count:
                metrics[name].append(total / count)


def _mean_masses(losses: SequenceLosses, share: _Share) -> tuple[Tensor, Tensor]:
    """This micro-batch's part of the step's mean Eq. 5 and Eq. 6."""
    return (
        losses.enhance_image.sum() * share.processes / max(share.image, 1.0),
        losses.suppress_system.sum() * share.processes / max(share.system, 1.0),
    )
