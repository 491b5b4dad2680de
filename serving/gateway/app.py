"""The gateway's web application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from features.layout import Layout
from features.settings import KafkaSettings, RedisSettings
from serving.settings import GatewaySettings, TritonSettings


@dataclass(frozen=True)
class GatewayConfig:
    """What the gateway needs to know, with every address filled in.

    Args:
        layout: Folders of the stack.
        gateway: The gateway's own settings.
        kafka: Where impressions go.
        redis: Feast's online store.
        triton: Where scores come from.
    """

    layout: Layout
    gateway: GatewaySettings
    kafka: KafkaSettings
    redis: RedisSettings
    triton: TritonSettings


def create_app(config: GatewayConfig) -> FastAPI:
    """The application.

    Args:
        config: Settings and addresses.

    Returns:
        The application, ready for an ASGI server.
    """
    app = FastAPI(title="Freshrank gateway", docs_url=None, redoc_url=None)
    app.state.config = config

    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        """Answer while the process serves requests."""
        return {"status": "ok"}

    return app
