"""What a steered vLLM engine must compute: transformers' decoder in float64, each score or weight steered by itself."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import AttentionInterface, AutoModelForImageTextToText, AutoProcessor
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from avar_eval.attention.roles import ChatMarkup, Role

_NAME = "avar_doctor_steered_eager"


class SteeredReference:
    """The model of a folder. It shares with the code under test only where the roles stand."""

    def __init__(self, folder: Path) -> None:
        self._processor: Any = AutoProcessor.from_pretrained(folder)
        self._markup = ChatMarkup(self._processor)
        self._strengths = torch.zeros(1)
        self._mode = "logit"
        AttentionInterface.register(_NAME, self._attend)
        AttentionMaskInterface.register(_NAME, eager_mask)
        implementation = {"": "eager", "text_config": _NAME, "vision_config": "eager"}
        model = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=torch.float64, attn_implementation=implementation
        )
        self._model: Any = model.eval()

    def prompts(self, count: int) -> list[dict[str, Any]]:
        """Prompts in vLLM's words: longer and longer, every second one with an image."""
        random = torch.Generator().manual_seed(0)
        prompts = []
        for number in range(count):
            pixels = torch.randint(0, 255, (112, 84, 3), generator=random, dtype=torch.uint8)
            images = [Image.fromarray(pixels.numpy())] if number % 2 == 0 else []
            question = [{"type": "image"}] * len(images) + [
                {"type": "text", "text": "How many are there? " * (number + 1)}
            ]
            messages = [
                {"role": "system", "content": [{"type": "text", "text": "You are a helpful assistant."}]},
                {"role": "user", "content": question},
            ]
            text = self._processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            ids = self._processor.tokenizer.encode(text, add_special_tokens=False)
            prompts.append({"prompt_token_ids": ids} | ({"multi_modal_data": {"image": images}} if images else {}))
        return prompts

    @torch.inference_mode()
    def log_probabilities(
        self, ids: list[int], prompt_length: int, prompt: dict[str, Any], steering: Any
    ) -> Float[Tensor, " tokens"]:
        """Log-probability of each token after the first; what follows the prompt has no role."""
        roles = torch.tensor(self._markup.prompt_roles(ids[:prompt_length]))
        roles = torch.nn.functional.pad(roles, (0, len(ids) - prompt_length), value=int(Role.RESPONSE))
        self._strengths = (roles == Role.IMAGE) * steering.image - (roles == Role.SYSTEM) * steering.system
        self._mode = steering.mode
        tokens = torch.tensor([ids])
        inputs: dict[str, Any] = {"mm_token_type_ids": (roles == Role.IMAGE).int()[None]}
        if images := prompt.get("multi_modal_data", {}).get("image"):
            inputs |= self._processor.image_processor(images=images, return_tensors="pt")
            inputs["pixel_values"] = inputs["pixel_values"].double()
        given = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "use_cache": False}
        logits: Tensor = self._model(**given, **inputs).logits
        return logits[0, :-1].log_softmax(-1).gather(1, tokens[0, 1:, None])[:, 0]

    def _attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, **_: Any
    ) -> tuple[Tensor, None]:
        groups = module.num_key_value_groups
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        scores = query @ key.mT * scaling
        if self._mode == "logit":
            scores = scores * (1 + self._strengths)
        weights = (scores + mask).softmax(-1)
        if self._mode == "prob":
            weights = weights * (1 + self._strengths)
        return (weights @ value).transpose(1, 2), None
