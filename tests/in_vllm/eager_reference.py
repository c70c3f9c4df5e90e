"""What a steered model must compute: transformers' decoder in float64, weights steered key by key, all rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from transformers import AttentionInterface, AutoModelForImageTextToText, AutoProcessor
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from avar_eval.attention.roles import ChatMarkup, Role
from avar_eval.models.vllm_plugin import VllmSteering


class Reference:
    """The model of a folder. It shares with the code under test only where the roles stand."""

    def __init__(self, folder: Path) -> None:
        self.processor: Any = AutoProcessor.from_pretrained(folder)
        self.markup = ChatMarkup(self.processor)
        self.steering = VllmSteering()
        self.strengths = torch.zeros(1)
        name = f"steered_eager_{folder.name}"
        AttentionInterface.register(name, self.attend)
        AttentionMaskInterface.register(name, eager_mask)
        self.model: Any = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=torch.float64,
            attn_implementation={"": "eager", "text_config": name, "vision_config": "eager"},
        ).eval()

    def attend(
        self, module: Any, query: Any, key: Any, value: Any, mask: Any, scaling: float, dropout: float = 0.0, **_: Any
    ) -> tuple[Any, None]:
        groups = module.num_key_value_groups
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        layers = self.steering.layers
        factors = 1 + self.strengths * (layers is None or module.layer_idx in layers)
        scores = query @ key.transpose(2, 3) * scaling
        if self.steering.mode == "logit":
            scores = scores * factors
        weights = torch.softmax(scores + mask, -1)
        if self.steering.mode == "prob":
            weights = weights * factors
        return (weights @ value).transpose(1, 2), None

    @torch.inference_mode()
    def log_probabilities(
        self, ids: list[int], images: list[Image], steering: VllmSteering, prompt_length: int | None = None
    ) -> torch.Tensor:
        """Log-probability of each token after the first. prompt_length: what follows has no role."""
        roles = torch.tensor(self.markup.prompt_roles(ids[:prompt_length]))
        roles = torch.nn.functional.pad(roles, (0, len(ids) - len(roles)), value=int(Role.RESPONSE))
        self.steering = steering
        self.strengths = (roles == Role.IMAGE) * steering.image - (roles == Role.SYSTEM) * steering.system
        tokens = torch.tensor([ids])
        inputs: dict[str, Any] = {"mm_token_type_ids": (roles == Role.IMAGE).int()[None]}
        if images:
            inputs |= self.processor.image_processor(images=images, return_tensors="pt")
            inputs["pixel_values"] = inputs["pixel_values"].double()
        logits = self.model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False, **inputs).logits
        return logits[0, :-1].log_softmax(-1).gather(1, tokens[0, 1:, None])[:, 0]

    def furthest(
        self, outputs: Sequence[Any], images: Sequence[list[Image]], steerings: Sequence[VllmSteering]
    ) -> float:
        """How far an engine's log-probabilities of the tokens that it generated are from those of this model."""
        far = 0.0
        for output, pictures, steering in zip(outputs, images, steerings, strict=True):
            prompt, response = list(output.prompt_token_ids), list(output.outputs[0].token_ids)
            choices = zip(response, output.outputs[0].logprobs, strict=True)
            theirs = torch.tensor([found[token].logprob for token, found in choices], dtype=torch.float64)
            ours = self.log_probabilities(prompt + response, pictures, steering, len(prompt))[-len(response) :]
            far = max(far, float((ours - theirs).abs().max()))
        return far
