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

from features import atomic
from features.encoded import JsonObject
from features.errors import UnreachableError, UsageError
from features.eventlog.dead import count as dead_letters
from features.times import format_us, run_cut
from freshrank.demo.days import SimulatedDays
from freshrank.demo.live import Answered, DemoTraffic, wait_for_gateway
from freshrank.demo.outbox import Outbox
from freshrank.demo.plan import CHAMPION_ARM, CONTROL_ARM, EXPERIMENTS, DemoPlan
from freshrank.demo.steps import MemoryWatch, Steps
from freshrank.environment import PREFIX
from freshrank.settings import Settings, load
from freshrank.sources import Asking, Source, find
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

    plan: DemoPlan
    settings: Settings
    first: dt.date
    second: dt.date
    published: dict[str, int]
    steps: dict[str, float]
    wall_s: float
    peak_mb: float
    dead_letters: dict[str, int]
    versions: JsonObject
    previews: dict[str, dict[str, list[str]]]


def run(plan: DemoPlan, photos: str = "") -> Done:
    """Run the demo: history trains a first model, which is judged; where users can be asked, days are lived after it.

    Args:
        plan: What to do.
        photos: Folder of photos, for a source that makes none; empty: items without photos.

    Returns:
        What the report is made from.

    Raises:
        UsageError: If the source is not installed, or makes its own photos and got some.
    """
    began = time.monotonic()
    source = find(plan.source)
    settings = prepare(plan, source)
    steps = Steps(plan.folder, {PREFIX + "SETTINGS": str(plan.settings_file)})
    simulation = source.simulation(settings.layout, plan.seed, small=plan.small, options=plan.options)
    if simulation is not None and photos:
        raise UsageError("this source makes its own", field="photos", value=photos, remedy="leave it out")
    with stack(steps), MemoryWatch(stack_id(settings.stack.dir)) as memory:
        if simulation is None:
            first, second, published = _replayed(plan, source, steps, photos)
        else:
            days = SimulatedDays(simulation, source.first_day, source.judged_day, settings.kafka)
            first, second, published = _lived(plan, days, settings, steps)
        dead = dead_letters(settings.kafka)
    wall_s, peak_mb = time.monotonic() - began, memory.peak_mb
    versions, previews = live_versions(settings), read_previews(plan)
    return Done(plan, settings, first, second, published, steps.seconds, wall_s, peak_mb, dead, versions, previews)


def _replayed(plan: DemoPlan, source: Source, steps: Steps, photos: str) -> tuple[dt.date, dt.date, dict[str, int]]:
    """History trains, its last day judges; nobody answers, so nothing is lived."""
    day = source.judged_day
    words = ["source", "replay", plan.source, "--seed", str(plan.seed), "--from", source.first_day.isoformat()]
    words += ["--to", format_us(run_cut(day)), *(["--photos", photos] if photos else [])]
    published = steps.command("history", "events of the past go to Kafka", *words)["topics"]
    steps.command("features_apply", "feature definitions", "features", "apply")
    retrain(steps, "run_1", day.isoformat())
    return day, day, published


def _lived(
    plan: DemoPlan, days: SimulatedDays, settings: Settings, steps: Steps
) -> tuple[dt.date, dt.date, dict[str, int]]:
    """History trains a first model, a day is lived against the gateway, a second model is swapped in under traffic."""
    url = gateway_url(settings)
    with steps.timed("history", f"{plan.source} lives until {days.judged} and tells Kafka") as said:
        published = days.publish_history()
        said.append(f"{sum(published.values())} records to Kafka")
    steps.command("features_apply", "feature definitions", "features", "apply")
    first, second = days.judged, days.judged + dt.timedelta(days=1)
    third = second + dt.timedelta(days=1)
    retrain(steps, "run_1", first.isoformat())
    wait_for_gateway(url)
    with Outbox(settings.kafka) as send:
        live = DemoTraffic(url, days.answer, send, plan.folder / LIVE)
        live.schedule(days.late)
        with steps.timed("live", f"{plan.source} lives {second} against the gateway") as said:
            requests = days.requests(second)
            answered = list(live.run(requests))
            said.append(f"{len(answered)} requests, {_failed(answered)} errors")
            _need_answers(answered, settings)
            live.publish_until(run_cut(second))
            send.confirm()
        with steps.timed("previews", "both rankers rank the same requests, for the report") as said:
            said.append(f"{preview(live, requests, plan)} requests")
        days.publish_catalogue(third)
        with traffic(live, days.requests(third), plan) as swap:
            retrain(steps, "run_2", second.isoformat())
        said.append(f"{len(swap)} requests while versions were swapped, {_failed(swap)} errors")
        print(f"✓ {said[-1]}", file=sys.stderr)
    return first, second, published


def live_versions(settings: Settings) -> dict[str, object]:
    """Version of each bundle that was ever deployed, with its state."""
    file = settings.layout.serving_state
    return dict(json.loads(file.read_text(encoding="utf-8"))["versions"]) if file.exists() else {}


def read_previews(plan: DemoPlan) -> dict[str, dict[str, list[str]]]:
    """Request → arm → items, as the live phase wrote them."""
    file = plan.folder / PREVIEWS
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def preview(live: DemoTraffic, requests: Sequence[Asking], plan: DemoPlan) -> int:
    """Keep the lists of both rankers for evenly spaced requests.

    Returns:
        How many requests.
    """
    every = max(1, len(requests) // plan.previews)
    chosen = requests[::every][: plan.previews]
    lists = {r.request_id: {arm: live.preview(r, arm) for arm in (CHAMPION_ARM, CONTROL_ARM)} for r in chosen}
    (plan.folder / PREVIEWS).write_text(json.dumps(lists), encoding="utf-8")
    return len(lists)


def retrain(steps: Steps, name: str, day: str) -> JsonObject:
    """Trigger the daily DAG for a day and wait for its end."""
    words = ("airflow", "trigger", "--date", day, "--wait")
    return steps.command(name, f"Airflow runs the daily retrain for {day}", *words, tell=True)


@contextmanager
def traffic(live: DemoTraffic, requests: Sequence[Asking], plan: DemoPlan) -> Iterator[list[Answered]]:
    """Requests keep coming while the block runs, and until its new version has answered one.

    Yields:
        The answered requests, filled as they come.

    Raises:
        Exception: What ended the requests early, after the block.
    """
    stop, answered, failed = threading.Event(), list[Answered](), list[Exception]()
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


def prepare(plan: DemoPlan, source: Source) -> Settings:
    """Make the run's folder anew, with its settings.

    Returns:
        The settings, addresses filled in.
    """
    if plan.folder.exists():
        _down(plan)
        shutil.rmtree(plan.folder)
    plan.folder.mkdir(parents=True)
    plan.settings_file.write_text(plan.settings(source.features), encoding="utf-8")
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


def _down(plan: DemoPlan) -> None:
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
