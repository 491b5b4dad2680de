"""The truth is whole, agrees with what happens, and nothing that learns or serves can reach it."""

from __future__ import annotations

import ast
import datetime as dt
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.errors import NotReadyError
from features.layout import Layout
from simulator.city.album import MANY, Album
from simulator.city.choice import examination
from simulator.city.config import CityConfig
from simulator.city.photo import PhotoSpec
from simulator.city.simulate import City
from simulator.city.truth import Truth, TruthFiles, expected_purchases

ROOT = Path(__file__).resolve().parents[3]
SMALL = CityConfig.small(photos=False, warm_up_days=5)
ROOMS = ("features", "trainer", "serving", "dags")


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    layout = Layout(tmp_path_factory.mktemp("stack"))
    city = City(SMALL, 3, truth=TruthFiles(layout.truth("city")))
    list(city.history(SMALL.start, 2))
    day = SMALL.start + dt.timedelta(days=2)
    for request in city.requests(day):
        city.answer(request, request.candidates[5:25], policy="model")
    city.skip(SMALL.start, 3)
    return layout


def test_every_candidate_has_its_probabilities(layout: Layout) -> None:
    truth = Truth(layout)
    logged = truth.candidates(SMALL.start).to_pandas()
    assert logged.position.notna().all() and (logged.groupby("request_id").size() == SMALL.shown).all()
    looked = examination(SMALL, logged.position.to_numpy())
    assert np.allclose(logged.purchase, looked * logged.relevance)
    assert logged.relevance.between(0, 1).all() and set(logged.policy) == {"uniform", "popularity"}
    answered = truth.candidates(SMALL.start + dt.timedelta(days=2)).to_pandas()
    sizes = answered.groupby("request_id").size()
    assert (sizes == SMALL.candidates).all()
    assert answered.position.notna().sum() == SMALL.shown * len(sizes)
    assert set(answered.policy) == {"model"}
    assert answered.purchase.isna().sum() == (SMALL.candidates - SMALL.shown) * len(sizes)


def test_expected_purchases_are_those_of_the_file(layout: Layout) -> None:
    rows = Truth(layout).candidates(SMALL.start + dt.timedelta(days=2)).to_pandas()
    one = rows[rows.request_id == rows.request_id.iloc[0]]
    shown = one[one.position.notna()].sort_values("position")
    relevance = dict(zip(one.item_id, one.relevance, strict=True))
    expected = expected_purchases(relevance, shown.item_id.tolist(), SMALL.examination)
    assert expected == pytest.approx(shown.purchase.sum())


def test_every_listing_is_described(layout: Layout) -> None:
    listings = Truth(layout).listings().to_pandas()
    assert listings.item_id.is_unique and len(listings) > SMALL.listings
    shown = set(Truth(layout).candidates(SMALL.start, ["item_id"]).column("item_id").to_pylist())
    assert shown <= set(listings.item_id)
    dirty = (listings.dirt_text != "") | (listings.dirt_photo != "")
    assert 0.05 < dirty.mean() < 0.35
    assert (listings.mismatch[listings.dirt_text == "wrong_title"] > 0).all()
    assert (listings.mismatch[~dirty] == 0).all()


def test_missing_truth_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="no truth"):
        Truth(Layout(tmp_path)).candidates(SMALL.start)
    with pytest.raises(NotReadyError, match="no truth"):
        Truth(Layout(tmp_path)).listings()


def test_purchases_come_as_often_as_the_truth_says(tmp_path: Path) -> None:
    """Purchases of a history against the sum of their probabilities, within four standard errors."""
    config = CityConfig.small(photos=False, requests_per_day=800, shoppers=400, warm_up_days=3)
    layout = Layout(tmp_path)
    city = City(config, 4, truth=TruthFiles(layout.truth("city")))
    bought = sum(
        event.topic == "purchases" and event.value is not None and b"request_id" in event.value
        for event in city.history(config.start, 3)
    )
    chance = np.concatenate(
        [Truth(layout).candidates(config.start + dt.timedelta(days=day))["purchase"].to_numpy() for day in range(3)]
    )
    assert abs(bought - chance.sum()) < 4 * np.sqrt((chance * (1 - chance)).sum())


def test_no_room_that_learns_or_serves_can_reach_the_truth() -> None:
    """Not by import of the simulator, nor by the truth's path."""
    for room in ROOMS:
        for file in (ROOT / room).rglob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                elif isinstance(node, ast.Attribute) and file.name != "layout.py":
                    assert node.attr != "truth", f"{file}:{node.lineno} reaches for the truth"
                elif isinstance(node, ast.Constant) and isinstance(node.value, str) and file.name != "layout.py":
                    assert "truth" not in node.value.split("/"), f"{file}:{node.lineno} names the truth's folder"
                assert not any(name.split(".")[0] == "simulator" for name in names), f"{file} imports a source"


def test_the_linter_forbids_every_room_the_simulator() -> None:
    run = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--contract", "truth"],
        cwd=ROOT, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "The product imports no source of events, and so none's truth" in run.stdout


def test_events_tell_nothing_hidden(layout: Layout) -> None:
    hidden = (b"freshness", b"variety_id", b"relevance", b"utility", b"dirt", b"mismatch", b"product_id")
    for event in City(SMALL, 3).history(SMALL.start, 1):
        assert event.value is None or not any(word in event.value for word in hidden)


def test_photos_are_rendered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = PhotoSpec("round", "apples", "Fuji", "#c8344a", "Vale", "#5f9e6e", "bag", 0.9, "", 1, 0.8, 7, 64)
    layout = Layout(tmp_path)
    uri = Album(layout).uri(spec)
    blob = layout.blob(uri.removeprefix("blob:"))
    assert blob.read_bytes()[:2] == b"\xff\xd8"

    def never(_: PhotoSpec) -> bytes:
        raise AssertionError("rendered again")

    monkeypatch.setattr("simulator.city.album.jpeg", never)
    assert Album(layout).uri(spec) == uri


def test_photos_prepared_by_other_processes_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = PhotoSpec("round", "apples", "Fuji", "#c8344a", "Vale", "#5f9e6e", "bag", 0.9, "", 1, 0.8, 7, 64)
    specs = [replace(spec, seed=seed) for seed in range(MANY)]
    alone = Album(Layout(tmp_path / "alone"))
    expected = [alone.uri(spec) for spec in specs]
    together = Album(Layout(tmp_path / "together"))
    together.prepare(specs)
    monkeypatch.setattr("simulator.city.album.jpeg", None)  # nothing is left to render
    assert [together.uri(spec) for spec in specs] == expected
    assert Album(Layout(tmp_path / "together")).uri(spec) == expected[7]
