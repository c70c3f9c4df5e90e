"""What is kept of one response's causal measures: `causal` in a record, and `causal.jsonl` beside `records.jsonl`.

`causal.jsonl` has one line of JSON for each response whose passes are done: `key`, of the record, and
`dependence_by_token`, the KL divergence (nats) before each token of the response, as the arrays of `attention.jsonl`.
`altered.jsonl` holds records of responses to altered questions (grey, removed or another row's images): a file of its
own, so that nothing that reads responses of a run takes them for answers to its questions. `waiting.jsonl` holds
records of responses whose passes are still to be made; with them they come into `records.jsonl`.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from avar_eval.answers import State

CAUSAL_NAME: Final = "causal.jsonl"
ALTERED_NAME: Final = "altered.jsonl"

Images = Literal["grey", "removed", "swapped"]
"""What an altered question has in the place of its images."""

_Nats = Annotated[float, BeforeValidator(lambda value: float(f"{value:.6g}") if isinstance(value, float) else value)]


class KnockoutRecord(BaseModel):
    """Changes of log-probability (nats) when text cannot attend to image tokens in these layers, first and last."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    layers: tuple[int, int]
    answer: _Nats | None
    response: _Nats


class AlteredRecord(BaseModel):
    """The answer to an altered question. key: of its record in `altered.jsonl`; image_of: whose images it had."""

    model_config = ConfigDict(extra="forbid")

    key: str
    images: Images
    state: State | None
    extracted: str | None
    correct: bool | None
    image_of: str | None = None


class CausalRecord(BaseModel):
    """Causal measures of one response, in nats; see `avar_eval.causal`. None: not measured, or not defined for it.

    tokens: of the response. dependence: mean KL(p(· | image, prefix) ‖ p(· | grey, prefix)) over them; dependence_top:
    over the tenth that depends most. information, information_after_thought: log-probability of the reference answer
    with the image minus with grey, right after the prompt, and after what the response says before its answer.
    knockout_answer, knockout_response: change of the log-probability of the final answer's tokens, and of all of the
    response's, when text cannot attend to image tokens in any layer; knockout_windows: in runs of layers, of which
    `windows` were asked for. blind, swap: the answers without the image, and with another row's.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    tokens: int | None = None
    dependence: _Nats | None = None
    dependence_top: _Nats | None = None
    information: _Nats | None = None
    information_after_thought: _Nats | None = None
    knockout_answer: _Nats | None = None
    knockout_response: _Nats | None = None
    windows: int = 0
    knockout_windows: list[KnockoutRecord] = []
    blind: AlteredRecord | None = None
    swap: AlteredRecord | None = None

    def holds(self, windows: int) -> bool:
        """Whether the passes are done, with as many windows of layers, if any are asked for."""
        return self.tokens is not None and windows in (0, self.windows)
