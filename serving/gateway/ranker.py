"""One request from question to list: arm, features, scores, order, impression."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from features.dictionary import Level
from features.encoded import JsonObject
from features.errors import FreshrankError, UsageError
from features.events import LAST_US, SCHEMA_VERSION, Impression, Shown, impression_id
from features.times import HOUR, format_us, parse_us
from serving.gateway import ranking
from serving.gateway.api import SHOWN_LIMIT, ApiError, RankedItem, RankRequest, RankResponse, too_many
from serving.gateway.background import Health
from serving.gateway.experiments import Assignment
from serving.gateway.live import LiveState, ServingSnapshot
from serving.gateway.metrics import Metrics
from serving.gateway.scores import Scores, ScoringError, ServedBundle
from serving.settings import GatewaySettings
from serving.state import POPULARITY, Version

if TYPE_CHECKING:
    from features.store.online import Fetched
    from serving.gateway.impressions import ImpressionLog

UNIFORM, MODEL = "uniform", "model"


@dataclass(frozen=True)
class Ranked:
    """What ranked, and how.

    Args:
        placed: The list.
        policy: `uniform`, `model` or `popularity`.
        scored: The bundle that scored and its version, or None.
        fallback: Whether popularity stood in for what could not answer.
    """

    placed: list[ranking.Placed]
    policy: str
    scored: tuple[ServedBundle, Version] | None = None
    fallback: bool = False


class Ranker:
    """Ranks requests.

    Args:
        settings: The gateway's settings.
        live: What is live.
        scores: Triton.
        impressions: Where impressions go.
        metrics: What is counted.
        health: Told when a model cannot score. It does not make the gateway unready: popularity ranks then.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        live: LiveState,
        scores: Scores,
        impressions: ImpressionLog,
        metrics: Metrics,
        health: Health,
    ) -> None:
        self._settings, self._live, self._scores = settings, live, scores
        self._impressions, self._metrics, self._health = impressions, metrics, health

    async def rank(self, request: RankRequest) -> RankResponse:
        """Rank a request and log its impression.

        Raises:
            ApiError: 413 or 422 if the request is wrong, 503 if its features cannot be had.
        """
        began = time.monotonic()
        event_us = self._check(request)
        request_id = request.request_id or uuid.uuid4().hex
        snapshot = self._live.snapshot  # kept to the end, whatever changes meanwhile
        assignment = self._assign(request, snapshot)
        behind = snapshot.behind(assignment.alias) if assignment.alias else None
        pinned = behind[0] if behind else next(iter(snapshot.served.values()), None)
        fetched = await self._fetch(request, event_us, pinned, began)
        columns = dict(fetched.columns)
        columns |= {"user_id": request.user_id, "event_time": event_us, "cand_item": request.candidates}
        columns["cand_text_sha"], columns["cand_image_sha"] = self._live.catalogue.shas(request.candidates)
        if assignment.alias is None:
            placed = ranking.uniform(request_id, len(request.candidates), self._length(len(request.candidates)))
            ranked = Ranked(placed, UNIFORM)
        else:
            ranked = await self._by_model(assignment.alias, snapshot, columns, fetched, event_us, began)
        self._metrics.policies.labels(ranked.policy).inc()
        if request.preview is None:
            self._log(request, request_id, event_us, assignment.experiments, columns, fetched, ranked)
        scored = ranked.scored
        return RankResponse(
            request_id=request_id,
            bundle_id=scored[0].bundle if scored else None,
            triton_model=scored[1].triton_model if scored else None,
            triton_version=scored[1].version if scored else None,
            experiments=assignment.experiments,
            items=[
                RankedItem(item_id=request.candidates[place.index], position=position, score=place.score)
                for position, place in enumerate(ranked.placed)
            ],
            fallback="popularity" if ranked.fallback else None,
            unknown_items=list(fetched.unknown_items),
        )

    @staticmethod
    def _assign(request: RankRequest, snapshot: ServingSnapshot) -> Assignment:
        """The user's arm, or the one to preview."""
        if request.preview is None:
            return snapshot.experiments.assign(request.user_id)
        assignment = snapshot.experiments.preview(request.preview)
        if assignment is None:
            remedy = "name an arm of the active experiment, or leave it out"
            raise ApiError(422, "no_such_arm", field="preview", value=request.preview, remedy=remedy)
        return assignment

    def _check(self, request: RankRequest) -> int:
        """What the wire's types cannot say; the request's time, µs."""
        if len(request.candidates) > self._settings.max_candidates:
            raise too_many(len(request.candidates), self._settings.max_candidates)
        seen: set[str] = set()
        for item in request.candidates:
            if item in seen:
                raise ApiError(422, "repeated_candidate", field="candidates", value=item, remedy="name each item once")
            seen.add(item)
        if request.time is None:
            return time.time_ns() // 1000
        if not self._settings.accept_client_time:
            remedy = "leave it out, or set gateway.accept_client_time for replays"
            raise ApiError(422, "client_time", field="time", value=request.time, remedy=remedy)
        try:
            event_us = parse_us(request.time)
        except (UsageError, OverflowError):
            event_us = -1
        if not 0 <= event_us <= LAST_US:
            remedy = "write RFC 3339 with a zone, from 1970 to 9999 in UTC, such as 2025-03-01T02:00:00Z"
            raise ApiError(422, "not_a_time", field="time", value=request.time, remedy=remedy)
        return event_us

    async def _fetch(self, request: RankRequest, event_us: int, served: ServedBundle | None, began: float) -> Fetched:
        start = time.monotonic()

        def fetch() -> Fetched:
            reader = self._live.features(served.feature_service if served else None)
            return reader.fetch(request.user_id, request.candidates, request.context, event_us)

        try:
            fetched = await asyncio.wait_for(asyncio.to_thread(fetch), self._left(began))
        except TimeoutError:
            value, remedy = self._settings.timeout_ms, "try again, or raise gateway.timeout_ms"
            raise ApiError(503, "features_late", field="timeout_ms", value=value, remedy=remedy) from None
        except FreshrankError as error:
            raise ApiError(
                503, error.code, field=error.field, value=error.value, remedy=error.remedy or "try again later"
            ) from error
        self._metrics.features_seconds.observe(time.monotonic() - start)
        self._metrics.candidates.inc(len(request.candidates))
        self._metrics.unknown_items.inc(len(fetched.unknown_items))
        self._metrics.unknown_users.inc(not fetched.known_user)
        return fetched

    async def _by_model(
        self,
        alias: str,
        snapshot: ServingSnapshot,
        columns: JsonObject,
        fetched: Fetched,
        event_us: int,
        began: float,
    ) -> Ranked:
        """A list by the bundle behind an alias, or by popularity where that cannot score."""
        candidates = columns["cand_item"]
        scores, scored = await self._score(alias, snapshot, columns, began)
        fallback = scores is None
        values: Sequence[float] = ranking.popularity(columns, len(candidates)) if scores is None else scores
        unknown = set(fetched.unknown_items)
        since = (event_us - fetched.feature_cutoff) / HOUR if fetched.feature_cutoff else 0.0
        young = ranking.young_listings(columns, len(candidates), [item in unknown for item in candidates], since)
        placed = ranking.best(values, self._length(len(candidates)), young, self._settings.young_slots)
        return Ranked(placed, POPULARITY if fallback or alias == POPULARITY else MODEL, scored, fallback)

    async def _score(
        self, alias: str, snapshot: ServingSnapshot, columns: JsonObject, began: float
    ) -> tuple[Sequence[float] | None, tuple[ServedBundle, Version] | None]:
        start = time.monotonic()
        for attempt in range(2):
            behind = snapshot.behind(alias)
            if behind is None:
                self._metrics.fallbacks.labels("not_deployed").inc()
                return None, None
            try:
                scores = await self._scores.score(*behind, columns, self._left(began))
                self._metrics.scoring_seconds.observe(time.monotonic() - start)
                self._health.well(f"scoring_{alias}")
                return scores, behind
            except ScoringError as error:
                # A gateway that was suspended may hold a version that retired since: once more with what is true now.
                self._live.refresh()
                newer = self._live.snapshot
                if attempt == 0 and newer.behind(alias) != behind and self._left(began) > 0.01:
                    snapshot = newer
                    continue
                self._health.failed(f"scoring_{alias}", error, blocking=False)
                self._metrics.fallbacks.labels("scoring").inc()
                return None, None
        return None, None

    def _log(
        self,
        request: RankRequest,
        request_id: str,
        event_us: int,
        experiments: dict[str, str],
        columns: JsonObject,
        fetched: Fetched,
        ranked: Ranked,
    ) -> None:
        prices: Sequence[float | None] = columns.get("i_price") or [None] * len(request.candidates)
        shown = [
            Shown(
                item_id=request.candidates[place.index],
                position=position,
                price_minor=price_minor(prices[place.index]),
                score=place.score,
                propensity=place.propensity,
            )
            for position, place in enumerate(ranked.placed)
        ]
        shown_at = [place.index for place in ranked.placed]
        seen = seen_columns(columns, fetched.levels, shown_at) if self._settings.log_features else None
        self._impressions.put(
            Impression(
                event_id=impression_id(request_id),
                event_time=format_us(event_us),
                schema_version=SCHEMA_VERSION,
                request_id=request_id,
                user_id=request.user_id,
                items=shown,
                context=dict(request.context),
                experiments=experiments,
                policy=ranked.policy,
                bundle_id=ranked.scored[0].bundle if ranked.scored else None,
                feature_cutoff=format_us(fetched.feature_cutoff) if fetched.feature_cutoff is not None else None,
                features_seen=seen,
            )
        )

    def _length(self, candidates: int) -> int:
        """Places of the list."""
        return min(self._settings.list_length or candidates, candidates, SHOWN_LIMIT)

    def _left(self, began: float) -> float:
        """Seconds to the deadline."""
        return max(began + self._settings.timeout_ms / 1000 - time.monotonic(), 0.001)


def price_minor(price: float | None) -> int | None:
    """A price as an impression says it; None where it is unknown, which is not 0.

    Example:
        >>> price_minor(99.0), price_minor(0.0), price_minor(None), price_minor(float("nan"))
        (99, 0, None, None)
    """
    return round(price) if price is not None and math.isfinite(price) else None


def seen_columns(columns: JsonObject, levels: Mapping[str, Level], shown: Sequence[int]) -> JsonObject:
    """The columns that an impression logs: those of candidates for the shown ones, in the list's order.

    Args:
        columns: Column → value.
        levels: The level of each, as the data dictionary tells it.
        shown: Index of each shown candidate.

    Example:
        >>> told: dict[str, Level] = {"u_age": "request", "i_price": "candidate"}
        >>> seen_columns({"u_age": "30", "i_price": [1.0, 2.0, 3.0]}, told, [2, 0])
        {'u_age': '30', 'i_price': [3.0, 1.0]}
    """
    return {
        name: [value[index] for index in shown] if levels[name] == "candidate" else value
        for name, value in columns.items()
    }
