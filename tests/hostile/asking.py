"""Three questions for an api backend whose key is in $TEST_KEY."""

import json
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from avar_eval.models.api_backend import ApiBackend, ApiOptions, served_model
from avar_eval.models.decoding import Decoding

GOOD = "<answer>4</answer>"
DECODING = Decoding(max_new_tokens=50)


@dataclass(frozen=True)
class Question:
    """A rendered question."""

    prompt: str
    key: str = "00ff" * 16
    pictures: list[Image.Image] = field(default_factory=list)

    def images(self) -> list[Image.Image]:
        return self.pictures


QUESTIONS = [Question(json.dumps([{"role": "user", "content": text}])) for text in ("one", "trouble", "three")]


def backend(url: str, **more: Any) -> ApiBackend:
    options = {"url": url, "key_env": "TEST_KEY", "first_wait": 0.01, "retries": 1, "concurrency": 1}
    return ApiBackend(served_model("served", None), ApiOptions.model_validate(options | more))
