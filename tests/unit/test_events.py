"""Which records are events, and with what reason the others are not."""

from __future__ import annotations

import msgspec
import pytest

from features.events import (
    EVENTS,
    LAST_US,
    MAX_CLOCK_SKEW_US,
    SCHEMA_VERSION,
    Click,
    Gone,
    Impression,
    InvalidEvent,
    Item,
    Shown,
    User,
    decode,
    encode,
    event_id,
    impression_id,
)
from features.times import HOUR, SECOND, format_us

NOW = 1_735_689_600_000_000


def click(**changes: object) -> dict[str, object]:
    fields = {"event_id": "e1", "event_time": format_us(NOW), "schema_version": 1, "user_id": "u1", "item_id": "i1"}
    return {**fields, **changes}


def impression(**changes: object) -> dict[str, object]:
    fields: dict[str, object] = {
        "event_id": impression_id("r1"),
        "event_time": format_us(NOW),
        "schema_version": 1,
        "request_id": "r1",
        "user_id": "u1",
        "items": [
            {"item_id": "a", "position": 0, "price_minor": 100},
            {"item_id": "b", "position": 1, "price_minor": 5},
        ],
    }
    return {**fields, **changes}


def read(topic: str, fields: object, key: bytes = b"u1", known_time: int = NOW) -> object:
    return decode(topic, key, msgspec.json.encode(fields), known_time)


def test_a_click_comes_back_as_it_was_written() -> None:
    event = Click(event_id="e1", event_time=format_us(NOW), schema_version=SCHEMA_VERSION, user_id="u1", item_id="i1")
    assert decode("clicks", b"u1", encode(event), NOW) == event
    assert event.event_time_us == NOW


def test_fields_that_we_do_not_know_are_passed_over() -> None:
    assert read("clicks", click(colour="red")) == read("clicks", click())


def test_a_time_with_another_zone_is_the_same_moment() -> None:
    event = read("clicks", click(event_time="2025-01-01T01:00:00+01:00"))
    assert isinstance(event, Click)
    assert event.event_time_us == NOW


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (click(event_id=""), r"length >= 1 - at `\$.event_id`"),
        (click(user_id=7), r"Expected `str`, got `int` - at `\$.user_id`"),
        ({k: v for k, v in click().items() if k != "item_id"}, "missing required field `item_id`"),
        (click(event_time="yesterday"), r"event_time"),
        (click(event_time="2025-01-01T00:00:00"), r"event_time"),
        (click(event_time="2025-02-30T00:00:00Z"), "no such time: event_time = '2025-02-30T00:00:00Z'"),
        (click(event_time="1960-01-01T00:00:00Z"), "before 1970"),
        (click(event_time="2025-01-01T00:00:00.1234567Z"), "event_time"),
        (click(event_time=format_us(NOW + MAX_CLOCK_SKEW_US + 1)), "more than an hour after the record's timestamp"),
        (
            click(schema_version=SCHEMA_VERSION + 1),
            "newer .*: schema_version = 2; this one reads up to 1",
        ),
        (click(schema_version=0), "schema_version"),
        ([click()], "Expected `object`, got `array`"),
        (None, "Expected `object`, got `null`"),
    ],
)
def test_a_click_that_is_none_says_why(fields: object, reason: str) -> None:
    with pytest.raises(InvalidEvent, match=reason):
        read("clicks", fields)


def test_an_hour_ahead_of_the_record_is_still_valid() -> None:
    assert MAX_CLOCK_SKEW_US == HOUR, "the contract with producers"
    assert read("clicks", click(event_time=format_us(NOW + MAX_CLOCK_SKEW_US)))


def test_a_time_beyond_the_calendar_is_refused() -> None:
    """No table and no Python date can hold its day."""
    last = LAST_US // 1000 * 1000
    for text in ("9999-12-31T23:59:59-00:01", "9999-12-31T23:59:59-14:00"):
        with pytest.raises(InvalidEvent, match=r"after the year 9999|more than an hour after"):
            read("clicks", click(event_time=text), known_time=last)
    assert read("clicks", click(event_time="9999-12-31T23:59:59.999999Z"), known_time=last)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"event_id": "e1"}, f"must be uuid5 of its request_id.*is {impression_id('r1')}"),
        ({"items": []}, r"length >= 1 - at `\$.items`"),
        ({"items": [{"item_id": "a", "position": 0, "price_minor": -1}]}, r">= 0 - at `\$.items\[0\].price_minor`"),
        ({"items": [{"item_id": "a", "position": 0, "price_minor": 10**16}]}, "price_minor"),
        ({"items": [{"item_id": "a", "position": p, "price_minor": 1} for p in (0, 1)]}, "shown twice"),
        ({"items": [{"item_id": i, "position": 0, "price_minor": 1} for i in "ab"]}, "share a position"),
        ({"items": [{"item_id": "a", "position": 0, "price_minor": 1, "propensity": 0}]}, "propensity"),
        ({"context": {"zone": ["a"]}}, "context"),
        ({"feature_cutoff": "2025-13-01T00:00:00Z"}, "no such time: feature_cutoff"),
    ],
)
def test_an_impression_that_is_none_says_why(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidEvent, match=reason):
        read("impressions", impression(**changes))


