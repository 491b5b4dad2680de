"""Validation never fails in another way than with a reason, and what it lets through fits the event log."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from features.eventlog.schema import EventRow, arrow_schema, to_arrow
from features.events import EVENTS, Event, Gone, InvalidEvent, decode, encode, impression_id
from features.times import format_us

NOW = 1_735_689_600_000_000
TOPICS = st.sampled_from(sorted(EVENTS))
IDS = st.text(min_size=1, max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
OBJECTS = st.dictionaries(st.text(max_size=8), SCALARS, max_size=4)
TIMES = st.integers(0, NOW).map(format_us)


def common(**own: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    fields = {"event_id": IDS, "event_time": TIMES, "schema_version": st.just(1), **own}
    return st.fixed_dictionaries(fields)


def list_of(names: list[str]) -> list[dict[str, object]]:
    return [{"item_id": name, "position": place, "price_minor": place} for place, name in enumerate(names)]


VALID = {
    "clicks": common(user_id=IDS, item_id=IDS, request_id=st.none() | IDS),
    "carts": common(user_id=IDS, item_id=IDS),
    "purchases": common(
        user_id=IDS, item_id=IDS, quantity=st.integers(1, 1000), amount_minor=st.integers(0, 10**15),
        currency=st.just("EUR"),
    ),
    "impressions": common(
        request_id=IDS, user_id=IDS, items=st.lists(IDS, min_size=1, max_size=5, unique=True).map(list_of),
        context=OBJECTS, experiments=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
        feature_cutoff=st.none() | TIMES,
        features_seen=st.none() | st.dictionaries(st.text(max_size=5), JSON, max_size=2),
    ).map(lambda fields: {**fields, "event_id": impression_id(str(fields["request_id"]))}),
    "items": common(
        item_id=IDS, shop_id=IDS, price_minor=st.integers(0, 10**15), available=st.booleans(),
        title=st.none() | st.text(), attributes=OBJECTS,
    ),
    "users": common(user_id=IDS, profile=OBJECTS),
}  # fmt: skip


def read(topic: str, key: bytes | None, value: bytes | None) -> Event | Gone | None:
    try:
        return decode(topic, key, value, NOW)
    except InvalidEvent as reason:
        assert str(reason)
        return None


def logged(topic: str, event: Event | Gone) -> None:
    table = to_arrow(topic, "cluster/topic", topic, [EventRow(0, 0, NOW, event)])
    table.validate(full=True)
    assert table.schema == arrow_schema(topic)
    assert table.num_rows == 1


@settings(deadline=None)
@given(topic=TOPICS, key=st.none() | st.binary(max_size=8), value=st.none() | st.binary(max_size=200))
def test_any_bytes_are_an_event_or_have_a_reason(topic: str, key: bytes | None, value: bytes | None) -> None:
    event = read(topic, key, value)
    if event is not None:
        logged(topic, event)


@settings(deadline=None)
@given(timestamp_ms=st.integers(-(2**63), 2**63 - 1), value=st.none() | st.just(b"{}"))
def test_any_timestamp_is_a_known_time_or_has_a_reason(timestamp_ms: int, value: bytes | None) -> None:
    try:
        event = decode("items", b"i1", value, timestamp_ms * 1000)
    except InvalidEvent as reason:
        assert str(reason)
    else:
        to_arrow("items", "cluster/topic", "items", [EventRow(0, 0, timestamp_ms * 1000, event)]).validate(full=True)


@settings(deadline=None)
@given(topic=TOPICS, value=JSON)
def test_any_json_is_an_event_or_has_a_reason(topic: str, value: object) -> None:
    read(topic, b"k", msgspec.json.encode(value))


@settings(max_examples=300, deadline=None)
@given(data=st.data(), topic=TOPICS)
def test_valid_events_are_kept_whole(data: st.DataObject, topic: str) -> None:
    fields = data.draw(VALID[topic])
    key = str(fields["item_id" if topic == "items" else "user_id"]).encode()
    event = decode(topic, key, msgspec.json.encode(fields), NOW)
    assert not isinstance(event, Gone)
    assert decode(topic, key, encode(event), NOW) == event
    logged(topic, event)
    row = to_arrow(topic, "cluster/topic", topic, [EventRow(3, 7, NOW, event)]).to_pylist()[0]
    assert (row["_partition"], row["_offset"], row["known_time"]) == (3, 7, NOW)
    assert row["event_time"] == event.event_time_us
    for name in ("context", "attributes", "profile", "features_seen"):
        if fields.get(name) is not None and name in row:
            assert msgspec.json.decode(row[name]) == msgspec.json.decode(msgspec.json.encode(fields[name]))


@settings(max_examples=300, deadline=None)
@given(data=st.data(), topic=TOPICS)
def test_a_broken_field_is_found_or_harmless(data: st.DataObject, topic: str) -> None:
    fields = data.draw(VALID[topic])
    name = data.draw(st.sampled_from(sorted(fields)))
    event = read(topic, b"k", msgspec.json.encode({**fields, name: data.draw(JSON)}))
    if event is not None:
        logged(topic, event)
