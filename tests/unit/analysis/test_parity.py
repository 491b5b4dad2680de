"""Parity finds where serving and training differ, and passes nothing that it could not compare."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from features.errors import DataError, NotReadyError
from freshrank.analysis.parity import Parity, judge, measure
from freshrank.cli import app
from freshrank.sections import ParitySettings
from tests.lake import Lake
from tests.serving.lived import DAY, Lived

SETTINGS = ParitySettings()


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """Ranked once, written nowhere."""
    made = Lived(tmp_path_factory.mktemp("ranked"))
    made.rank(12)
    return made


@pytest.fixture
def lived(ranked: Lived, tmp_path: Path) -> Lived:
    """A day of its own for each test."""
    shutil.copytree(ranked.layout.bundles, tmp_path / "bundles")
    return replace(copy.deepcopy(ranked), root=tmp_path)


def measured(lived: Lived, **fields: object) -> Parity:
    return measure(lived.write(**fields), DAY, SETTINGS)


def test_a_day_that_was_served_as_trained_passes(lived: Lived) -> None:
    found = measured(lived)
    judge(found, SETTINGS)
    assert (found.scores.compared, found.scores.exceeding) == (60, 0)
    assert found.scores.max_abs is not None and found.scores.max_abs < 1e-5
    assert found.features.requests == 12 and found.features.equal_share == 1.0
    names = {column.column for column in found.features.columns}
    assert {"u_zone", "ctx_zone", "i_price", "x_item_buys", "buy_item", "buy_time", "cand_text_sha"} <= names
    assert not {"user_id", "event_time", "request_id", "cand_item"} & names


def test_a_score_that_is_not_the_bundles_is_found_and_named(lived: Lived) -> None:
    lived.scores["r7"][2] += 0.01
    found = measured(lived)
    (row,) = found.scores.bundles
    assert [(one.request_id, one.scores) for one in row.exceeding] == [("r7", 1)]
    assert row.exceeding[0].difference == pytest.approx(0.01, abs=1e-4)
    with pytest.raises(DataError, match=r"1 of 60 served scores.*'r7'"):
        judge(found, SETTINGS)
    wide = replace(SETTINGS, max_score_difference=0.1)
    judge(measure(lived.layout, DAY, wide), wide)


def test_scores_that_cannot_be_subtracted_are_beyond_any_tolerance(lived: Lived) -> None:
    lived.scores["r3"][0] = None  # type: ignore[call-overload]
    lived.requests["r4"]["i_price"].pop()
    found = measured(lived)
    (row,) = found.scores.bundles
    assert {one.request_id: one.difference for one in row.exceeding} == {"r3": None, "r4": None}
    with pytest.raises(DataError):
        judge(found, replace(SETTINGS, max_score_difference=1e9))


def test_a_feature_that_differs_is_found_and_named(lived: Lived) -> None:
    lived.rebuilt["r5"]["i_price"][1] = 77.5
    lived.rebuilt["r6"]["buy_item"].append("another")
    lived.rebuilt["r6"]["buy_time"].append(1)
    found = measured(lived).features
    assert found.equal_share is not None and found.equal_share < 1.0
    (price,) = [column for column in found.differing if column.column == "i_price"]
    assert (price.compared - price.equal, price.example, price.rebuilt) == (1, "r5", "77.5")
    assert {column.column for column in found.differing} == {"i_price", "buy_item", "buy_time"}
    day = measure(lived.layout, DAY, SETTINGS)
    with pytest.raises(DataError, match="features served"):
        judge(day, SETTINGS)
    judge(day, replace(SETTINGS, min_equal_share=0.9))


def test_a_column_that_the_gateway_did_not_log_is_missing_and_not_equal(lived: Lived) -> None:
    del lived.requests["r2"]["x_item_buys"]
    found = measured(lived)
    assert [(column.column, column.missing, column.example) for column in found.features.missing] == [
        ("x_item_buys", 1, "r2")
    ]
    with pytest.raises(DataError):
        judge(found, replace(SETTINGS, max_score_difference=1e9, min_equal_share=0.0))


@pytest.mark.parametrize(
    "fields", [{"features_seen": None}, {"bundle_id": None, "policy": "uniform"}, {"bundle_id": "../not here"}]
)
def test_a_day_on_which_nothing_can_be_compared_does_not_pass(lived: Lived, fields: dict[str, object]) -> None:
    found = measured(lived, **fields)
    assert found.scores.compared == 0
    with pytest.raises(NotReadyError):
        judge(found, SETTINGS)


def test_one_bundle_that_could_not_be_compared_keeps_the_day_from_passing(lived: Lived) -> None:
    layout = lived.write()
    lake = Lake(lived.root)
    Lived(lived.root, {"x1": lived.requests["r1"]}, {"x1": lived.scores["r1"]}, bundle="gone").show(lake)
    lake.write()
    found = measure(layout, DAY, SETTINGS)
    assert [row.unchecked for row in found.scores.bundles if row.bundle == "gone"] == ["the bundle is not in bundles/"]
    with pytest.raises(NotReadyError, match="gone"):
        judge(found, SETTINGS)


def test_requests_that_the_window_lacks_keep_the_day_from_passing(lived: Lived) -> None:
    for request in ("r0", "r11"):
        del lived.rebuilt[request]
    found = measured(lived)
    assert (found.features.requests, found.features.not_rebuilt) == (10, 2)
    with pytest.raises(NotReadyError, match="lacks 2 requests"):
        judge(found, SETTINGS)


def test_the_command_says_what_differs_and_exits_with_3(lived: Lived, monkeypatch: pytest.MonkeyPatch) -> None:
    lived.scores["r7"][2] += 0.01
    lived.write()
    monkeypatch.setenv("FRESHRANK_STACK__DIR", str(lived.root))
    told = CliRunner().invoke(app, ["parity", "--date", str(DAY), "--json"])
    assert isinstance(told.exception, DataError) and told.exception.exit_code == 3
    found = json.loads(told.stdout)
    assert (found["scores_compared"], found["scores_beyond"], found["features_equal_share"]) == (60, 1, 1.0)
    shown = CliRunner().invoke(app, ["parity", "--date", str(DAY)]).stdout
    assert "60 scores" in shown and "request r7: 1 scores, 1.0e-02" in shown and "x_item_buys" in shown
