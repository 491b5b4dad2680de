"""Labelled requests: who gets the credit, what is known at the cut, and what is rewritten when."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from features.errors import LockedError, NotReadyError
from features.labels import run
from features.settings import FeatureSettings, LabelSettings
from tests.lake import Lake, us

FEATURES = FeatureSettings()
LABELS = LabelSettings()
DAY = dt.date(2026, 1, 9)


def label(lake: Lake, day: dt.date = DAY, days: int = 2) -> run.Labelled:
    return run.label(lake.write(), FEATURES, LABELS, day, days=days)


def rows(lake: Lake) -> dict[str, dict[str, Any]]:
    table = pl.read_delta(str(lake.layout.table("requests")))
    return {row["request_id"]: row for row in table.to_dicts()}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path)
    for item in "abcd":
        lake.item(item, us("01-01 05:00"), category_id=f"category {item}")
    return lake


def test_a_named_request_gets_the_credit_even_where_a_later_list_showed_the_item(lake: Lake) -> None:
    lake.show("first", "u", ["a", "b"], us("01-08 10:00"))
    lake.show("second", "u", ["b", "a"], us("01-08 11:00"))
    lake.buy("u", "a", us("01-08 11:30"), request="first", amount=250)
    label(lake)
    found = rows(lake)
    assert found["first"]["purchased"] == [1, 0]
    assert found["first"]["delay_s"] == [5400, None]
    assert found["first"]["gmv_minor"] == [250, 0]
    assert found["second"]["purchased"] == [0, 0]


def test_without_a_name_the_last_list_that_showed_the_item_to_the_user_gets_it(lake: Lake) -> None:
    lake.show("first", "u", ["a"], us("01-08 10:00"))
    lake.show("last", "u", ["b", "a"], us("01-08 11:00"))
    lake.show("other item", "u", ["b"], us("01-08 11:10"))
    lake.show("other user", "v", ["a"], us("01-08 11:10"))
    lake.show("later", "u", ["a"], us("01-08 12:00"))
    lake.buy("u", "a", us("01-08 11:30"))
    lake.cart("u", "a", us("01-08 11:20"))
    lake.click("u", "a", us("01-08 11:15"))
    label(lake)
    found = rows(lake)
    assert [found["last"][name] for name in ("clicked", "carted", "purchased")] == [[0, 1]] * 3
    for name in ("first", "other item", "other user", "later"):
        assert sum(found[name]["purchased"]) == sum(found[name]["clicked"]) == 0


def test_a_name_that_showed_no_such_item_counts_as_none(lake: Lake) -> None:
    lake.show("shown", "u", ["a"], us("01-08 10:00"))
    lake.show("named", "u", ["b"], us("01-08 10:30"))
    lake.buy("u", "a", us("01-08 11:00"), request="named")
    lake.buy("u", "a", us("01-08 11:00"), request="no such request")
    label(lake)
    assert rows(lake)["shown"]["purchased"] == [1]
    assert rows(lake)["shown"]["gmv_minor"] == [200]


def test_what_happens_after_the_horizon_is_credited_and_does_not_count(lake: Lake) -> None:
    lake.show("old", "u", ["a", "b"], us("01-07 10:00"))
    lake.buy("u", "a", us("01-08 10:00"), request="old")  # the very end of the horizon
    lake.buy("u", "b", us("01-08 09:59:59"), request="old")
    lake.show("new", "u", ["a"], us("01-08 09:00"))
    label(lake)
    assert rows(lake)["old"]["purchased"] == [0, 1]
    assert rows(lake)["new"]["purchased"] == [0], "the purchase named the old request"


def test_a_repeated_event_counts_once(lake: Lake) -> None:
    lake.show("r", "u", ["a"], us("01-08 10:00"))
    for known in ("01-08 11:00", "01-08 12:00"):
        lake.add(
            "purchases", "u", us("01-08 11:00"), us(known), event_id="same", user_id="u", item_id="a",
            quantity=1, amount_minor=70, currency="EUR",
        )  # fmt: skip
    label(lake)
    assert rows(lake)["r"]["gmv_minor"] == [70]


def test_labels_are_as_known_at_the_cut_and_immature_until_the_horizon_has_passed(lake: Lake) -> None:
    lake.show("r", "u", ["a"], us("01-09 12:00"))
    lake.buy("u", "a", us("01-09 13:00"), known=us("01-10 02:00"))
    label(lake)
    assert rows(lake)["r"]["purchased"] == [0], "known at the cut is too late"
    assert rows(lake)["r"]["mature"] is False
    label(lake, dt.date(2026, 1, 10))
    assert rows(lake)["r"]["purchased"] == [1]
    assert rows(lake)["r"]["mature"] is True


def test_maturity_begins_when_the_horizon_has_passed(lake: Lake) -> None:
    lake.show("just", "u", ["a"], us("01-09 02:00"))
    lake.show("not yet", "u", ["a"], us("01-09 02:00") + 1)
    label(lake)
    assert rows(lake)["just"]["mature"] is True
    assert rows(lake)["not yet"]["mature"] is False


def test_running_twice_writes_nothing(lake: Lake) -> None:
    lake.show("r", "u", ["a"], us("01-08 12:00"))
    assert label(lake).rewritten == ["2026-01-08"]
    version = DeltaTable(str(lake.layout.table("requests"))).version()
    assert label(lake).rewritten == []
    assert DeltaTable(str(lake.layout.table("requests"))).version() == version


def test_a_late_purchase_rewrites_its_requests_day_alone(lake: Lake) -> None:
    for day in (7, 8, 9):
        lake.show(f"r{day}", "u", ["a", "b"], us(f"01-0{day} 12:00"))
    label(lake)
    lake.buy("u", "b", us("01-07 13:00"), known=us("01-10 01:00"))
    assert label(lake).rewritten == ["2026-01-07"]
    assert rows(lake)["r7"]["purchased"] == [0, 1]


def test_a_deed_whose_clock_ran_an_hour_behind_its_request_counts_across_midnight(lake: Lake) -> None:
    """And where it comes late, the day of the request is made again, not the deed's."""
    lake.show("r", "u", ["a", "b"], us("01-08 00:20"))
    lake.click("u", "b", us("01-07 23:20"), request="r")
    assert label(lake).rewritten == ["2026-01-08"]
    lake.buy("u", "a", us("01-07 23:20"), known=us("01-08 00:30"), request="r")
    assert label(lake).rewritten == ["2026-01-08"]
    assert (rows(lake)["r"]["purchased"], rows(lake)["r"]["clicked"]) == ([1, 0], [0, 1])


