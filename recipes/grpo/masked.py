"""PAPO and VPPO in a TRL trainer: the policy is asked with masked images, too (`signals.perception`, `dependence`)."""

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor
from trl import GRPOTrainer
from trl.trainer.utils import split_pixel_values_by_grid, unsplit_pixel_values_by_grid

from avar_eval.recipes.attention_terms import AttentionTrainingError
from avar_eval.recipes.grpo.signals.dependence import (
    advantage_factors,
    dependent_tokens,
    response_dependency,
    shaped_advantages,
    token_dependency,
)
from avar_eval.recipes.grpo.signals.masking import black, mask_patches, mask_pixels, response_generator
from avar_eval.recipes.grpo.signals.perception import perception_divergence, perception_loss

PICTURES: Final = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "num_tiles",
    "image_sizes",
    "image_position_ids",
    "pixel_attention_mask",
    "token_type_ids",
    "mm_token_type_ids",
)
"""What TRL's passes take of a batch beside its tokens."""


def load_pictures(batch: Mapping[str, Any]) -> dict[str, Any]:
    """What a pass needs of a batch's pictures, as they are."""
    return {name: batch[name] for name in PICTURES if name in batch}


def masked_pictures(batch: Mapping[str, Any], image_processor: Any, share: float, seed: int) -> dict[str, Any]:
    """The same with the pictures masked (see `signals.masking`), those of each prompt and response in a way of its own.

    It depends on seed, prompt and response alone: not on the batch, the process, or how often it is asked for.
    Raises AttentionTrainingError for a processor whose pictures cannot be told.
    """
    pictures = split_pixel_values_by_grid(load_pictures(batch))
    value, masked = black(image_processor), []
    for number, pixels in enumerate(pictures["pixel_values"]):
        prompt = batch["prompt_ids"][number][batch["prompt_mask"][number].bool()]
        response = batch["completion_ids"][number][batch["completion_mask"][number].bool()]
        generator = response_generator(seed, [*prompt.tolist(), *response.tolist()])
        if "image_grid_thw" in pictures:
            grid, merge = pictures["image_grid_thw"][number], image_processor.merge_size
            masked.append(mask_patches(pixels, grid, share, merge, value, generator))
        elif pixels.ndim >= 3 and pixels.shape[-3] == len(value):
            masked.append(mask_pixels(pixels, share, value, generator))
        else:
            raise AttentionTrainingError(
                f"pictures of shape {tuple(pixels.shape)}, as {type(image_processor).__name__} makes them, cannot be "
                "masked: set perception_weight, masked_entropy_weight and dependence_weight to 0"
            )
    whole = masked if isinstance(pictures["pixel_values"], list) else torch.stack(masked)
    mixed: dict[str, Any] = unsplit_pixel_values_by_grid(pictures | {"pixel_values": whole})
    return mixed


