"""The demo's traffic: what goes wrong beside a run is not unheard."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from features.errors import UnreachableError
from freshrank.demo import run
from freshrank.demo.plan import DemoPlan


class Broken:
    """A live phase that answers one request and then meets a Kafka that has gone."""

    def __init__(self) -> None:
        self.versions: list[int] = []
        self.over = threading.Event()

    def run(self, requests: Any, *, stop: threading.Event) -> Iterator[str]:  # noqa: ARG002
        yield "answered"
        self.over.set()
        raise UnreachableError("Kafka does not answer")


def test_traffic_that_breaks_off_ends_the_demo_after_the_run_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "SWAP_SHOWN_S", 0.0)
    live: Any = Broken()
    requests: Any = [SimpleNamespace()]
    with (
        pytest.raises(UnreachableError, match="Kafka does not answer"),
        run.traffic(live, requests, DemoPlan(name="x", runs=tmp_path)) as answered,
    ):
        assert live.over.wait(10)
    assert [str(one) for one in answered] == ["answered"]