def test_an_older_cut_brings_back_what_was_known_then(lake: Lake) -> None:
    lake.show("r", "u", ["a"], us("01-09 12:00"))
    lake.buy("u", "a", us("01-10 11:00"))
    label(lake)
    then = rows(lake)
    label(lake, dt.date(2026, 1, 10))
    assert rows(lake) != then
    label(lake)
    assert rows(lake) == then


def test_a_kill_between_taking_out_and_putting_back_is_repaired(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.show("r", "u", ["a"], us("01-09 12:00"))
    layout = lake.write()
    label(lake)
    lake.buy("u", "a", us("01-09 13:00"))
    replace = run._replace_day

    def killed(*arguments: Any) -> None:
        replace(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "_replace_day", killed)
    with pytest.raises(KeyboardInterrupt):
        label(lake)
    monkeypatch.undo()
    from features import facts

    with facts.connection(layout) as con, pytest.raises(NotReadyError):
        run.check_current(con, layout, FEATURES, LABELS, [DAY], us("01-10 02:00"))
    label(lake)
    assert rows(lake)["r"]["purchased"] == [1]
    assert len(rows(lake)) == len(pl.read_delta(str(layout.table("requests"))))


def test_histories_hold_the_newest_and_end_with_the_newest(lake: Lake) -> None:
    for number in range(120):
        lake.click("u", "ab"[number % 2], us("01-07 10:00") + number)
    for number in range(60):
        lake.buy("u", "c", us("01-06 10:00") + number, amount=number)
    lake.show("r", "u", ["a"], us("01-08 12:00"))
    label(lake)
    row = rows(lake)["r"]
    assert row["buy_item"] == ["c"] * 50, "clicks do not crowd out purchases"
    assert row["buy_time"] == [us("01-06 10:00") + number for number in range(10, 60)]
    assert row["buy_category"] == ["category c"] * 50
    assert row["beh_time"] == [us("01-07 10:00") + number for number in range(20, 120)]
    assert set(row["beh_type"]) == {0}


def test_a_request_sees_what_the_store_served_then(lake: Lake) -> None:
    lake.buy("u", "a", us("01-08 01:00"))
    lake.buy("u", "b", us("01-08 03:00"))
    lake.show("night", "u", ["a"], us("01-08 01:30"))
    lake.show("noon", "u", ["a"], us("01-08 12:00"))
    lake.show("named", "u", ["a"], us("01-08 12:00"), feature_cutoff="2026-01-08T04:00:00Z")
    lake.show("liar", "u", ["a"], us("01-08 12:00"), feature_cutoff="2026-01-08T12:00:01Z")
    label(lake)
    found = rows(lake)
    assert {name: found[name]["feature_cutoff"] for name in found} == {
        "night": us("01-07 02:00"), "noon": us("01-08 02:00"), "named": us("01-08 04:00"), "liar": us("01-08 02:00"),
    }  # fmt: skip
    assert [found[name]["buy_item"] for name in ("night", "noon", "named")] == [[], ["a"], ["a", "b"]]


def test_own_outcome_never_enters_the_history(lake: Lake) -> None:
    """A purchase whose clock ran before its own request's, and that names it."""
    lake.buy("u", "a", us("01-08 11:40"), request="r")
    lake.show("r", "u", ["a"], us("01-08 12:00"), feature_cutoff="2026-01-08T11:50:00Z")
    label(lake)
    assert rows(lake)["r"]["buy_item"] == rows(lake)["r"]["beh_item"] == []
    assert rows(lake)["r"]["purchased"] == [1]
    assert rows(lake)["r"]["delay_s"] == [0]


def test_content_is_that_of_the_moment(lake: Lake) -> None:
    from features.content.hash import image_sha, text_sha

    photo = "blob:" + "5" * 64
    lake.item("a", us("01-08 11:00"), title="better", image_uri=photo)
    lake.item("a", us("01-08 13:00"), title="later still")
    lake.gone("items", "b", us("01-08 11:00"))
    lake.show("r", "u", ["a", "b", "never listed"], us("01-08 12:00"))
    label(lake)
    assert rows(lake)["r"]["cand_text_sha"] == [text_sha("better", None), None, None]
    assert rows(lake)["r"]["cand_image_sha"] == [image_sha(photo), None, None]


def test_context_and_arms_become_columns(lake: Lake) -> None:
    context = {"zone": "z", "hour": 12, "payday": True, "weather": None}
    lake.show("one", "u", ["a"], us("01-08 12:00"), context=context, experiments={"ranker": "camenn"}, policy="model")
    lake.show("two", "u", ["a"], us("01-08 13:00"), experiments={"b": "x", "a": "y"})
    label(lake)
    one, two = rows(lake)["one"], rows(lake)["two"]
    assert [one[f"ctx_{name}"] for name in ("zone", "hour", "payday", "weather")] == ["z", "12", "true", None]
    assert (one["arm"], one["policy"], two["arm"]) == ("camenn", "model", "a=y;b=x")


@pytest.mark.parametrize(
    ("experiments", "arm"),
    [
        ({'the "big" one': "a"}, "a"),
        ({"": 'the "b" arm'}, 'the "b" arm'),
        ({"ranker.v2": "a", "$.x": "b", "'": "\\", "größe": "c;d=e"}, "$.x=b;'=\\;größe=c;d=e;ranker.v2=a"),
        ({}, None),
    ],
)
def test_an_experiment_may_have_any_name(lake: Lake, experiments: dict[str, str], arm: str | None) -> None:
    """A name was taken for a path into the JSON, and one with a quote ended `labels`."""
    lake.show("r", "u", ["a"], us("01-08 12:00"), experiments=experiments)
    label(lake)
    assert rows(lake)["r"]["arm"] == arm


@pytest.mark.parametrize("claim", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-14:00"])
def test_a_cutoff_that_no_store_can_have_had_is_not_believed(lake: Lake, claim: str) -> None:
    lake.show("r", "u", ["a"], us("01-08 12:00"), feature_cutoff=claim)
    label(lake)
    assert rows(lake)["r"]["feature_cutoff"] == us("01-08 02:00")


def test_deeds_of_one_moment_and_one_id_have_one_order(lake: Lake) -> None:
    """Topics name their events independently; whatever order DuckDB reads them in, the window is the same."""
    bought: dict[str, Any] = {"quantity": 1, "amount_minor": 5, "currency": "EUR"}
    for topic, more in (("purchases", bought), ("clicks", {}), ("carts", {})):
        lake.add(topic, "u", us("01-07 12:00"), event_id="same", user_id="u", item_id=topic, **more)
    lake.show("r", "u", ["a"], us("01-08 12:00"))
    label(lake)
    assert rows(lake)["r"]["beh_item"] == ["purchases", "carts", "clicks"]


def test_it_waits_for_a_complete_log_and_for_others(lake: Lake) -> None:
    lake.show("r", "u", ["a"], us("01-08 12:00"))
    layout = lake.write(complete_until=us("01-10 01:59"))
    with pytest.raises(NotReadyError, match="ingest --until 2026-01-10T02:00:00"):
        run.label(layout, FEATURES, LABELS, DAY, days=2)
    lake.write()
    from features import atomic

    with atomic.lock(layout.lock("labels")), pytest.raises(LockedError):
        run.label(layout, FEATURES, LABELS, DAY, days=2)
