"""The one decoding specification that every backend follows. Light."""

from dataclasses import MISSING, asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from avar_eval.errors import UsageError
from avar_eval.fields import THE_MODELS, Checked, Option, declared

if TYPE_CHECKING:
    from avar_eval.models.registry import ModelEntry

DEFAULT_MAX_NEW_TOKENS: Final = 4096
"""The token limit of a model that is not registered."""

_ONLY_DRAWN: Final = ("top_p", "top_k", "min_p")
"""They leave the likeliest token alone, and so change nothing of greedy decoding."""
_ALWAYS_TOLD: Final = ("top_p", "top_k", "repetition_penalty")
"""In every protocol; what came later is told where it is not neutral, so that run ids stay what they were."""


@dataclass(frozen=True, kw_only=True)
class Decoding(Checked):
    """How a response is drawn. Defaults are neutral: greedy, without penalties.

    Sampling options have the names and the meaning of vLLM's SamplingParams, and act in its order: penalties,
    temperature, min_p, top_k, top_p. repetition_penalty divides positive, multiplies negative logits of tokens that
    prompt or response hold (arXiv 1909.05858, Section 4.1); presence_penalty is subtracted once from those that the
    response holds. min_p: a share of the likeliest token's probability.
    samples: responses per question, each with a random stream of its own that depends on the question, the sample's
    number and the seed only, so that batches and restarts do not change it. stop: strings that end a response.
    """

    temperature: Annotated[float, Option("0 is greedy.", THE_MODELS, least=0)] = 0.0
    top_p: Annotated[float, Option("Nucleus sampling.", THE_MODELS, above=0, most=1)] = 1.0
    top_k: Annotated[int, Option("Draw from the K likeliest tokens, 0: all.", THE_MODELS, least=0)] = 0
    min_p: Annotated[
        float, Option("Draw no token below this share of the likeliest one's probability.", THE_MODELS, least=0, most=1)
    ] = 0.0
    repetition_penalty: Annotated[float, Option("1 is none.", THE_MODELS, least=0.01, most=100)] = 1.0
    presence_penalty: Annotated[
        float,
        Option("Taken off the logits of tokens that the response holds, 0: none.", THE_MODELS, least=-2, most=2),
    ] = 0.0
    max_new_tokens: Annotated[int, Option("Token limit of a response.", THE_MODELS, least=1)]
    samples: Annotated[int, Option("Responses to each question.", least=1)] = 1
    seed: Annotated[int, Option("Seed of sampling.", least=0, most=2**32 - 1)] = 0
    stop: tuple[str, ...] = ()

    @property
    def greedy(self) -> bool:
        """Whether every sample is the arg max."""
        return self.temperature == 0

    def sampling(self) -> dict[str, Any]:
        """The sampling options that are not neutral, beside temperature, under the names of vLLM's SamplingParams."""
        chosen = {name: getattr(self, name) for name in recommendable() if name != "temperature"}
        acting = {name: value for name, value in chosen.items() if value != declared(Decoding)[name].default}
        return {name: value for name, value in acting.items() if not (self.greedy and name in _ONLY_DRAWN)}

    def identity(self) -> dict[str, Any]:
        """What of this specification decides a response: part of the record key."""
        parts = {"temperature": self.temperature, "max_new_tokens": self.max_new_tokens} | self.sampling()
        if not self.greedy:
            parts |= {"top_p": self.top_p, "seed": self.seed}
        return parts | ({"stop": list(self.stop)} if self.stop else {})

    def protocol(self) -> dict[str, Any]:
        """All of it as JSON knows it, but for options that change nothing and that older protocols do not have."""
        later = set(recommendable()) - {"temperature", *_ALWAYS_TOLD, *self.sampling()}
        return {name: value for name, value in asdict(self).items() if name not in later} | {"stop": list(self.stop)}


def recommendable() -> dict[str, Any]:
    """The options that a model's authors may recommend a value of, with their neutral values."""
    return {
        name: field.default
        for name, field in declared(Decoding).items()
        if field.option and field.option.shown == THE_MODELS and field.default is not MISSING
    }


def check_temperature(value: object) -> None:
    """Raise UsageError for a temperature at which float32 logits overflow, or which is no number."""
    if value and not (isinstance(value, int | float) and 1e-6 <= value <= 1e6):
        raise UsageError("--temperature takes 0 (greedy) or a number from 0.000001 to 1000000")


def decoding_for(entry: "ModelEntry | None", **chosen: Any) -> Decoding:
    """What was chosen (None is not), over what the model's entry recommends.

    Raises UsageError for what is out of range, and where several samples of greedy decoding are asked for: they are all
    the same.
    """
    from pydantic import ValidationError

    from avar_eval.in_words import option_in_words

    limit = entry.max_new_tokens if entry else DEFAULT_MAX_NEW_TOKENS
    given = {name: value for name, value in chosen.items() if value is not None}
    check_temperature(given.get("temperature"))
    try:
        decoding = Decoding(**{"max_new_tokens": limit} | (entry.decoding if entry else {}) | given)
    except ValidationError as error:
        raise UsageError(option_in_words(error)) from None
    if decoding.samples > 1 and decoding.greedy:
        raise UsageError("--samples above 1 needs --temperature above 0: greedy samples are all the same")
    return decoding
