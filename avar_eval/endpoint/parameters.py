"""Parameters that a server takes otherwise than others do: learnt from its own refusals, once for a run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Parameters:
    """How a server takes them. names: its own name for a parameter, None for one that it does not take at all."""

    names: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def changed(self) -> dict[str, str]:
        """What became of each of them, for people and for the protocol."""
        return {
            name: "left out: the server does not take it" if other is None else f"sent as {other}"
            for name, other in self.names.items()
        }

    def fitted(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A request as the server takes it."""
        names = {name: self.names.get(name, name) for name in request}
        return {new: request[name] for name, new in names.items() if new is not None}

    def otherwise(self, sent: Mapping[str, Any], failure: RequestError) -> "Parameters | None":
        """How to try once more a fitted request that was refused for a parameter; None if it was for anything else.

        What a server says may be wrong: it is taken for true when the request is then answered.
        """
        if failure.status not in (400, 422) or not _NOT_TAKEN.search(failure.reason):
            return None
        for name in (*_RENAMED, *_LEFT_OUT):
            named = failure.parameter == name
            if failure.parameter is None:
                named = re.search(rf"\b{name}\b", failure.reason) is not None
            other = _RENAMED.get(name)
            if name not in sent or not named or (other and (other in self.names or _VALUE.search(failure.reason))):
                continue  # of a limit that is renamed already, the server takes neither name
            return Parameters({**self.names, name: other})
        return None

    def merged_with(self, answered: "Parameters") -> "Parameters":
        """These, and those with which a request was answered."""
        return Parameters({**self.names, **answered.names})
