"""Repeated requests: one answer for an id, as long as it is remembered, and the newest are remembered longest."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from serving.gateway import repeats
from serving.gateway.api import ApiError, RankRequest, RankResponse
from serving.gateway.repeats import Repeats


class Ranks:
    """Ranks, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        self.held: dict[str, asyncio.Event] = {}
        self.fail = False

    async def __call__(self, request: RankRequest) -> RankResponse:
        self.asked.append(request.request_id)
        if request.request_id in self.held:
            await self.held[request.request_id].wait()
        if self.fail:
            raise ApiError(503, "features_late", field=None, value=None, remedy="try again")
        return RankResponse(
            request_id=request.request_id or f"made{len(self.asked)}", bundle_id=None, triton_model=None,
            triton_version=None, experiments={}, items=[], fallback=None, unknown_items=[],
        )  # fmt: skip


def request(name: str | None, user: str = "u") -> RankRequest:
    """A request."""
    return RankRequest(request_id=name, user_id=user, candidates=["a"], preview=None, time=None)


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run it, but not for ever."""
    asyncio.run(asyncio.wait_for(story, 30))


def test_the_oldest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "KEPT", 3)

    async def story() -> None:
        known, ranks = Repeats(), Ranks()
        for name in ("a", "b", "c", "d"):
            await known.once(request(name), ranks)
        for name in ("b", "c", "d"):
            await known.once(request(name), ranks)
        assert ranks.asked == ["a", "b", "c", "d"], "the newest three are remembered"
        await known.once(request("a"), ranks)
        assert ranks.asked[4:] == ["a"], "the oldest is not"
        assert len(known._known) == 3

    run(story())


def test_a_repetition_during_the_first_waits_for_its_answer() -> None:
    async def story() -> None:
        known, ranks = Repeats(), Ranks()
        ranks.held["a"] = asyncio.Event()
        first, second = (asyncio.create_task(known.once(request("a"), ranks)) for _ in range(2))
        while ranks.asked != ["a"]:
            await asyncio.sleep(0)
        with pytest.raises(ApiError) as refused:
            await known.once(request("a", "other"), ranks)
        assert (refused.value.status, refused.value.code) == (422, "request_id_reused")
        ranks.held["a"].set()
        assert await first is await second
        assert ranks.asked == ["a"]

    run(story())


def test_an_error_is_not_remembered_even_if_its_id_was_forgotten_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "KEPT", 1)

    async def story() -> None:
        known, ranks = Repeats(), Ranks()
        ranks.held["a"] = asyncio.Event()
        first = asyncio.create_task(known.once(request("a"), ranks))
        while ranks.asked != ["a"]:
            await asyncio.sleep(0)
        await known.once(request("b"), ranks)  # `a` is the oldest, and is forgotten while it is ranked
        ranks.fail = True
        ranks.held["a"].set()
        with pytest.raises(ApiError):
            await first
        ranks.fail = False
        assert (await known.once(request("a"), ranks)).request_id == "a"

    run(story())


def test_requests_without_an_id_are_each_ranked() -> None:
    async def story() -> None:
        known, ranks = Repeats(), Ranks()
        for _ in range(3):
            await known.once(request(None), ranks)
        assert len(ranks.asked) == 3 and not known._known

    run(story())
