"""Models behind an endpoint of this machine, for the commands of docs/: VARD's actors, a judge, one that says red."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "synthesis"))
from actors import Actors, playing

URL = "http://localhost:8000/v1"
"""Where the pages have them."""


class PlayedModels(Actors):
    """`a-judge` judges, `a-model` says that everything is red, all others are actors of data synthesis."""

    def reply(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A chat completion."""
        if body["model"] == "a-judge":
            return _completion(judged(body["messages"][0]["content"]))
        if body["model"] == "a-model":
            return _completion("<think>It is red.</think><answer>red</answer>")
        return super().reply(body)


def judged(prompt: str) -> str:
    """What stands in the response's last answer tags; whether two answers are the same words."""
    if "[Response]" in prompt:
        answers = re.findall(r"<answer>(.*?)</answer>", prompt)
        return f"Final answer: {answers[-1] if answers else 'NONE'}"
    correct, given = re.findall(r"answer\]\n(.*)", prompt)[:2]
    return "SAME" if correct == given else "DIFFERENT"


@contextmanager
def played_models() -> Iterator[str]:
    """Their URL up to and with /v1."""
    with playing(PlayedModels()) as models:
        yield models.url


def _completion(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 100, "completion_tokens": 20}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "played",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": usage,
    }
