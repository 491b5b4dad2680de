"""A limit on the size of requests' bodies, before anything parses them."""

from __future__ import annotations

import json
from typing import Any

from serving.gateway.api import error_body


class LimitBody:
    """ASGI middleware that answers 413 to bodies above a size.

    Args:
        app: The application behind it.
        limit: Largest body, bytes.
    """

    def __init__(self, app: Any, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Read a request's body up to the limit, then hand the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":  # the client has gone
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._limit:
                await self._refuse(len(body), send)
                return
        whole: dict[str, Any] | None = {"type": "http.request", "body": bytes(body), "more_body": False}

        async def replay() -> Any:
            nonlocal whole
            message, whole = whole, None
            return message if message is not None else await receive()

        await self._app(scope, replay, send)

    async def _refuse(self, size: int, send: Any) -> None:
        body = json.dumps(error_body("body_too_large", "body", size, f"send {self._limit} bytes at most")).encode()
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})
