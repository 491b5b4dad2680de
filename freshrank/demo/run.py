"""The demo, as an outline: history, a first run, a lived day, a second run under traffic, a report."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from features import atomic
from features.errors import UnreachableError
from features.eventlog.dead import count as dead_letters
from features.times import format_us, run_cut, run_start
from freshrank.demo.live import Answered, Live, wait_for_gateway
from freshrank.demo.plan import EXPERIMENTS, JOURNEY_DAY, JOURNEY_FROM, Plan
from freshrank.demo.shoppers import Outbox, Shoppers
from freshrank.demo.steps import MemoryWatch, Steps
from freshrank.environment import PREFIX
from freshrank.settings import Settings, load
from freshrank.sources.city.simulate import Request
from freshrank.stack.addresses import gateway_url, resolve
from freshrank.stack.processes import stack_id

LIVE, SWAP, PREVIEWS = "live.jsonl", "swap.jsonl", "previews.json"
SWAP_SPREAD_S = 400.0  # the requests of a day are spread over this while the second run goes on
SWAP_SEEN_S = 30.0  # at most so long until the new version has answered
SWAP_SHOWN_S = 4.0  # so long it goes on answering, to be seen on the time line


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
        dead_letters: Dead letters by topic.
        versions: Versions that Triton held, by bundle.
        previews: Request → arm → items: lists of both rankers for the same requests.
    """

    plan: Plan
    settings: Settings
    first: dt.date
    second: dt.date
    published: dict[str, int]
    steps: dict[str, float]
    wall_s: float
    peak_mb: float
    dead_letters: dict[str, int]
    versions: dict[str, Any]
    previews: dict[str, dict[str, list[str]]]


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
    with stack(steps), MemoryWatch(stack_id(settings.stack.dir)) as memory:
        first, second, published = _city(plan, settings, steps)
        dead = dead_letters(settings.kafka)
    wall_s, peak_mb = time.monotonic() - began, memory.peak_mb
    versions, previews = live_versions(settings), read_previews(plan)
    return Done(plan, settings, first, second, published, steps.seconds, wall_s, peak_mb, dead, versions, previews)


def run_journey(plan: Plan, photos: str = "") -> Done:
    """Run the demo on real purchases: seven days train, the eighth judges; nobody answers, so nothing is lived.

    Args:
        plan: What to do.
        photos: Folder of the GroceryStoreDataset; empty: items without photos.

    Returns:
        What the report is made from.
    """
    began = time.monotonic()
    settings = prepare(plan)
    steps = Steps(plan.folder, {PREFIX + "SETTINGS": str(plan.settings_file)})
    day = JOURNEY_DAY
    with stack(steps), MemoryWatch(stack_id(settings.stack.dir)) as memory:
        words = ["source", "replay", plan.source, "--seed", str(plan.seed), "--from", JOURNEY_FROM.isoformat()]
        words += ["--to", format_us(run_cut(day)), *(["--photos", photos] if photos else [])]
        published = steps.command("history", "real purchases go to Kafka", *words)["topics"]
        steps.command("features_apply", "feature definitions", "features", "apply")
        retrain(steps, "run_1", day.isoformat())
        dead = dead_letters(settings.kafka)
    wall_s, peak_mb, versions = time.monotonic() - began, memory.peak_mb, live_versions(settings)
    return Done(plan, settings, day, day, published, steps.seconds, wall_s, peak_mb, dead, versions, {})


def _city(plan: Plan, settings: Settings, steps: Steps) -> tuple[dt.date, dt.date, dict[str, int]]:
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
            requests = awake(shoppers, plan.history_days + 1)
            answered = list(live.run(requests))
            said.append(f"{len(answered)} requests, {_failed(answered)} errors")
            _need_answers(answered, settings)
            live.publish_until(run_cut(second))
            send.confirm()
        with steps.timed("previews", "both rankers rank the same requests, for the report") as said:
            said.append(f"{preview(live, requests, plan)} requests")
        shoppers.publish_catalogue(plan.history_days + 2)
        with traffic(live, shoppers, plan) as swap:
            retrain(steps, "run_2", second.isoformat())
        said.append(f"{len(swap)} requests while versions were swapped, {_failed(swap)} errors")
        print(f"✓ {said[-1]}", file=sys.stderr)
    return first, second, published


