"""A server that sends any bytes at all, such as a table names: to an api backend or to a judge."""

import base64
import contextlib
import functools
import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

KEY = "sk-hostile+tests/0123456789"
WRITTEN = {
    "{key}": KEY,
    "{key64}": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "{keyurl}": quote(KEY, safe=""),
}
"""What stands for the key in a table, and for what others may make of it."""


@dataclass
class HostileServer:
    """Requests with `trigger` in them get the hostile reply, all others `friendly`. bodies: what it was asked."""

    hostile: dict[str, Any]
    friendly: str
    trigger: str
    other: str = "other.invalid"
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)

    def send(self, connection: socket.socket, reply: dict[str, Any]) -> None:
        """One reply of the table, as it is made."""
        filled = json.dumps(reply)
        for name, value in (WRITTEN | {"{other}": self.other}).items():
            filled = filled.replace(name, value)
        reply = json.loads(filled)
        if "raw" in reply:
            connection.sendall(reply["raw"].encode("latin-1"))
        elif "made" in reply:
            _send_made(connection, reply)
        else:
            body = json.dumps(reply["json"]) if "json" in reply else reply.get("body", "")
            if "repeat" in reply:
                part, times = reply["repeat"]
                body = part * times
            headers = {"Content-Type": "application/json"} | reply.get("headers", {})
            _send_whole(connection, body.encode("utf-8", "surrogatepass"), headers, reply.get("status", 200))


def _send_whole(connection: socket.socket, body: bytes, headers: dict[str, str], status: int = 200) -> None:
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in headers.items())]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "Connection: close", "", ""])
    connection.sendall(head.encode("latin-1") + body)


@functools.cache
def bomb() -> bytes:
    """200 MB of zeros, packed."""
    return gzip.compress(bytes(200 * 2**20), 1)


def _send_made(connection: socket.socket, reply: dict[str, Any]) -> None:
    """Replies that are too large for a table, or take their time: until the client has enough."""
    made = reply["made"]
    begun = b"HTTP/1.1 200 OK\r\n"
    if made.startswith("gzip"):
        body = bomb() if made == "gzip_bomb" else gzip.compress(reply["body"].encode(), 1)
        _send_whole(connection, body, {"Content-Encoding": "gzip"})
    elif made == "spaces_first":
        connection.sendall(begun + b"Connection: close\r\n\r\n")
        for _ in range(20):
            connection.sendall(b" \n")
            time.sleep(0.05)
        connection.sendall(reply["body"].encode())
    elif made == "endless":
        connection.sendall(begun + b"Connection: close\r\n\r\n")
        while True:
            connection.sendall(b" " * 2**20)
    elif made == "endless_headers":
        connection.sendall(begun)
        while True:
            connection.sendall(b"X-Header: " + b"x" * 1000 + b"\r\n")
    else:
        connection.sendall(
            {"drip": begun + b"Content-Length: 999999\r\n\r\n", "drip_header": begun + b"X: "}.get(made, b"")
        )
        for _ in range(600):
            time.sleep(0.05)
            connection.sendall(b"" if made == "silence" else b"x")


def _received(connection: socket.socket) -> bytes:
    """What has come. Raises ConnectionError where the client has gone, for which no thread is to wait in vain."""
    data = connection.recv(65536)
    if not data:
        raise ConnectionError
    return data


@contextmanager
def serving(server: HostileServer) -> Iterator[HostileServer]:
    """Serve from threads, one a connection and one request each."""
    bomb()  # which takes part of a second, or of what a client waits for a reply
    listener = socket.create_server(("127.0.0.1", 0))
    server.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data:
                data += _received(connection)
            head, _, body = data.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            while length and len(body) < int(length[1]):
                body += _received(connection)
            server.heads.append(head.decode())
            server.bodies.append(json.loads(body))
            hostile = server.trigger in json.dumps(server.bodies[-1]["messages"])
            server.send(connection, server.hostile if hostile else {"body": server.friendly})
            # Both sides are done with it: closing with unread bytes on the way would reset the connection.
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)

    def listen() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield server
    finally:
        listener.close()


def friendly(text: str) -> str:
    """The body of a chat completion."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}})
