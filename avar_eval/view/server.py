"""A viewer's folder for browsers on this machine alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from avar_eval.errors import UsageError


class _Handler(SimpleHTTPRequestHandler):
    """Files of one folder, to those who ask for this machine by its own names.

    A page of elsewhere whose name was made to lead here (DNS rebinding) would otherwise read what is shown.
    """

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".webp": "image/webp", ".js": "text/javascript"}

    def send_head(self) -> Any:
        port = cast(ThreadingHTTPServer, self.server).server_port
        if self.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            self.send_error(HTTPStatus.FORBIDDEN, "this server answers to 127.0.0.1 alone")
            return None
        return super().send_head()

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """A browser's requests are not the terminal's concern."""


@contextmanager
def served(folder: Path, port: int = 0) -> Iterator[ThreadingHTTPServer]:
    """A server of the folder on 127.0.0.1; port 0 takes a free one. Raises UsageError for one that is taken."""
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, directory=str(folder)))
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no port"
        raise UsageError(f"--port {port} cannot be used ({reason}): give another one, or 0 for a free one") from error
    with server:
        yield server
