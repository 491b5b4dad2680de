"""The machine's zone changes nothing: window, snapshots and what is served are the same under each."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from features.times import run_cut
from tests.lake.shop import price

DAY = dt.date(2025, 3, 9)  # New York's clocks skip an hour
ZONES = ("UTC", "America/New_York", "Asia/Kathmandu")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the same shop says of itself on machines of three zones."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.lake.shop"]
    started = {
        zone: subprocess.Popen(
            [*command, str(tmp_path_factory.mktemp("shop")), DAY.isoformat()],
            env={**os.environ, "TZ": zone}, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, encoding="utf-8",
        )
        for zone in ZONES
    }  # fmt: skip
    answers = {zone: process.communicate(timeout=300)[0] for zone, process in started.items()}
    assert [process.returncode for process in started.values()] == [0, 0, 0]
    return {zone: json.loads(answer) for zone, answer in answers.items()}


@pytest.mark.parametrize("zone", ZONES[1:])
def test_the_machines_zone_changes_nothing(told: dict[str, dict[str, Any]], zone: str) -> None:
    """Training rows got the snapshot of the day before, and the online store's cutoff lay hours ahead."""
    assert told[zone] == told["UTC"]


def test_every_request_gets_the_snapshot_of_its_own_cut(told: dict[str, dict[str, Any]]) -> None:
    assert set(told["UTC"]["prices"]) == {f"r0-{hour:02}" for hour in range(0, 24, 4)}
    for request, found in told["UTC"]["prices"].items():
        assert found == price(1 if request < "r0-02" else 0)
    assert told["UTC"]["cutoff"] == run_cut(DAY)
