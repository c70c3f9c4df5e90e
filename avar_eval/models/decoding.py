"""The one decoding specification that every backend follows."""

from pydantic import BaseModel, ConfigDict, Field


class Decoding(BaseModel):
    """How a response is drawn. temperature 0 is greedy, then top_p and seed change nothing.

    samples: responses per question, each with a random stream of its own that depends on the question, the sample's
    number and the seed only, so that batches and restarts do not change it. stop: strings that end a response.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
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
            parts |= {"top_p": self.top_p, "seed": self.seed}
        return parts | ({"stop": list(self.stop)} if self.stop else {})
