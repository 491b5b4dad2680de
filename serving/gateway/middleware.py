"""What stands before the application: a limit on bodies before anything parses them, and an answer to a bug."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.gateway.api import error_body

log = logging.getLogger(__name__)
Count = Callable[[str], None]


class LimitBody:
    """ASGI middleware that answers 413 to bodies above a size.

    Args:
        app: The application behind it.
        limit: Largest body, bytes.
        count: Called with the status of each refusal.
    """

    def __init__(self, app: ASGIApp, limit: int, count: Count) -> None:
        self._app, self._limit, self._count = app, limit, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
        whole: Message | None = {"type": "http.request", "body": bytes(body), "more_body": False}

        async def replay() -> Message:
            nonlocal whole
            message, whole = whole, None
            return message if message is not None else await receive()

        await self._app(scope, replay, send)

    async def _refuse(self, size: int, send: Send) -> None:
        self._count("413")
        await _answer(413, error_body("body_too_large", "body", size, f"send {self._limit} bytes at most"), send)


class Unexpected:
    """ASGI middleware that answers 500 in the common form to what nobody foresaw; the log has the traceback.

    Args:
        app: The application behind it.
        count: Called with the status of each such answer.
    """

    def __init__(self, app: ASGIApp, count: Count) -> None:
        self._app, self._count = app, count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            log.exception("%s %s met a bug", scope["method"], scope["path"])
            self._count("500")
            if started:
                raise
            remedy = "report it with the traceback in the gateway's log"
            await _answer(500, error_body("bug", None, type(error).__name__, remedy), send)


async def _answer(status: int, body: dict[str, object], send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
