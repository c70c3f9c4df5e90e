"""One request to an endpoint: bounded in time and size, sent to the named place and to no other."""

import asyncio
import json
import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final

import httpx

from avar_eval.endpoint.failure import RequestError, one_line
from avar_eval.errors import UsageError
from avar_eval.keys import keep_secret

LARGEST_REPLY: Final = 16 * 2**20
"""Bytes, unpacked: a response of 100,000 tokens has less than one of the sixteen."""

_SECONDS_TO_CONNECT: Final = 30.0
_SECONDS_OF_A_BODY: Final = 60.0
"""From its first byte on, not counting spaces, which gateways send while a model writes: then all of it is there."""
_HERE: Final = ("localhost", "127.0.0.1", "[::1]")

# They would write what a server sends, which may be a key or move the cursor, into whatever log a program keeps.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True)
class RawReply:
    """A reply as it came. wait: seconds that the server asks to be left alone for, 0 where it does not say.

    headers: all of them, their names in lower case.
    """

    status: int
    body: bytes
    wait: float
    location: str | None
    headers: Mapping[str, str] = field(default_factory=dict)


class Exchange:
    """A client of one endpoint, for one event loop.

    url: up to and with `/v1`. timeout: seconds for everything from the connection to the last byte. No environment
    variable but those of proxies changes where a request goes; a server on this machine is asked without a proxy.
    Redirects are not followed and cookies not kept. Raises UsageError for proxies that cannot be used.
    """

    def __init__(self, url: str, key: str | None, timeout: float) -> None:
        self.url, self.timeout = url, timeout
        if key is not None:
            keep_secret(key)
        try:
            self._client = httpx.AsyncClient(
                headers={
                    "Authorization": f"Bearer {key or 'none'}",
                    "Accept": "application/json",
                    "Content-Type": "application/json",
                    "Accept-Encoding": "identity",
                    "User-Agent": "avar-eval",
                },
                timeout=httpx.Timeout(None, connect=min(_SECONDS_TO_CONNECT, timeout)),
                limits=httpx.Limits(max_connections=None),
                follow_redirects=False,
                mounts={f"all://{host}": None for host in _HERE},
            )
        except (ImportError, ValueError) as error:
            raise UsageError(f"the proxy that the environment names cannot be used: {one_line(str(error))}") from error
        self._client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def post(self, request: Mapping[str, Any]) -> RawReply:
        """The reply to a chat completion's request, whatever its status. Raises RequestError where there is none."""
        try:
            async with asyncio.timeout(self.timeout):
                return await self._post(request)
        except (TimeoutError, httpx.ConnectTimeout) as error:
            failure = self._late(
                f"did not answer within {self.timeout:g} s, or could not be connected to within "
                f"{min(_SECONDS_TO_CONNECT, self.timeout):g} s"
            )
            if isinstance(error, httpx.ConnectTimeout):
                failure.kind, failure.sent = "busy", False
            raise failure from error
        except (httpx.ConnectError, httpx.ProxyError, httpx.UnsupportedProtocol) as error:
            said = one_line(str(error)) or type(error).__name__
            raise RequestError("busy", f"{self.url} cannot be reached: {said}") from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            said = one_line(str(error)) or type(error).__name__
            raise RequestError("unanswered", f"{self.url} broke off: {said}", sent=True) from error

    async def _post(self, request: Mapping[str, Any]) -> RawReply:
        url = self.url.rstrip("/") + "/chat/completions"
        # ASCII: a question may hold half of a surrogate pair, which UTF-8 does not know.
        content = json.dumps(request).encode()
        async with self._client.stream("POST", url, content=content) as response:
            body = await self._body(response)
            return RawReply(
                response.status_code,
                self._unpacked(body, response.headers.get("content-encoding", "").strip().lower()),
                _seconds(response.headers.get("retry-after", "")),
                response.headers.get("location"),
                dict(response.headers),
            )

    async def _body(self, response: httpx.Response) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(None) as patience:
                async for part in response.aiter_raw():
                    body += part
                    if len(body) > LARGEST_REPLY:
                        raise self._too_large()
                    if patience.when() is None and part.strip():
                        patience.reschedule(asyncio.get_running_loop().time() + _SECONDS_OF_A_BODY)
        except TimeoutError as error:
            raise self._late(f"took more than {_SECONDS_OF_A_BODY:g} s for the bytes of a reply") from error
        return bytes(body)

    def _late(self, what: str) -> RequestError:
        failure = RequestError("unanswered", f"{self.url} {what}", sent=True)
        failure.timed_out = True
        return failure

    def _unpacked(self, body: bytes, encoding: str) -> bytes:
        """A body that came packed, though it was not asked to be."""
        if encoding in ("", "identity"):
            return body
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise RequestError("refused", f"{self.url} packs its reply in a way that was not asked for", sent=True)
        unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: gzip's header or zlib's
        try:
            unpacked = unpacking.decompress(body, LARGEST_REPLY + 1)
        except zlib.error as error:
            raise RequestError("unanswered", f"{self.url} sent a reply that cannot be unpacked", sent=True) from error
        if len(unpacked) > LARGEST_REPLY:
            raise self._too_large()
        return unpacked

    def _too_large(self) -> RequestError:
        return RequestError("refused", f"{self.url} sent a reply of more than {LARGEST_REPLY // 2**20} MiB", sent=True)


def _seconds(asked: str) -> float:
    """What a Retry-After asks for in seconds; 0 where it gives a date, or nothing that is a number."""
    plain = asked.strip()
    return float(plain) if plain.isascii() and plain.replace(".", "", 1).isdigit() and len(plain) < 20 else 0.0
