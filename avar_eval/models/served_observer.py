"""The weights that an endpoint serves, at hand here: they measure where the model looked when the endpoint answered."""

import json
from collections.abc import Sequence
from typing import Any

from PIL.Image import Image

from avar_eval.models.image_limits import AppliedLimits
from avar_eval.models.transformers_backend import TransformersBackend


class ServedObserver(TransformersBackend):
    """A checkpoint whose prompts come as an endpoint is asked them: as messages, with pictures that are resized."""

    def encode(self, prompts: Sequence[str], images: Sequence[Sequence[Image]]) -> Any:
        """Left-padded model inputs of what `ApiBackend.render` has written, through this checkpoint's chat template."""
        return super().encode([self.render(_in_parts(json.loads(prompt))) for prompt in prompts], images)

    def _apply_limits(self) -> AppliedLimits:
        """Pictures are resized before they are sent: the server's processor knows of no limits of ours."""
        return AppliedLimits(before=self.image_limits)


def _in_parts(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages with their content in parts, as templates take it; a text that stands alone is sent as it is."""
    return [
        message | {"content": [{"type": "text", "text": content}]}
        if isinstance(content := message["content"], str)
        else message
        for message in messages
    ]
