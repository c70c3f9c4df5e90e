"""What may go wrong with a request, by what is to be done about it."""

from typing import Final, Literal

from avar_eval.keys import masked

Kind = Literal["busy", "unanswered", "refused", "stopped"]
"""busy: nobody is served now; try again, in the end stop. unanswered: this request is not served; try again, in the end
leave it out. refused: this request will never be served; leave it out. stopped: no request ever will; stop."""

_SHOWN: Final = 300

_BUSY: Final = (408, 409, 425, 429)
_REFUSED: Final = (400, 413, 414, 422, 431, 451)
"""Of a request that is at fault itself: too long, or of content that the server does not accept."""

_CODES: Final = {
    "content_filter": 400,
    "content_policy_violation": 400,
    "context_length_exceeded": 400,
    "data_inspection_failed": 400,
    "invalid_prompt": 400,
    "invalid_request_error": 400,
    "insufficient_quota": 402,
    "insufficient_balance": 402,
    "billing_hard_limit_reached": 402,
    "invalid_api_key": 401,
    "invalid_authentication": 401,
    "authentication_error": 401,
    "permission_denied": 403,
    "permission_error": 403,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
}
"""The statuses of errors that servers name in words: providers and gateways send them with a 200 as well."""


class RequestError(Exception):
    """A request without a response. reason: in the server's own words, on one line, keys masked.

    status: of HTTP, or what stands for one in a reply of status 200; None where there was none. wait: seconds that the
    server asks to be left alone for. sent: whether the request may have been answered, and so be paid for; tokens: of
    prompt and response, where such a reply counts them. timed_out: it was given all of its time.
    """

    def __init__(
        self,
        kind: Kind,
        reason: str,
        *,
        status: int | None = None,
        wait: float = 0.0,
        sent: bool = False,
        parameter: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.kind, self.reason, self.status, self.wait = kind, reason, status, wait
        self.sent, self.parameter = sent, parameter
        self.timed_out = False
        self.tokens: tuple[int, int] | None = None


def http_status(code: object) -> int | None:
    """The status of HTTP that a server's code for an error stands for, None for an unknown one."""
    if isinstance(code, str):
        number = int(code) if code.isascii() and code.isdecimal() and len(code) == 3 else 0
        return number if 400 <= number < 600 else _CODES.get(code.lower())
    return code if isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600 else None


def failure_kind(status: int, code: object = None) -> Kind:
    """What is to be done about a status of 300 and more; code: the error's own, which may be of key or account."""
    if isinstance(code, str) and _CODES.get(code.lower()) in (401, 402):
        return "stopped"
    if status in _BUSY:
        return "busy"
    if status in _REFUSED:
        return "refused"
    return "unanswered" if status >= 500 else "stopped"


def one_line(said: str) -> str:
    """A server's words for a message: keys masked before anything is cut off, on one line, not too long."""
    return " ".join(masked(said).split())[:_SHOWN]