def live_versions(settings: Settings) -> dict[str, Any]:
    """Version of each bundle that was ever deployed, with its state."""
    file = settings.layout.serving_state
    return dict(json.loads(file.read_text(encoding="utf-8"))["versions"]) if file.exists() else {}


def read_previews(plan: Plan) -> dict[str, dict[str, list[str]]]:
    """Request → arm → items, as the live phase wrote them."""
    file = plan.folder / PREVIEWS
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def awake(shoppers: Shoppers, number: int) -> list[Request]:
    """A day's requests from 02:00 UTC on.

    A lived day begins at the cut of the run before it: what happened earlier would have been known to that run, which
    is over by now.
    """
    day = shoppers.day(number)
    return [request for request in shoppers.city.requests(day) if request.time_us >= run_start(day)]


def preview(live: Live, requests: Sequence[Request], plan: Plan) -> int:
    """Keep the lists of both rankers for evenly spaced requests.

    Returns:
        How many requests.
    """
    every = max(1, len(requests) // plan.previews)
    chosen = requests[::every][: plan.previews]
    lists = {r.request_id: {arm: live.preview(r, arm) for arm in ("camenn", "popularity")} for r in chosen}
    (plan.folder / PREVIEWS).write_text(json.dumps(lists), encoding="utf-8")
    return len(lists)


def retrain(steps: Steps, name: str, day: str) -> dict[str, Any]:
    """Trigger the daily DAG for a day and wait for its end."""
    words = ("airflow", "trigger", "--date", day, "--wait")
    return steps.command(name, f"Airflow runs the daily retrain for {day}", *words, tell=True)


@contextmanager
def traffic(live: Live, shoppers: Shoppers, plan: Plan) -> Iterator[list[Answered]]:
    """Requests of the next day keep coming while the block runs, and until its new version has answered one.

    Yields:
        The answered requests, filled as they come.

    Raises:
        Exception: What ended the requests early, after the block.
    """
    stop, answered, failed = threading.Event(), list[Answered](), list[Exception]()
    requests = awake(shoppers, plan.history_days + 2)
    live.log, live.pace_s = plan.folder / SWAP, max(0.2, SWAP_SPREAD_S / len(requests))

    def ask() -> None:
        try:
            for one in live.run(requests, stop=stop):
                answered.append(one)
        except Exception as error:  # a thread's own error would end it unheard
            failed.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answered
        live.pace_s, before = 0.05, live.versions[:1]
        until = time.monotonic() + SWAP_SEEN_S
        while thread.is_alive() and live.versions[-1:] == before and time.monotonic() < until:
            stop.wait(0.2)
        stop.wait(SWAP_SHOWN_S)
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]


def prepare(plan: Plan) -> Settings:
    """Make the run's folder anew, with its settings.

    Returns:
        The settings, addresses filled in.
    """
    if plan.folder.exists():
        _down(plan)
        shutil.rmtree(plan.folder)
    plan.folder.mkdir(parents=True)
    plan.settings_file.write_text(plan.settings(), encoding="utf-8")
    settings = resolve(load(plan.settings_file))
    atomic.write_text(settings.layout.root / "experiments.toml", EXPERIMENTS)
    os.environ[PREFIX + "SETTINGS"] = str(plan.settings_file)
    return settings


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


def _need_answers(answered: Sequence[Answered], settings: Settings) -> None:
    """Stop where the gateway answered hardly anything: a report on it would mislead."""
    if 2 * _failed(answered) >= len(answered):
        status = next((row.status for row in answered if row.status != 200), 0)
        raise UnreachableError(
            f"the gateway answered {len(answered) - _failed(answered)} of {len(answered)} requests",
            field="status",
            value=status,
            remedy=f"see {settings.layout.logs / 'gateway.log'}",
        )


def _failed(answered: Sequence[Answered]) -> int:
    return sum(row.status != 200 for row in answered)
