"""Three questions for an api backend whose key is in $TEST_KEY."""

import json
from typing import Any

from rendered import Question

from avar_eval.models.api_backend import ApiBackend, served_model
from avar_eval.models.backend_options import ApiOptions
from avar_eval.models.decoding import Decoding

GOOD = "<answer>4</answer>"
DECODING = Decoding(max_new_tokens=50)


QUESTIONS = [Question(json.dumps([{"role": "user", "content": text}])) for text in ("one", "trouble", "three")]


def backend(url: str, **more: Any) -> ApiBackend:
    options = {"url": url, "key_env": "TEST_KEY", "first_wait": 0.01, "retries": 1, "concurrency": 1}
    return ApiBackend(served_model("served", None), ApiOptions(**options | more))
