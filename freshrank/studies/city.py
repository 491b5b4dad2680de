"""The city's window for studies: its first eight days through Kafka, event log and feature store, without a demo."""

from __future__ import annotations

import datetime as dt
import shutil
from dataclasses import dataclass
from pathlib import Path

from freshrank.demo.steps import Steps
from freshrank.environment import PREFIX
from freshrank.settings import Settings, load
from freshrank.sources import find

PORT_BASE = 18200


@dataclass(frozen=True)
class CityRun:
    """Where a city of a study lives.

    Args:
        seed: Its seed.
        runs: Folder of all runs.
        port_base: First port of its stack, which is up only while the window is built.
    """

    seed: int = 100
    runs: Path = Path("runs")
    port_base: int = PORT_BASE

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return (self.runs / f"study-city-{self.seed}").resolve()

    @property
    def settings_file(self) -> Path:
        """The run's settings."""
        return self.folder / "freshrank.toml"

    def settings(self) -> str:
        """The run's `freshrank.toml`."""
        return f'[stack]\ndir = "stack"\nport_base = {self.port_base}\n'


def built(run: CityRun) -> tuple[Settings, dt.date]:
    """The settings of a run whose window exists, made now where it does not, and the day D that judges.

    A run that was interrupted is begun anew.

    Args:
        run: Which city.
    """
    city = find("city")
    first, day = city.first_day, city.judged_day
    done = run.folder / "built"
    if not done.exists():
        steps = Steps(run.folder, {PREFIX + "SETTINGS": str(run.settings_file)})
        if run.settings_file.exists():
            steps.command("down", "an older run stops", "down")
        shutil.rmtree(run.folder, ignore_errors=True)
        run.folder.mkdir(parents=True)
        run.settings_file.write_text(run.settings(), encoding="utf-8")
        steps.command("up", "Kafka and Redis start", "up", "--only", "kafka,redis")
        try:
            _build(steps, run.seed, first, day)
        finally:
            steps.command("down", "the servers stop", "down")
        done.touch()
    return load(run.settings_file), day


def _build(steps: Steps, seed: int, first: dt.date, day: dt.date) -> None:
    after = (day + dt.timedelta(days=1)).isoformat()
    date = ("--date", day.isoformat())
    replay = ("source", "replay", "city", "--seed", str(seed), "--from", first.isoformat(), "--to", after)
    steps.command("history", "the city shops for four weeks and lives eight days", *replay)
    steps.command("features_apply", "feature definitions", "features", "apply")
    steps.command("ingest", "Kafka to the event log", "ingest", "--until", f"{after}T02:00:00Z")
    steps.command("labels", "requests with their labels", "labels", *date)
    steps.command("features", "features as of each day", "features", "materialize", *date)
    steps.command("content", "text and photos through their encoders", "content", "encode", *date)
    steps.command("window", "the window", "window", "build", *date)
