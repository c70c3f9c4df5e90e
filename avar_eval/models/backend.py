"""What a session needs of a way to ask a model. Light: a backend's libraries come with its own module.

There are three: `transformers_backend`, which answers batch by batch and measures attention, `vllm_backend` and
`api_backend`, which take all questions at once and answer in whatever order they finish.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from PIL.Image import Image

from avar_eval.errors import AvarError
from avar_eval.models.backend_options import BackendName
from avar_eval.models.decoding import Decoding
from avar_eval.records.record import Usage


class BackendError(AvarError):
    """The model cannot be loaded, reached or run.

    What to do: Read what the server or library said; a free GPU, the right url or key, or a smaller `--batch-size`
    mend most.
    """


@dataclass(frozen=True)
class Generation:
    """One response. token_ids contains the end-of-turn token, text does not; `length`: the token limit cut it.

    Both lists of token ids are empty where the model is only reached through an API; usage is what that API counted,
    changed what became of parameters that it does not take (name -> how), attempts how often it was asked until then.
    """

    prompt_token_ids: list[int]
    token_ids: list[int]
    text: str
    finish_reason: Literal["stop", "length"]
    usage: Usage | None = None
    changed: Mapping[str, str] | None = None
    attempts: int = 1


@dataclass(frozen=True)
class Refusal:
    """A question that is not answered, such as one that is too long; reason: in full. The next run asks it again."""

    reason: str


class Prompt(Protocol):
    """One request. key: hex, seeds its sampling. prompt: as the backend rendered it. images(): decoded when needed."""

    @property
    def key(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def images(self) -> Callable[[], list[Image]]: ...


class Backend(Protocol):
    """A way to ask a model."""

    @property
    def name(self) -> BackendName: ...
    @property
    def dtype(self) -> str | None: ...

    def render(self, messages: Sequence[dict[str, Any]]) -> str:
        """The prompt's text, one placeholder an image. It is what a record shows and what its key is made from."""
        ...

    def identity(self) -> Mapping[str, str]:
        """What of the backend decides a response, beside weights and dtype: part of the record key."""
        ...

    def load(self) -> None:
        """Make ready to answer, if that is not done yet."""
        ...


class StreamingBackend(Backend, Protocol):
    """A backend that takes all questions at once."""

    def answer(
        self, prompts: Iterable[Prompt], decoding: Decoding, may_refuse: int = 0
    ) -> Iterator[tuple[int, Generation | Refusal]]:
        """Number and response of each prompt, as they finish; the next prompt is taken when there is room for it.

        may_refuse: how many may be refused; beyond, the fault is not theirs. Raises BackendError after all that can be
        had.
        """
        ...

    def release(self) -> None:
        """Give back the memory that answering took."""
        ...
