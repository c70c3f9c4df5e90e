"""A judge model's endpoint on this machine: replies as a script says, and remembers what it was asked."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = str | tuple[int, str, dict[str, str]]
"""A text, or status, body and headers of a response of another kind."""


@dataclass
class JudgeServer:
    """url: for --judge-url. asked: how often each prompt came. reply: prompt and its count so far -> reply."""

    reply: Callable[[str, int], Reply]
    asked: Counter[str] = field(default_factory=Counter)
    url: str = ""
    keys: set[str] = field(default_factory=set)


def sensible(prompt: str, count: int) -> str:
    """Copies the last word of the response; the same words are the same answer."""
    if "Final answer: " in prompt:
        response = prompt.split("[Response]\n")[1].split("\n\n[End of")[0]
        return "Final answer: " + (response.split()[-1] if response.split() else "NONE")
    gold = prompt.split("[Correct answer]\n")[1].split("\n")[0]
    given = prompt.split("[Given answer]\n")[1].split("\n")[0]
    return "SAME" if gold.strip(".") == given.strip(".") else "DIFFERENT"


@contextmanager
def serving(reply: Callable[[str, int], Reply] = sensible) -> Iterator[JudgeServer]:
    """A server in a thread."""
    judge = JudgeServer(reply)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = request["messages"][0]["content"]
            with lock:
                judge.asked[prompt] += 1
                judge.keys.add(self.headers["Authorization"])
                said = judge.reply(prompt, judge.asked[prompt])
            status, body, headers = (200, completion(said), {}) if isinstance(said, str) else said
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        judge.url = f"http://127.0.0.1:{server.server_port}/v1"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield judge
        finally:
            server.shutdown()


def completion(text: str) -> str:
    """The body of a chat completion."""
    message = {"role": "assistant", "content": text}
    return json.dumps(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "judge",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        }
    )
