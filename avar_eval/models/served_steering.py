"""What a steered server, or one whose weights are at hand, is asked beyond OpenAI's interface, and what it must say.

Both are vLLM with our plugin (`vllm_plugin`, `vllm_middleware`). Light: it imports neither vLLM nor torch.
"""

from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel, NonNegativeInt, ValidationError

from avar_eval.attention.steering import Steering
from avar_eval.endpoint.exchange import RawReply
from avar_eval.models.backend import BackendError
from avar_eval.models.request_steering import HEADER, MIDDLEWARE, REQUEST_KEY

_NEVER: Final = -100.0
"""The lowest logit bias that vLLM takes."""


class _Choice(BaseModel):
    index: int = 0
    token_ids: list[NonNegativeInt] | None = None


class _TokenIds(BaseModel):
    """Of a reply: what vLLM adds to it for `return_token_ids`."""

    prompt_token_ids: list[NonNegativeInt] | None = None
    choices: list[_Choice]


class ServedSteering:
    """The terms of one run with a server. measured: its responses are to be measured with weights that are here.

    placeholders: tokens that stand for an image; a response that is to be measured can hold none.
    """

    def __init__(self, url: str, steering: Steering | None, measured: bool, placeholders: Sequence[int] = ()) -> None:
        self._url, self._steering, self._measured = url, steering, measured
        self._placeholders = placeholders

    def parameters(self) -> dict[str, Any]:
        """What a request holds of them."""
        asked: dict[str, Any] = {}
        if self._steering is not None:
            asked["vllm_xargs"] = {REQUEST_KEY: str(self._steering)}
        if self._steering is not None or self._measured:
            asked["return_token_ids"] = True
        if self._placeholders:
            asked["logit_bias"] = {str(token): _NEVER for token in self._placeholders}
        return asked

    def token_ids(self, reply: RawReply) -> tuple[list[int], list[int]]:
        """Those of prompt and response, empty where nobody asks for them.

        Raises BackendError for a response that the server may not have steered, or that cannot be measured.
        """
        if self._steering is not None and (said := reply.headers.get(HEADER)) != str(self._steering):
            which = "not that it has steered" if said is None else f"that it has steered by {said[:100]!r}"
            raise BackendError(
                f"{self._url} says {which} a response, in the header {HEADER}, where {self._steering} was asked for. "
                f"Serve the model by vLLM with avar-eval installed beside it and --middleware {MIDDLEWARE}, or leave "
                "--steer out"
            )
        if self._steering is None and not self._measured:
            return [], []
        try:
            found = _TokenIds.model_validate_json(reply.body)
        except ValidationError:
            found = _TokenIds(choices=[])
        response = min(found.choices, key=lambda choice: choice.index).token_ids if found.choices else None
        if self._measured and not (found.prompt_token_ids and response):
            raise BackendError(
                f"{self._url} gives no token ids: attention is measured over those of its prompts and responses "
                "(return_token_ids, as of vLLM). Leave --api-weights out"
            )
        return found.prompt_token_ids or [], response or []
