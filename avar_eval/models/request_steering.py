"""Strengths that a request to a steered vLLM brings along, as `vllm_xargs: {"avar_steering": "image=0.15,system=0.4"}`.

The words that client, server and engine share. Light: it imports neither vLLM nor torch.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

from avar_eval.attention.steering import Steering, parse_steering
from avar_eval.errors import AvarError, UsageError
from avar_eval.models.vllm_plugin import VllmSteering

REQUEST_KEY: Final = "avar_steering"
"""Among a request's `vllm_xargs`: its strengths."""

HEADER: Final = "x-avar-steering"
"""Of a response: the strengths that it was computed with, all parts of them."""

MIDDLEWARE: Final = "avar_eval.models.vllm_middleware.SteeringPerRequest"
"""What `vllm serve` is given as `--middleware`."""

_SALT: Final = "avar-steering-"
_EXAMPLE: Final = "image=0.15,system=0.4"


def read_strengths(text: object) -> Steering:
    """The strengths of a request's text, for all rows where it names none. Raises UsageError, which says what is wrong.

    A preset has rows of its own, which must be changed to `all` by name: `avar,rows=all`.
    """
    if not isinstance(text, str):
        raise UsageError(f"{REQUEST_KEY} is a text such as {_EXAMPLE!r}, not {text!r}")
    if "=" in text.partition(",")[0] and "rows" not in [part.partition("=")[0].strip() for part in text.split(",")]:
        text += ",rows=all"
    try:
        steering = parse_steering(text)
        VllmSteering.of(steering)
    except UsageError as error:
        said = str(error).replace("--steer", REQUEST_KEY).replace(", or --backend transformers", "")
        raise UsageError(said if said.startswith(REQUEST_KEY) else f"{REQUEST_KEY}: {said}") from None
    return steering


def check_words(words: Iterable[str]) -> None:
    """Raise UsageError for a key that was meant to be `avar_steering`, perhaps: it would do nothing."""
    for word in words:
        if word.lower().startswith("avar") and word != REQUEST_KEY:
            raise UsageError(f"no request takes {word!r}: its strengths are called {REQUEST_KEY}")


def salted(steering: Steering | None, own: str | None) -> str | None:
    """The salt of a request's blocks in the prefix cache: keys and values of other strengths must not be found there.

    own: the request's own salt. Raises UsageError if it could be taken for one of these.
    """
    if own is not None and own.startswith(_SALT):
        raise UsageError(f"cache_salt: one that begins with {_SALT!r} is given by the server, leave it out")
    if steering is None:
        return own
    return _SALT + hashlib.sha256(f"{steering}\n{own or ''}".encode()).hexdigest()


class TooManyStrengthsError(AvarError):
    """A server is busy with as many different strengths as it may.

    What to do: Ask again later, or start the server with more rows of strengths.
    """


class StrengthsInFlight:
    """The different strengths of a server's current requests, of which an engine can hold so many at a time."""

    def __init__(self) -> None:
        self._requests: Counter[Steering] = Counter()
        self._lock = Lock()  # requests are admitted in threads

    @contextmanager
    def of(self, steering: Steering, most: int) -> Iterator[None]:
        """While a request with these strengths is answered. Raises TooManyStrengthsError for one too many."""
        with self._lock:
            if steering not in self._requests and len(self._requests) >= most:
                raise TooManyStrengthsError(
                    f"{len(self._requests)} different strengths are being answered, and no more are taken at a time: "
                    "send this request again later"
                )
            self._requests[steering] += 1
        try:
            yield
        finally:
            with self._lock:
                self._requests[steering] -= 1
                self._requests += Counter()  # forgets those of no request

    def __contains__(self, steering: Steering) -> bool:
        with self._lock:
            return steering in self._requests


in_flight = StrengthsInFlight()
"""Those of this process' requests that came by HTTP."""
