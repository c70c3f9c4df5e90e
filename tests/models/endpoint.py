"""An OpenAI-compatible endpoint on this machine, whose temper a test sets."""

import base64
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from local_server import serve
from PIL import Image

KEY = "secret-of-the-test"


@dataclass
class Endpoint:
    """What the endpoint does, and what it was asked. delay: seconds an answer takes.

    busy: how many requests get status 429, with `retry_after`, before it begins to answer. broken: the status that all
    requests get from the one with number `broken_from` on. refused: numbers of requests that get status 400.
    silent_from: as `broken_from`, where nobody is answered until the server ends. together: so many requests wait for
    one another before any of them is answered. garbage: what it sends in the place of every answer.
    """

    delay: float = 0.0
    busy: int = 0
    retry_after: str | None = None
    broken: int | None = None
    broken_from: int = 0
    refused: set[int] = field(default_factory=set)
    silent_from: int | None = None
    together: int = 1
    usage: tuple[int, int] | None = (1000, 100)
    finish_reason: str = "stop"
    thoughts: dict[str, str] = field(default_factory=dict)
    garbage: bytes | None = None
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    begun: list[float] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0
    _meeting: threading.Barrier = field(init=False)
    _ends: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._meeting = threading.Barrier(self.together, timeout=60)

    def reply(self, body: dict[str, Any], key: str | None) -> tuple[int, dict[str, Any]]:
        """Status and content for one request."""
        with self._lock:
            self.begun.append(time.monotonic())
            self.bodies.append(body)
            number = len(self.bodies)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        time.sleep(self.delay)
        self._meeting.wait()
        if self.silent_from is not None and number > self.silent_from:
            self._ends.wait()
        with self._lock:
            self._at_once -= 1
        if key != f"Bearer {KEY}":
            return 401, {"error": {"message": "Incorrect API key provided"}}
        if number <= self.busy:
            return 429, {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}
        if self.broken is not None and number > self.broken_from:
            return self.broken, {"error": {"message": "out of order"}}
        if number in self.refused:
            return 400, {"error": {"message": "not this one"}}
        asked = json.dumps(body["messages"])
        with self._lock:
            self.answered[asked] += 1
        return 200, self._completion(asked)

    def _completion(self, asked: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": f"<think>hm</think><answer>{len(asked) % 10}</answer>"}
        if self.thoughts:
            message |= self.thoughts | {"content": "<answer>4</answer>"}
        completion: dict[str, Any] = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "served",
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish_reason}],
        }
        if self.usage is not None:
            prompt, response = self.usage
            total = {"prompt_tokens": prompt, "completion_tokens": response, "total_tokens": prompt + response}
            completion["usage"] = total
        return completion


@contextmanager
def served(endpoint: Endpoint) -> Iterator[Endpoint]:
    """Serve it from a thread."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/chat/completions":
                status, content = 404, {"error": {"message": f"no {self.path} here"}}
            else:
                status, content = endpoint.reply(body, self.headers["Authorization"])
            data = json.dumps(content).encode() if endpoint.garbage is None else endpoint.garbage
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                if status == 429 and endpoint.retry_after is not None:
                    self.send_header("Retry-After", endpoint.retry_after)
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):  # the client was killed
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with serve(Handler) as endpoint.url:
        try:
            yield endpoint
        finally:
            endpoint._ends.set()


def pictures(body: dict[str, Any]) -> list[Image.Image]:
    """The pictures of a request, decoded."""
    parts = [part for message in body["messages"] for part in message["content"] if isinstance(part, dict)]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    assert all(url.startswith("data:image/png;base64,") for url in urls)
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]
