"""Proxies in the environment never come between us and servers on this machine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from freshrank.commands import rank
from freshrank.demo import live
from serving.gateway.scores import Scores, ServedBundle
from serving.inputs import ServedInput
from serving.state import Version, VersionState
from serving.triton import TritonClient
from tests.serving import grpc_triton, http_gateway


@pytest.fixture(autouse=True)
def a_proxy_that_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the shell of a company, where nobody has set `no_proxy`."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_triton_is_reached_in_spite_of_a_proxy() -> None:
    with grpc_triton.serve() as url:
        triton = TritonClient(url)
        assert triton.live() and triton.ready("m", 1)


def test_the_gateway_scores_in_spite_of_a_proxy() -> None:
    served = ServedBundle(
        "b", (ServedInput("cand__item_id", "string", "cand_item", "candidate"),), "cvr_logit", "service"
    )

    async def score(url: str) -> Any:
        scores = Scores(url)
        try:
            return await scores.score(served, Version("m", 1, VersionState.LIVE), {"cand_item": ["a", "b"]}, 10.0)
        finally:
            await scores.close()

    with grpc_triton.serve() as url:
        assert asyncio.run(score(url)) == [0.0, 1.0]


def test_the_gateway_is_asked_in_spite_of_a_proxy() -> None:
    with http_gateway.serve() as gateway:
        gateway.answer(200, {"items": []})
        assert rank.ask(gateway.url, {"user_id": "u", "candidates": ["a"]}, 10.0) == {"items": []}
        live.wait_for_gateway(gateway.url, deadline_s=10.0)
