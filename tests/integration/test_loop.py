"""The whole road: Kafka to a ranked list and back, twice, with a swap under traffic; then again, to the same end."""

from __future__ import annotations

import pytest

from tests.loop import Loop

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]


def test_every_event_is_in_the_log_and_none_is_dead(loop: Loop) -> None:
    summary = loop.summary
    assert summary["dead_letters"] == 0
    assert summary["requests"] > 1000
    assert len(summary["window"]["days"]) == 7


def test_the_swap_loses_no_request(loop: Loop) -> None:
    summary = loop.summary
    assert summary["swap_errors"] == 0
    assert summary["swap_fallbacks"] == 0
    versions = [change["version"] for change in summary["swap_changes"]]
    assert len(versions) == 2, "requests before and after the swap"
    assert versions[1] > versions[0]


def test_the_served_score_is_the_trainers(loop: Loop) -> None:
    assert loop.summary["parity_scores"] > 500
    assert loop.summary["parity_max_abs"] <= 1e-4


def test_the_features_seen_are_those_of_the_rebuild(loop: Loop) -> None:
    assert loop.summary["features_compared"] > 10_000
    assert loop.summary["features_equal_share"] == 1.0, loop.summary["features_differing"]


def test_the_second_training_starts_from_the_first(loop: Loop) -> None:
    first, second = loop.summary["trainings"].values()
    assert not first["warm"]
    assert second["warm"]
    assert loop.summary["gates"][loop.summary["days"][1]]["incumbent"] is not None


def test_every_arm_was_asked_and_answered(loop: Loop) -> None:
    arms = loop.summary["arms"]
    assert set(arms) == {"uniform", "popularity", "camenn"}
    assert sum(arm["requests"] for arm in arms.values()) > 100
    assert all(arm["fallbacks"] == 0 for arm in arms.values())
    assert all(arm["true_expected_purchases"] > 0 for arm in arms.values())


def test_the_same_day_again_gives_the_same_log_and_window(loop: Loop) -> None:
    day = loop.summary["days"][1]
    cut = f"{loop.summary['window']['days'][-1][:8]}12T02:00:00Z"
    loop.run("up", "--only", "kafka,redis")
    try:
        later = loop.run("ingest", "--until", cut)  # what followed from the requests during the swap
        assert later["events"] < loop.summary["events_ingested"] / 10
        assert loop.run("ingest", "--until", cut)["events"] == 0, "nothing is counted twice"
        loop.run("labels", "--date", day)
        loop.run("features", "materialize", "--date", day)
        window = loop.run("window", "build", "--date", day)
    finally:
        loop.run("down")
    assert window["window_id"] == loop.summary["window"]["id"]
