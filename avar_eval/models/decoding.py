"""The one decoding specification that every backend follows."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from avar_eval.errors import UsageError
from avar_eval.models.registry import ModelEntry, RecommendedDecoding

DEFAULT_MAX_NEW_TOKENS = 4096
"""The token limit of a model that is not registered."""


class Decoding(BaseModel):
    """How a response is drawn. temperature 0 is greedy, then top_p, top_k and seed change nothing.

    top_k: how many of the likeliest tokens are drawn from, 0 is all. repetition_penalty: divides positive, multiplies
    negative logits of tokens that prompt or response hold (arXiv 1909.05858, Section 4.1), before temperature; 1: none.
    samples: responses per question, each with a random stream of its own that depends on the question, the sample's
    number and the seed only, so that batches and restarts do not change it. stop: strings that end a response.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    repetition_penalty: float = Field(1.0, gt=0)
    max_new_tokens: int = Field(ge=1)
    samples: int = Field(1, ge=1)
    seed: int = 0
    stop: tuple[str, ...] = ()

    @property
    def greedy(self) -> bool:
        """Whether every sample is the arg max."""
        return self.temperature == 0

    def identity(self) -> dict[str, object]:
        """What of this specification decides a response: part of the record key."""
        parts: dict[str, object] = {"temperature": self.temperature, "max_new_tokens": self.max_new_tokens}
        if not self.greedy:
            parts |= {"top_p": self.top_p, "seed": self.seed} | ({"top_k": self.top_k} if self.top_k else {})
        if self.repetition_penalty != 1:
            parts["repetition_penalty"] = self.repetition_penalty
        return parts | ({"stop": list(self.stop)} if self.stop else {})


def decoding_for(entry: ModelEntry | None, **chosen: Any) -> Decoding:
    """What was chosen (None is not), over what the model's entry recommends.

    Raises UsageError for what is out of range, and where several samples of greedy decoding are asked for: they are all
    the same.
    """
    recommended = (entry.decoding if entry else RecommendedDecoding()).model_dump()
    limit = entry.max_new_tokens if entry else DEFAULT_MAX_NEW_TOKENS
    given = {name: value for name, value in chosen.items() if value is not None}
    temperature = given.get("temperature")
    if temperature and not 1e-6 <= temperature <= 1e6:  # beyond, float32 logits overflow
        raise UsageError("--temperature takes 0 (greedy) or a number from 0.000001 to 1000000")
    if given.get("top_p") == 0:
        raise UsageError("--top-p must be above 0")
    try:
        decoding = Decoding(**{"max_new_tokens": limit} | recommended | given)
    except ValidationError as error:
        problem = error.errors()[0]
        option = str(problem["loc"][0]).replace("_", "-")
        raise UsageError(f"--{option}: {problem['msg']}, not {problem['input']!r}") from None
    if decoding.samples > 1 and decoding.greedy:
        raise UsageError("--samples above 1 needs --temperature above 0: greedy samples are all the same")
    return decoding
