"""The gateway's web application."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from features.layout import Layout
from features.settings import KafkaSettings, RedisSettings
from features.store.registry import OnlineStore
from features.times import format_us
from serving.gateway.api import MAX_BODY_BYTES, ApiError, ErrorBody, RankRequest, RankResponse, error_body
from serving.gateway.background import Health
from serving.gateway.experiments_file import experiments_path
from serving.gateway.impressions import ImpressionLog
from serving.gateway.live import LiveState
from serving.gateway.metrics import Metrics
from serving.gateway.middleware import LimitBody, Unexpected
from serving.gateway.ranker import Ranker
from serving.gateway.repeats import Repeats
from serving.gateway.scores import Scores
from serving.settings import GatewaySettings, TritonSettings

_CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}


@dataclass(frozen=True)
class GatewayConfig:
    """What the gateway needs to know, with every address filled in.

    Args:
        layout: Folders of the stack.
        gateway: The gateway's own settings.
        kafka: Where impressions go.
        redis: Feast's online store.
        triton: Where scores come from.
        online: Another online store than Redis, for tests on one machine.
    """

    layout: Layout
    gateway: GatewaySettings
    kafka: KafkaSettings
    redis: RedisSettings
    triton: TritonSettings
    online: OnlineStore | None = None

    @property
    def experiments(self) -> Path:
        """The experiments file."""
        return self.gateway.experiments or experiments_path(self.layout)


def create_app(config: GatewayConfig) -> FastAPI:
    """The application.

    Args:
        config: Settings and addresses.

    Returns:
        The application, ready for an ASGI server.
    """
    metrics = Metrics()
    repeats = Repeats()
    health = Health(lambda part, kind: metrics.errors.labels(part, kind).inc())

    def count(status: str) -> None:
        metrics.requests.labels(status).inc()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        state = app.state
        state.live = LiveState(
            config.layout, config.experiments, config.online or OnlineStore(redis=config.redis), health
        )
        state.impressions = ImpressionLog(
            config.kafka,
            event_clock=config.gateway.accept_client_time,
            count=lambda result: metrics.impressions.labels(result).inc(),
            health=health,
        )
        scores = Scores(config.triton.url)
        state.ranker = Ranker(config.gateway, state.live, scores, state.impressions, metrics, health)
        state.impressions.start()
        await state.live.start()
        yield
        await state.live.stop()
        await scores.close()
        await asyncio.to_thread(state.impressions.close)

    app = FastAPI(title="Freshrank gateway", version="1", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(LimitBody, limit=MAX_BODY_BYTES, count=count)
    app.add_middleware(Unexpected, count=count)
    _add_errors(app, metrics)

    @app.post("/rank", responses={status: {"model": ErrorBody} for status in (413, 422, 503)})
    async def rank(request: RankRequest) -> RankResponse:
        """Rank candidates for a user, best first, and log the impression."""
        began = time.monotonic()
        answer = await repeats.once(request, app.state.ranker.rank)
        metrics.seconds.observe(time.monotonic() - began)
        count("200")
        return answer

    _add_health(app, health)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def prometheus() -> Response:
        """Metrics in Prometheus' text format."""
        metrics.generation.set(app.state.live.snapshot.serving.generation)
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    _describe(app, config.gateway)
    return app


def _add_health(app: FastAPI, health: Health) -> None:
    """What an operator and a load balancer ask."""

    @app.get("/healthz")
    async def healthz() -> dict[str, object]:
        """Answer while the process serves requests; says what is live and what fails."""
        serving = app.state.live.snapshot.serving
        return {
            "status": "ok",
            "generation": serving.generation,
            "aliases": serving.aliases,
            "impressions": "connected" if app.state.impressions.connected else "waiting for Kafka",
            "behind": _told(health, blocking=True),
            "degraded": _told(health, blocking=False),
        }

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        """Answer while the process runs: one that does not should be started again."""
        return {"status": "ok"}

    @app.get("/readyz", responses={503: {"model": ErrorBody}})
    async def readyz() -> JSONResponse:
        """200 where lists can be ranked by what is live now; 503 says which part is behind, since when, and why."""
        behind = health.troubles(blocking=True)
        if not behind:
            return JSONResponse({"status": "ready", "degraded": _told(health, blocking=False)})
        parts = ", ".join(trouble.part for trouble in behind)
        why = "; ".join(f"{trouble.part}: {trouble.what}" for trouble in behind)
        since = f"since {format_us(behind[0].since_us)}"
        return JSONResponse(error_body("behind", parts, since, why), status_code=503)


def _told(health: Health, *, blocking: bool) -> dict[str, dict[str, str]]:
    """What fails, as JSON: part → since when, and why."""
    found = health.troubles(blocking=blocking)
    return {trouble.part: {"since": format_us(trouble.since_us), "what": trouble.what} for trouble in found}


def _add_errors(app: FastAPI, metrics: Metrics) -> None:
    """Every refusal has the same body, whoever refuses."""

    def answer(status: int, body: dict[str, object], headers: Mapping[str, str] | None = None) -> JSONResponse:
        metrics.requests.labels(str(status)).inc()
        return JSONResponse(body, status_code=status, headers=headers)

    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> JSONResponse:
        return answer(error.status, error.body())

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
        return answer(422, error_body("invalid", place, first.get("input"), first["msg"]))

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        status = 422 if error.status_code == 400 else error.status_code  # a body that is no JSON at all
        code = _CODES.get(error.status_code, "refused")
        return answer(status, error_body(code, None, None, str(error.detail)), error.headers)


def _describe(app: FastAPI, settings: GatewaySettings) -> None:
    """Put the setting's limit on candidates into the OpenAPI document; it is checked by hand, for its answer is 413."""
    document = app.openapi()
    candidates = document["components"]["schemas"]["RankRequest"]["properties"]["candidates"]
    candidates |= {"maxItems": settings.max_candidates, "uniqueItems": True}
