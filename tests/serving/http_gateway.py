"""A server that stands where a gateway would and gives a prepared answer, for tests of what asks gateways."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


class PreparedGateway:
    """What it answers, and what it was asked.

    Args:
        url: Its address.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.status, self.body = 200, b"{}"
        self.asked: list[dict[str, Any]] = []

    def answer(self, status: int, body: Any) -> None:
        """Answer so from now on; bytes go out as they are, all else as JSON."""
        self.status, self.body = status, body if isinstance(body, bytes) else json.dumps(body).encode()


@contextmanager
def serve() -> Iterator[PreparedGateway]:
    """The server while the block runs.

    Yields:
        What to answer, and what was asked.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._respond()

        def do_POST(self) -> None:
            prepared.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self._respond()

        def _respond(self) -> None:
            self.send_response(prepared.status)
            self.send_header("content-length", str(len(prepared.body)))
            self.end_headers()
            self.wfile.write(prepared.body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    prepared = PreparedGateway(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield prepared
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