def test_an_impression_keeps_what_a_list_needs() -> None:
    event = read("impressions", impression(context={"zone": "z", "hour": 3}, experiments={"x": "a"}, policy="uniform"))
    assert isinstance(event, Impression)
    assert event.items == [Shown("a", 0, 100), Shown("b", 1, 5)]
    assert event.context == {"zone": "z", "hour": 3}


@pytest.mark.parametrize(
    "value", [b"", b"{", b"\xff\xfe", b'{"user_id":"\\ud800"}', b"[" * 100_000, b'{"a":NaN}', b"\x00" * 10]
)
def test_bytes_that_are_no_json_are_refused(value: bytes) -> None:
    with pytest.raises(InvalidEvent):
        decode("clicks", b"u1", value, NOW)


def test_only_compacted_topics_have_null_values() -> None:
    gone = decode("items", b"i1", None, NOW)
    assert gone == Gone(topic="items", key="i1", event_id=event_id("gone", "items", "i1", NOW), time_us=NOW)
    with pytest.raises(InvalidEvent, match="no value; only items and users"):
        decode("clicks", b"u1", None, NOW)
    with pytest.raises(InvalidEvent, match="key is empty"):
        decode("users", None, None, NOW)
    with pytest.raises(InvalidEvent, match="not UTF-8"):
        decode("users", b"\xff", None, NOW)


@pytest.mark.parametrize(
    ("uri", "valid"),
    [
        ("blob:" + "a" * 64, True),
        ("file:fruit/apple.jpg", True),
        ("https://img.example.org/a.jpg", True),
        ("s3://bucket/a.jpg", True),
        ("blob:xyz", False),
        ("http://img.example.org/a.jpg", False),
        ("/etc/passwd", False),
    ],
)
def test_image_uris_are_of_the_known_kinds(uri: str, valid: bool) -> None:
    item = {
        "event_id": "e", "event_time": format_us(NOW), "schema_version": 1, "item_id": "i1", "shop_id": "s",
        "price_minor": 1, "available": True, "image_uri": uri,
    }  # fmt: skip
    if valid:
        assert isinstance(read("items", item, key=b"i1"), Item)
    else:
        with pytest.raises(InvalidEvent, match="image_uri"):
            read("items", item, key=b"i1")


def test_a_compacted_record_is_keyed_by_what_it_describes() -> None:
    user = {"event_id": "e", "event_time": format_us(NOW), "schema_version": 1, "user_id": "u1"}
    assert isinstance(read("users", user), User)
    with pytest.raises(InvalidEvent, match="key by 'u1'"):
        read("users", user, key=b"u2")


def test_written_times_have_microseconds_and_names_repeat() -> None:
    assert format_us(NOW + 5 * SECOND) == "2025-01-01T00:00:05.000000Z"
    assert event_id("a", "bc") != event_id("ab", "c")
    assert set(EVENTS) == {"impressions", "clicks", "carts", "purchases", "items", "users"}


def test_a_topic_may_have_field_names_of_its_own() -> None:
    names = {"user_id": "uid", "item_id": "sku"}
    event = Click(event_id="e1", event_time=format_us(NOW), schema_version=1, user_id="u1", item_id="i1")
    theirs = encode(event, names)
    assert msgspec.json.decode(theirs) == {
        "event_id": "e1", "event_time": format_us(NOW), "schema_version": 1, "uid": "u1", "sku": "i1",
    }  # fmt: skip
    assert decode("clicks", b"u1", theirs, NOW, names) == event
    with pytest.raises(InvalidEvent, match="missing required field `user_id`"):
        decode("clicks", b"u1", theirs, NOW)
    with pytest.raises(InvalidEvent, match="missing required field `user_id`"):
        decode("clicks", b"u1", encode(event), NOW, names)  # ours mean nothing there


def test_swapped_field_names_are_told_apart() -> None:
    event = Click(event_id="e1", event_time=format_us(NOW), schema_version=1, user_id="u1", item_id="i1")
    names = {"user_id": "item_id", "item_id": "user_id"}
    assert decode("clicks", b"u1", encode(event, names), NOW, names) == event
    with pytest.raises(InvalidEvent):
        decode("clicks", b"u1", b"[1]", NOW, names)
