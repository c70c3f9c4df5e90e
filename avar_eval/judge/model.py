"""Which judge model, where it is served, and how patiently it is asked. Light: no client is imported."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from avar_eval.endpoint.url import check_url, key_for
from avar_eval.errors import UsageError
from avar_eval.judge.prompts import PROMPTS_VERSION

JUDGE_CACHE_NAME: Final = "judge.jsonl"
"""The judge's replies, beside a run's records.jsonl."""


@dataclass(frozen=True)
class JudgeModel:
    """A model behind an OpenAI-compatible endpoint.

    url: such as http://localhost:8000/v1. key: "none" for servers that want none. rate: requests a second, at most;
    timeout: seconds a request, from the connection to the reply's last byte; attempts: for one reply, with waits that
    double from `wait` seconds between them;
    workers: requests at a time.
    """

    model: str
    url: str
    key: str = field(default="none", repr=False)
    rate: float = 10.0
    timeout: float = 60.0
    attempts: int = 5
    wait: float = 0.5
    workers: int = 8

    def identity(self, changed: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What of it decides a verdict, for the protocol; changed: parameters that it does not take (name -> how)."""
        told = {"changed": dict(changed)} if changed else {}
        return {"model": self.model, "prompts": PROMPTS_VERSION} | told


def judge_from_options(model: str | None, url: str | None, key_env: str | None, rate: float) -> JudgeModel | None:
    """The judge that the command line names, None without one. Raises UsageError for options that do not fit."""
    if model is None and url is None and key_env is None:
        return None
    if not model or not url:
        raise UsageError("a judge needs both --judge MODEL and --judge-url URL, such as http://localhost:8000/v1")
    try:
        check_url(url)
    except ValueError as error:
        raise UsageError(f"--judge-url: {error}") from error
    if not 0 < rate < math.inf:
        raise UsageError(f"--judge-rate takes requests a second, above 0, not {rate}")
    return JudgeModel(model, url, key_for(url, key_env, "--judge-key-env") or "none", rate)