class MaskedImageTrainer(GRPOTrainer):  # type: ignore[misc] # TRL is untyped here
    """TRL's GRPOTrainer with PAPO's terms in the loss and VPPO's shaping of advantages, by an AvarGRPOConfig's weights.

    Responses are asked for once more with masked images when they have been generated, without a gradient; with
    masked_entropy_weight again in the loss, with one. Without weights it is TRL's trainer.

    Logged: `perception/kl` and `perception/masked_entropy`, means over tokens; `dependence/mean`, the mean dependency
    of responses that show an image, and `dependence/largest_factor`, of an advantage.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._passed: tuple[Tensor, Tensor] | None = None  # what the pass that is trained on returned
        if self.args.masks_images and not self._is_vlm:
            raise AttentionTrainingError("there is no image to mask without a processor of a vision-language model")

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        batch = super()._generate_and_score_completions(inputs)
        if self.args.masks_images and self.model.training:
            self._ask_with_masked_images(batch)
        return batch

    @torch.no_grad()
    def _ask_with_masked_images(self, batch: dict[str, Any]) -> None:
        """Add what the responses' tokens are worth with masked images, and shape the advantages by it (VPPO)."""
        shown = torch.tensor([bool(count) for count in batch.get("num_images") or [0] * len(batch["completion_ids"])])
        response = batch["completion_mask"].bool()
        logps = masked = torch.zeros(response.shape, device=response.device)
        if shown.any():
            masked, _ = self._logps_and_entropies(self.model, batch, self._masked(batch))
            if self.args.dependence_weight:
                known = batch.get("old_per_token_logps")
                logps = (
                    self._logps_and_entropies(self.model, batch, load_pictures(batch))[0] if known is None else known
                )
        if self.args.perception_weight:
            batch["masked_per_token_logps"] = masked
        if not self.args.dependence_weight:
            return
        shown = shown.to(response.device)
        dependency = token_dependency(logps, masked)
        of_responses = response_dependency(dependency, response).masked_fill(~(shown & response.any(-1)), float("nan"))
        of_all = self.accelerator.gather(of_responses)
        factors, seen = torch.ones_like(of_all), ~of_all.isnan()
        if seen.any():
            factors[seen] = advantage_factors(of_all[seen], self.args.least_factor)
            self._metrics["train"]["dependence/mean"].append(float(of_all[seen].mean()))
            self._metrics["train"]["dependence/largest_factor"].append(float(factors.max()))
        start = self.accelerator.process_index * len(response)
        tokens = dependent_tokens(dependency, response, self.args.dependent_share) | ~shown[:, None]
        batch["advantages"] = shaped_advantages(
            batch["advantages"], factors[start : start + len(response)], tokens, self.args.dependence_weight
        )

    def _masked(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        args = self.args
        return masked_pictures(batch, self.processing_class.image_processor, args.masked_share, args.seed)

    def _logps_and_entropies(
        self, model: Any, batch: Mapping[str, Any], pictures: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies of a batch's responses, with these pictures. Both [batch, tokens]."""
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        keep, size = batch["completion_ids"].shape[1], self.args.per_device_train_batch_size
        logps, entropies, _ = self._get_per_token_logps_and_entropies(
            model, ids, mask, keep, batch_size=size, compute_entropy=True, **pictures
        )
        return logps, entropies

    def _compute_loss(self, model: Any, inputs: Any) -> Any:
        """TRL's loss (Eq. 10), and PAPO's terms if they have weights."""
        loss = super()._compute_loss(model, inputs)
        if not (any(self.args.perception_weights) and self.model.training):
            return loss
        assert self._passed is not None  # TRL's loss has just made that pass
        (logps, entropies), self._passed = self._passed, None
        divergence, masked_entropies = torch.zeros_like(logps), None
        if "masked_per_token_logps" in inputs:
            # the policy with the masked image is taken as it answered, as in the official code: it is not moved away
            divergence = perception_divergence(logps, inputs["masked_per_token_logps"])
        if self.args.masked_entropy_weight and "pixel_values" in inputs:
            _, masked_entropies = self._logps_and_entropies(model, inputs, self._masked(inputs))
            self._passed = None
        response = inputs["completion_mask"]
        self._log_perception(divergence, masked_entropies, response)
        term = perception_loss(divergence, entropies, masked_entropies, response, self.args.perception_weights)
        return loss + term / self.current_gradient_accumulation_steps

    def _log_perception(self, divergence: Tensor, masked_entropies: Tensor | None, response: Tensor) -> None:
        """Means over the tokens of all processes."""
        values = {"perception/kl": divergence, "perception/masked_entropy": masked_entropies}
        for name, of in values.items():
            if of is not None:
                sums = torch.stack([(of.detach() * response).sum(), response.sum().to(of.dtype)])
                total, count = self.accelerator.reduce(sums, "sum").tolist()
                self._metrics["train"][name].append(total / max(count, 1.0))

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        found = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if torch.is_grad_enabled() and any(self.args.perception_weights):
            self._passed = found[:2]
        return found
