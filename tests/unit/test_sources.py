"""Sources are found by entry point, keep to one interface, and a missing one is one clear line."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from features.errors import UsageError
from features.layout import Layout
from features.publish import Published
from features.record import Record
from features.settings import KafkaSettings
from features.times import DAY, day_start, run_cut
from freshrank import sources
from freshrank.demo import days as demo_days
from freshrank.demo.days import SimulatedDays
from freshrank.demo.plan import DemoPlan
from freshrank.sources import Source
from simulator.city.config import CityConfig
from simulator.city.source import CitySource
from simulator.completejourney.source import JourneySource

ROOT = Path(__file__).resolve().parents[2]
CITY: Source = CitySource()
JOURNEY: Source = JourneySource()


def installed(monkeypatch: pytest.MonkeyPatch, **points: str) -> None:
    """Let these entry points be all there are."""
    found = [EntryPoint(name, value, sources.GROUP) for name, value in points.items()]
    monkeypatch.setattr(sources, "entry_points", lambda group: [one for one in found if one.group == group])


def declared() -> dict[str, str]:
    """The entry points that the project declares."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return dict(project["entry-points"][sources.GROUP])


@pytest.mark.parametrize("name", sorted(declared()))
def test_a_declared_source_keeps_to_the_interface(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, **declared())
    found = sources.find(name)
    assert isinstance(found, Source)
    assert found.first_day < found.judged_day


def test_the_installed_command_finds_every_declared_source() -> None:
    for name in declared():
        assert isinstance(sources.find(name), Source)


def test_without_a_simulator_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    with pytest.raises(UsageError, match=r"no source of events is installed: .*freshrank\[simulator\]"):
        sources.find("city")


def test_a_source_without_its_packages_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, city="no_such_package.city:CitySource")
    with pytest.raises(UsageError, match=r"No module named 'no_such_package'.*freshrank\[simulator\]"):
        sources.find("city")


def test_an_unknown_source_names_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, **declared())
    with pytest.raises(UsageError, match="no such source: source = 'nope'; use one of city, completejourney"):
        sources.find("nope")


def test_the_citys_report_names_the_packages_it_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("simulator.city.source.MEASURING", ("no_such_package", "numpy"))
    from features.settings import ContentSettings

    with pytest.raises(UsageError, match=r"packages = 'no_such_package'; pip install 'freshrank\[simulator\]'"):
        CITY.describe([], Layout(tmp_path), ContentSettings())


def test_sources_live_with_features_alone(tmp_path: Path) -> None:
    """No other room of the product can be imported, and both sources still do what they offer."""
    code = """
import datetime as dt, sys
from itertools import islice
from pathlib import Path
for room in ("freshrank", "serving", "trainer", "dags"):
    sys.modules[room] = None
from features.layout import Layout
from features.times import day_start
from simulator.city.source import CitySource
from simulator.completejourney.source import JourneySource
layout, city = Layout(Path(sys.argv[1])), CitySource()
simulation = city.simulation(layout, 1, small=True, options=("photos=false", "warm_up_days=1"))
day = city.first_day
request = next(simulation.requests(day))
simulation.answer(request, request.candidates[:20], policy="any")
simulation.skip(day, 1)
assert city.oracle(layout, day).expected({request.request_id: request.candidates[:5]})[request.request_id] > 0
journey = JourneySource()
moment = day_start(journey.first_day)
assert len(list(islice(journey.records(moment, moment + 3_600_000_000, layout=layout), 5))) == 5
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, encoding="utf-8", cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stderr


def test_a_demos_sizes_are_those_of_its_city(tmp_path: Path) -> None:
    plan = DemoPlan("x", requests_per_day=1600, shoppers=1400, listings=1900)
    full = CitySource().simulation(Layout(tmp_path), 0, options=plan.options)
    assert full.config == CityConfig(requests_per_day=1600, shoppers=1400, listings=1900)
    plan = DemoPlan("x", requests_per_day=150, shoppers=120, listings=200)
    small = CitySource().simulation(Layout(tmp_path), 0, small=True, options=plan.options)
    assert small.config == CityConfig.small()


def test_nobody_answers_for_real_purchases(tmp_path: Path) -> None:
    assert JOURNEY.simulation(Layout(tmp_path), 0) is None
    assert JOURNEY.oracle(Layout(tmp_path), JOURNEY.judged_day) is None


def test_a_sources_features_are_settings_of_its_demo() -> None:
    text = DemoPlan("x").settings(JOURNEY.features)
    assert tomllib.loads(text)["features"] == {name: list(values) for name, values in JOURNEY.features.items()}
    assert "features" not in tomllib.loads(DemoPlan("x").settings(CITY.features))


def test_history_stops_at_the_cut_and_the_rest_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[Record] = []

    def keep(_: KafkaSettings, records: Iterable[Record]) -> Published:
        published.extend(records)
        return Published({}, None, None)

    monkeypatch.setattr(demo_days, "publish", keep)
    options = ("photos=false", "warm_up_days=1", "requests_per_day=600")
    simulation = CitySource().simulation(Layout(tmp_path), 5, small=True, options=options)
    first = CitySource.first_day
    judged = first + dt.timedelta(days=1)
    days = SimulatedDays(simulation, first, judged, KafkaSettings())
    days.publish_history()
    again = CitySource().simulation(Layout(tmp_path / "again"), 5, small=True, options=options)
    lived, cut = list(again.history(first, 2)), run_cut(judged)
    assert days.late == [record for record in lived if record.time_us >= cut] != []
    morning = list(again.catalogue_events(judged + dt.timedelta(days=1)))
    assert published == [record for record in lived if record.time_us < cut] + morning
    third = day_start(judged) + DAY
    assert all(request.time_us >= third + 2 * DAY // 24 for request in days.requests(judged + dt.timedelta(days=1)))
