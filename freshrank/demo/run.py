"""The demo, as an outline: history, a first run, a lived day, a second run under traffic, a report."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from features.times import day_start
from freshrank.demo.live import Answered, Live, wait_for_gateway
from freshrank.demo.plan import Plan
from freshrank.demo.shoppers import Outbox, Shoppers
from freshrank.demo.steps import MemoryWatch, Steps
from freshrank.settings import PREFIX, Settings, load
from freshrank.stack.addresses import gateway_url, resolve

LIVE, SWAP = "live.jsonl", "swap.jsonl"


@dataclass(frozen=True)
class Done:
    """What the demo leaves for its report.

    Args:
        plan: The demo.
        settings: The run's settings, addresses filled in.
        first: The day of the first run.
        second: The day of the second run.
        published: Records sent to Kafka, by topic.
        steps: Seconds of each step.
        wall_s: Seconds in all.
        peak_mb: Peak memory of everything, MB.
    """

    plan: Plan
    settings: Settings
    first: dt.date
    second: dt.date
    published: dict[str, int]
    steps: dict[str, float]
    wall_s: float
    peak_mb: float


def run_city(plan: Plan) -> Done:
    """Run the demo on the city.

    Args:
        plan: What to do.

    Returns:
        What the report is made from.
    """
    began = time.monotonic()
    settings = prepare(plan)
    steps = Steps(plan.folder, {PREFIX + "SETTINGS": str(plan.settings_file)})
    with stack(steps), MemoryWatch(str(settings.stack.dir)) as memory:
        first, second = _city(plan, settings, steps)
        published = first.pop("published")
        return Done(
            plan,
            settings,
            first["day"],
            second["day"],
            published,
            steps.seconds,
            time.monotonic() - began,
            memory.peak_mb,
        )


def _city(plan: Plan, settings: Settings, steps: Steps) -> tuple[dict[str, Any], dict[str, Any]]:
    url = gateway_url(settings)
    shoppers = Shoppers(plan, settings.layout, settings.kafka)
    with steps.timed("history", f"the city shops for four weeks and lives {plan.history_days} days") as said:
        published = shoppers.publish_history()
        said.append(f"{sum(published.values())} records to Kafka")
    steps.command("features_apply", "feature definitions", "features", "apply")
    first, second = shoppers.day(plan.history_days), shoppers.day(plan.history_days + 1)
    retrain(steps, "run_1", first.isoformat())
    wait_for_gateway(url)
    with Outbox(settings.kafka) as send:
        live = Live(url, shoppers.answer, send, plan.folder / LIVE)
        live.schedule(shoppers.late)
        with steps.timed("live", f"the city lives {second} against the gateway") as said:
            answered = list(live.run(shoppers.city.requests(second)))
            said.append(f"{len(answered)} requests, {_failed(answered)} errors")
            live.publish_until(day_start(shoppers.day(plan.history_days + 2)))
        shoppers.publish_catalogue(plan.history_days + 2)
        with traffic(live, shoppers, plan) as swap:
            retrain(steps, "run_2", second.isoformat())
        said.append(f"{len(swap)} requests while versions were swapped, {_failed(swap)} errors")
        print(f"✓ {said[-1]}", file=sys.stderr)
    return first, second, published


def retrain(steps: Steps, name: str, day: str) -> dict[str, Any]:
    """Trigger the daily DAG for a day and wait for its end."""
    return steps.command(
        name, f"Airflow runs the daily retrain for {day}", "airflow", "trigger", "--date", day, "--wait"
    )


@contextmanager
def traffic(live: Live, shoppers: Shoppers, plan: Plan) -> Iterator[list[Answered]]:
    """Requests of the next day keep coming while the block runs, and a little longer.

    Yields:
        The answered requests, filled as they come.
    """
    stop, answered = threading.Event(), list[Answered]()
    day = shoppers.day(plan.history_days + 2)
    live.log = plan.folder / SWAP

    def ask() -> None:
        answered.extend(live.run(shoppers.city.requests(day), stop=stop, pace_s=0.1))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answered
    finally:
        stop.wait(3.0)
        stop.set()
        thread.join()


def prepare(plan: Plan) -> Settings:
    """Make the run's folder anew, with its settings.

    Returns:
        The settings, addresses filled in.
    """
    if plan.folder.exists():
        _down(plan)
        shutil.rmtree(plan.folder)
    plan.folder.mkdir(parents=True)
    plan.settings_file.write_text(plan.settings())
    os.environ[PREFIX + "SETTINGS"] = str(plan.settings_file)
    return resolve(load(plan.settings_file))


@contextmanager
def stack(steps: Steps) -> Iterator[None]:
    """The servers, from start to stop."""
    steps.command("up", "Kafka, Redis, Triton, Airflow and the gateway start", "up")
    try:
        yield
    finally:
        steps.command("down", "the servers stop", "down")


def _down(plan: Plan) -> None:
    if plan.settings_file.exists():
        Steps(plan.folder, {PREFIX + "SETTINGS": str(plan.settings_file)}).command("down", "an older run stops", "down")


def _failed(answered: list[Answered]) -> int:
    return sum(row.status != 200 for row in answered)
