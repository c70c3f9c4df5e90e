"""Parameters that a server takes otherwise than others do: learnt from its own refusals, once for a run."""

import re
from collections.abc import Mapping
from typing import Any, Final

from avar_eval.endpoint.failure import RequestError

_RENAMED: Final = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_LEFT_OUT: Final = ("temperature", "top_p")
_NOT_TAKEN: Final = re.compile(
    r"unsupported|not (?:be )?(?:support|allow|permit|accept|recogni)|does ?n[o']t (?:support|allow|accept)"
    r"|only the default|unrecogni[sz]ed|unknown|unexpected|deprecated|extra_forbidden|\buse\W+max_\w*tokens",
    re.IGNORECASE,
)
_VALUE: Final = re.compile(r"unsupported[_ ]value|too large|at most|maximum", re.IGNORECASE)
"""Of a limit that the server does take, but not this high."""


class Parameters:
    """What was learnt of a server. changed: parameter -> what became of it, for the protocol."""

    def __init__(self) -> None:
        self.changed: dict[str, str] = {}
        self._names: dict[str, str | None] = {}

    def fitted(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A request as the server takes it."""
        names = {name: self._names.get(name, name) for name in request}
        return {new: request[name] for name, new in names.items() if new is not None}

    def learn(self, sent: Mapping[str, Any], failure: RequestError) -> bool:
        """Whether a fitted request was refused for a parameter that can be sent otherwise, which it is from now on."""
        if failure.status not in (400, 422) or not _NOT_TAKEN.search(failure.reason):
            return False
        for name in (*_RENAMED, *_LEFT_OUT):
            named = failure.parameter in (None, name) and re.search(rf"\b{name}\b", failure.reason)
            if name not in sent or not (named or failure.parameter == name):
                continue
            other = _RENAMED.get(name)
            takes_neither = other in self._names
            if other is not None and (takes_neither or _VALUE.search(failure.reason)):
                continue
            self._names[name] = other
            self.changed[name] = "left out: the server does not take it" if other is None else f"sent as {other}"
            return True
        return False
