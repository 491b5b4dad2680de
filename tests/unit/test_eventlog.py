"""The event log without Kafka: commits that hold, reading as of what was known, compaction."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from deltalake import DeltaTable

from features import facts
from features.database import connect
from features.errors import DataError, NotReadyError, UsageError
from features.eventlog import dead
from features.eventlog.compact import compact_closed
from features.eventlog.complete import complete_until, note_complete
from features.eventlog.ingest import Ingested
from features.eventlog.read import EventLog
from features.eventlog.schema import EventRow, arrow_schema
from features.eventlog.share import Counted, Refused, judge
from features.eventlog.table import EventBatch, Tally, TopicTable
from features.events import EVENTS, Click, Gone, InvalidEvent, Item, event_id
from features.kafka import MAX_MESSAGE_BYTES
from features.layout import Layout
from features.times import DAY, HOUR, MINUTE, format_us
from freshrank.pipeline.ingest import warnings

T0 = 1_735_689_600_000_000  # 2025-01-01


def clicks(
    low: int, high: int, *, partition: int = 0, start: int = T0, step: int = MINUTE, name: str = "e"
) -> list[EventRow]:
    """One click an offset; known when it happened."""
    rows = []
    for offset in range(low, high):
        time = start + (offset - low) * step
        event = Click(
            event_id=f"e{partition}-{offset}", event_time=format_us(time), schema_version=1, item_id="i",
            user_id=f"u{offset % 3}",
        )  # fmt: skip
        rows.append(EventRow(partition, offset, time, event))
    return rows


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@pytest.fixture
def table(layout: Layout) -> TopicTable:
    return TopicTable(layout.table("clicks"), "clicks", "cluster/topic", "clicks")


def another(layout: Layout) -> TopicTable:
    """A second writer of the same table."""
    return TopicTable(layout.table("clicks"), "clicks", "cluster/topic", "clicks")


def count(layout: Layout, known_before: int = T0 + 1000 * DAY, **span: Any) -> int:
    con = connect()
    view = EventLog(layout).relation(con, "clicks", known_before, **span)
    return int(con.sql(f"SELECT count(*) FROM {view}").fetchall()[0][0])


def stored(layout: Layout) -> int:
    return int(DeltaTable(layout.table("clicks")).to_pyarrow_table().num_rows)


def test_rows_and_offsets_are_committed_together(layout: Layout, table: TopicTable) -> None:
    assert table.next_offset(0) is None
    assert table.commit(EventBatch(clicks(0, 10), {0: None}, {0: 12})) == 10
    assert (table.next_offset(0), another(layout).next_offset(0), stored(layout)) == (12, 12, 10)


def test_a_batch_without_rows_still_moves_the_offset(layout: Layout, table: TopicTable) -> None:
    table.commit(EventBatch(clicks(0, 3), {0: None}, {0: 3}))
    assert table.commit(EventBatch([], {0: 3}, {0: 5})) == 0
    assert (another(layout).next_offset(0), stored(layout)) == (5, 3)


def test_the_same_batch_again_adds_nothing(layout: Layout, table: TopicTable) -> None:
    batch = EventBatch(clicks(0, 10), {0: None}, {0: 10})
    table.commit(batch)
    assert table.commit(batch) == 0
    assert another(layout).commit(batch) == 0
    assert stored(layout) == 10


def test_what_a_faster_writer_wrote_is_left_out(layout: Layout, table: TopicTable) -> None:
    table.commit(EventBatch(clicks(0, 10), {0: None}, {0: 10}))
    slow = another(layout)
    assert table.commit(EventBatch(clicks(10, 20), {0: 10}, {0: 20})) == 10
    assert slow.next_offset(0) == 10  # it does not know
    assert slow.commit(EventBatch(clicks(10, 25), {0: 10}, {0: 25})) == 5
    assert (another(layout).next_offset(0), stored(layout)) == (25, 25)


def test_writers_of_different_partitions_do_not_hinder_each_other(layout: Layout, table: TopicTable) -> None:
    other = another(layout)
    table.commit(EventBatch(clicks(0, 5), {0: None}, {0: 5}))
    assert other.commit(EventBatch(clicks(0, 5, partition=1), {1: None}, {1: 5})) == 5
    assert stored(layout) == 10


def test_a_table_that_stands_before_the_batch_is_an_error(layout: Layout, table: TopicTable) -> None:
    table.commit(EventBatch(clicks(0, 5), {0: None}, {0: 5}))
    with pytest.raises(DataError, match="stands before the batch: clicks:0 = 5; it should stand at 7"):
        table.commit(EventBatch(clicks(7, 9), {0: 7}, {0: 9}))
    assert stored(layout) == 5


def test_offsets_outlive_checkpoints_and_compaction(layout: Layout, table: TopicTable) -> None:
    for number in range(60):
        table.commit(EventBatch(clicks(number, number + 1), {0: number or None}, {0: number + 1}))
    assert list((layout.table("clicks") / "_delta_log").glob("*.checkpoint.parquet"))
    table.commit(EventBatch(clicks(60, 61, start=T0 + 3 * DAY), {0: 60}, {0: 61}))
    assert compact_closed(layout) == 60
    assert compact_closed(layout) == 0
    assert another(layout).next_offset(0) == 61
    assert count(layout) == 61


def test_a_topic_made_again_counts_its_offsets_anew(layout: Layout, table: TopicTable) -> None:
    table.commit(EventBatch(clicks(0, 10), {0: None}, {0: 10}))
    remade = TopicTable(layout.table("clicks"), "clicks", "cluster/other", "clicks")
    assert remade.next_offset(0) is None
    assert remade.commit(EventBatch(clicks(0, 10), {0: None}, {0: 10})) == 10
    assert (stored(layout), count(layout)) == (20, 10)


def test_a_table_gains_the_columns_that_its_schema_gained(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    import features.eventlog.table as module

    schema = arrow_schema("clicks")
    without = schema.remove(schema.get_field_index("request_id"))
    with monkeypatch.context() as patch:
        patch.setattr(module, "arrow_schema", lambda _topic: without)
        patch.setattr(module, "to_arrow", lambda *args: real(*args).drop_columns(["request_id"]))
        from features.eventlog.schema import to_arrow as real

        old = another(layout)
        old.commit(EventBatch(clicks(0, 4), {0: None}, {0: 4}))
    assert count(layout) == 4  # read by the new schema before anything is written with it
    new = another(layout)
    new.commit(EventBatch(clicks(4, 6), {0: 4}, {0: 6}))
    con = connect()
    view = EventLog(layout).relation(con, "clicks", T0 + DAY)
    assert con.sql(f"SELECT count(*), count(request_id) FROM {view}").fetchall() == [(6, 0)]


def test_only_what_was_known_before_the_cut_is_seen(layout: Layout, table: TopicTable) -> None:
    rows = clicks(0, 10)
    late = [EventRow(row.partition, row.offset, row.known_time + 2 * DAY, row.event) for row in rows[8:]]
    table.commit(EventBatch([*rows[:8], *late], {0: None}, {0: 10}))
    assert count(layout, T0 + DAY) == 8
    assert count(layout, T0 + 3 * DAY) == 10
    assert count(layout, T0 + 4 * MINUTE) == 4  # known_time < cut, not at it


def test_spans_of_event_time_are_half_open(layout: Layout, table: TopicTable) -> None:
    table.commit(EventBatch(clicks(0, 48, step=HOUR), {0: None}, {0: 48}))
    assert count(layout, from_us=T0 + DAY) == 24
    assert count(layout, to_us=T0 + DAY) == 24
    assert count(layout, from_us=T0 + HOUR, to_us=T0 + 3 * HOUR) == 2
    assert count(layout, from_us=T0 + 5 * DAY) == 0


def test_days_outside_the_span_are_not_opened(layout: Layout, table: TopicTable) -> None:
    table.commit(EventBatch(clicks(0, 10, step=DAY), {0: None}, {0: 10}))
    for file in layout.table("clicks").glob("event_date=2025-01-0[1-7]/*.parquet"):
        file.write_bytes(b"no parquet")
    assert count(layout, from_us=T0 + 7 * DAY) == 3


def test_the_lowest_partition_and_offset_of_a_repeated_event_stays(layout: Layout, table: TopicTable) -> None:
    first, again = clicks(0, 5), clicks(0, 5)
    moved = [EventRow(1, 100 + row.offset, row.known_time + HOUR, row.event) for row in again]
    lower = [EventRow(0, 50 + row.offset, row.known_time + HOUR, row.event) for row in again[:2]]
    table.commit(EventBatch([*moved, *first[2:], *lower], {0: None, 1: None}, {0: 60, 1: 200}))
    con = connect()
    view = EventLog(layout).relation(con, "clicks", T0 + DAY)
    kept = con.sql(f"SELECT event_id, _partition, _offset FROM {view} ORDER BY event_id").fetchall()
    assert kept == [("e0-0", 0, 50), ("e0-1", 0, 51), ("e0-2", 0, 2), ("e0-3", 0, 3), ("e0-4", 0, 4)]


def test_a_repetition_that_came_after_the_cut_changes_nothing(layout: Layout, table: TopicTable) -> None:
    first = [EventRow(3, row.offset, row.known_time, row.event) for row in clicks(0, 3)]
    later = [EventRow(0, row.offset, row.known_time + DAY, row.event) for row in clicks(0, 3)]
    table.commit(EventBatch([*first, *later], {0: None, 3: None}, {0: 3, 3: 3}))
    con = connect()
    log = EventLog(layout)
    before = log.relation(con, "clicks", T0 + HOUR, name="before")
    after = log.relation(con, "clicks", T0 + 2 * DAY, name="after")
    assert con.sql(f"SELECT DISTINCT _partition FROM {before}").fetchall() == [(3,)]
    assert con.sql(f"SELECT DISTINCT _partition FROM {after}").fetchall() == [(0,)]


def test_two_views_of_one_connection_do_not_disturb_each_other(layout: Layout, table: TopicTable) -> None:
    table.commit(EventBatch([*clicks(0, 5), *clicks(5, 10)], {0: None}, {0: 10}))
    con = connect()
    log = EventLog(layout)
    views = [log.relation(con, "clicks", T0 + minute * MINUTE, name=f"v{minute}") for minute in (2, 4)]
    assert [con.sql(f"SELECT count(*) FROM {view}").fetchall()[0][0] for view in views] == [4, 8]


def item(offset: int, time: int, *, price: int | None = None) -> EventRow:
    event: Item | Gone
    if price is None:
        event = Gone(topic="items", key="i1", event_id=event_id("gone", time), time_us=time)
    else:
        event = Item(
            event_id=event_id("i1", time), event_time=format_us(time), schema_version=1, item_id="i1", shop_id="s",
            price_minor=price, available=True, attributes={"zone": "a", "n": 3},
        )  # fmt: skip
    return EventRow(0, offset, time, event)


def test_the_state_of_items_is_the_newest_row_known_and_gone_is_gone(layout: Layout) -> None:
    table = TopicTable(layout.table("items"), "items", "cluster/topic", "items")
    rows = [item(0, T0, price=5), item(1, T0 + DAY, price=7), item(2, T0 + 2 * DAY), item(3, T0 + 3 * DAY, price=9)]
    table.commit(EventBatch(rows, {0: None}, {0: 4}))
    con, log = connect(), EventLog(layout)

    def price(known_before: int) -> list[tuple[int, str]]:
        view = log.latest(con, "items", known_before)
        return con.sql(f"SELECT price_minor, attributes->>'$.zone' FROM {view}").fetchall()

    assert [price(T0 + day * DAY + 1) for day in range(4)] == [[(5, "a")], [(7, "a")], [], [(9, "a")]]
    with pytest.raises(UsageError, match="topic has no state"):
        log.latest(con, "clicks", T0)


def test_standing_says_what_there_was_at_the_cut(layout: Layout, table: TopicTable) -> None:
    table.commit(EventBatch([*clicks(0, 10), *clicks(0, 2, partition=1)], {0: None, 1: None}, {0: 10, 1: 2}))
    standing = EventLog(layout).standing(connect(), "clicks", T0 + 5 * MINUTE)
    assert standing.rows == 7
    assert standing.last_known_time == T0 + 4 * MINUTE
    assert standing.offsets == {"cluster/topic/0": 4, "cluster/topic/1": 1}
    assert standing.version == EventLog(layout).version("clicks")


def test_a_topic_that_was_never_ingested_is_not_ready(layout: Layout) -> None:
    with pytest.raises(NotReadyError, match="run `freshrank ingest` first"):
        count(layout)
    with pytest.raises(UsageError, match="no such topic"):
        EventLog(layout).version("nonsense")
    with pytest.raises(UsageError, match="not a view's name"):
        EventLog(layout).relation(connect(), "clicks", T0, name="a; DROP")


@pytest.mark.parametrize("topic", EVENTS)
def test_an_empty_table_has_every_column(layout: Layout, topic: str) -> None:
    TopicTable(layout.table(topic), topic, "cluster/topic", topic)
    con = connect()
    view = EventLog(layout).relation(con, topic, T0)
    assert con.sql(f"SELECT * FROM {view}").columns == arrow_schema(topic).names
    assert con.sql(f"SELECT count(*) FROM {view}").fetchall() == [(0,)]


def test_late_events_open_a_closed_day_again(layout: Layout, table: TopicTable) -> None:
    for number, start in enumerate((T0, T0, T0 + DAY, T0 + 2 * DAY)):
        table.commit(EventBatch(clicks(number, number + 1, start=start), {0: number or None}, {0: number + 1}))
    assert compact_closed(layout) == 2
    table.commit(EventBatch(clicks(4, 5, start=T0), {0: 4}, {0: 5}))
    assert compact_closed(layout) == 2
    assert len(list(DeltaTable(layout.table("clicks")).file_uris())) == 3
    assert count(layout) == 5


def test_a_view_made_before_a_compaction_still_reads(layout: Layout, table: TopicTable) -> None:
    for number in range(3):
        table.commit(EventBatch(clicks(number, number + 1), {0: number or None}, {0: number + 1}))
    table.commit(EventBatch(clicks(3, 4, start=T0 + 5 * DAY), {0: 3}, {0: 4}))
    con = connect()
    view = EventLog(layout).relation(con, "clicks", T0 + 9 * DAY)
    assert compact_closed(layout) == 3
    assert con.sql(f"SELECT count(*) FROM {view}").fetchall() == [(4,)]


def test_a_dead_letter_fits_its_topic_whatever_it_wraps() -> None:
    def wrapped(value: bytes | None, *, key: bytes = b"k", whole: bool = True) -> dict[str, Any]:
        record = SimpleNamespace(topic="clicks", partition=1, offset=2, timestamp=3, key=key, value=value)
        letter = dead.letter(record, InvalidEvent("no"), whole=whole)
        assert len(letter) < MAX_MESSAGE_BYTES
        fields: dict[str, Any] = msgspec.json.decode(letter)
        return fields

    assert wrapped(b"x" * 1_000_000)["value"] == "x" * 1_000_000
    assert len(wrapped(b"\xff" * 1_000_000)["value_base64"]) > 1_300_000
    huge = wrapped(b"\x01" * 1_000_000)  # six bytes each in JSON
    assert huge["value_bytes"] == 1_000_000
    assert huge["value_sha256"] == hashlib.sha256(b"\x01" * 1_000_000).hexdigest()
    assert "value" not in huge
    assert (huge["topic"], huge["partition"], huge["offset"], huge["reason"]) == ("clicks", 1, 2, "no")
    bare = wrapped(b"x" * 10, whole=False)
    assert (bare["key"], bare["value_bytes"], "value" in bare) == ("k", 10, False)
    assert wrapped(None, key=b"k" * 5_000_000)["key_bytes"] == 5_000_000


def test_the_dead_are_counted_with_the_rows_whoever_writes_them(layout: Layout, table: TopicTable) -> None:
    batch = EventBatch(clicks(0, 4), {0: None}, {0: 10}, {0: [4, 5, 9]})
    table.commit(batch)
    slow = another(layout)
    table.commit(EventBatch(clicks(10, 12), {0: 10}, {0: 14}, {0: [12]}))
    assert slow.commit(EventBatch(clicks(10, 12), {0: 10}, {0: 20}, {0: [12, 15, 16]})) == 0  # knows of less, has more
    assert slow.commit(batch) == 0
    assert (table.tally([0, 1]), table.tally([0]).share) == (Tally(read=12, dead=6), 0.5)


class Topic:
    """A topic's counts over several runs, and the judgement after each."""

    def __init__(self, layout: Layout, source: str = "cluster/topic") -> None:
        self.layout, self.source, self.read, self.dead = layout, source, 0, 0

    def run(self, read: int, dead: int, *, limit: float = 0.1, until: int | None = None) -> dict[str, Refused]:
        self.read, self.dead = self.read + read, self.dead + dead
        counted = Counted(self.source, Tally(self.read, self.dead), {"no amount": dead} if dead else {})
        return judge(self.layout, {"purchases": counted}, limit=limit, until=until)


def test_a_topic_full_of_nonsense_stops_the_run_and_every_run_after_it(layout: Layout) -> None:
    topic = Topic(layout)
    assert topic.run(1_000_000, 0) == {}
    for more in ((1000, 990), (0, 0), (100_000, 0)):  # again, and again with many good records behind
        with pytest.raises(DataError) as error:
            topic.run(*more)
        told = str(error.value)
        assert "purchases: 990 of 1,000 new records (99.0%) are no events (990 times: no amount)" in told
        assert "kafka.max_invalid_share = 0.1" in told
        assert told.endswith("FRESHRANK_KAFKA__MAX_INVALID_SHARE=0.99")


def test_nonsense_is_accepted_once_by_raising_the_share_and_that_is_kept(layout: Layout) -> None:
    topic = Topic(layout)
    with pytest.raises(DataError):
        topic.run(1000, 990)
    with pytest.raises(DataError):
        topic.run(0, 0, limit=0.98)
    assert topic.run(990, 0, limit=0.99, until=T0) == {}
    assert topic.run(0, 0) == topic.run(500, 10) == {}
    (accepted,) = msgspec.json.decode((layout.state / "invalid.json").read_bytes())["accepted"]
    assert accepted == {"topic": "purchases", "read": 1000, "dead": 990, "limit": 0.99, "until": format_us(T0)}
    with pytest.raises(DataError):
        topic.run(100, 50)


def test_a_few_invalid_records_stop_nothing_but_add_up(layout: Layout) -> None:
    topic = Topic(layout)
    assert topic.run(3, 1)["purchases"].dead == 1
    for _ in range(8):
        assert topic.run(1, 1)
    with pytest.raises(DataError, match=r"10 of 12 new records \(83\.3%\)"):
        topic.run(1, 1)
    assert Topic(layout, "cluster/made again").run(100, 0) == {}
    with pytest.raises(DataError, match="1 of 5 new records"):
        Topic(layout, "cluster/none allowed").run(5, 1, limit=0)


def test_what_went_well_but_not_all_well_is_said() -> None:
    reasons = Counter({"Expected `int`, got `float` - at `$.amount_minor`": 3, "other": 1})
    run = Ingested(events=2, dead=4, reasons=reasons, few=Refused(read=6, dead=4), hidden={1: 21})
    dead_ones, few, hidden = warnings("purchases", run)
    assert dead_ones.startswith("purchases: 4 of 6 new records (66.7%) are no events, 3 of them: Expected `int`, got")
    assert "kafka.max_invalid_share" in few
    assert "partition 1: 21 offsets" in hidden
    assert warnings("purchases", Ingested(events=100)) == []


def test_a_cut_that_has_not_come_is_refused(layout: Layout, table: TopicTable) -> None:
    far = 2 * T0  # 2080
    with pytest.raises(NotReadyError, match=r"has not come.*there is no record yet"):
        note_complete(layout, far)
    table.commit(EventBatch(clicks(0, 1, start=far), {0: None}, {0: 1}))
    with pytest.raises(NotReadyError, match=f"newest record is of {format_us(far)}.*--until"):
        note_complete(layout, far + 1)
    assert complete_until(layout) is None
    for until in (T0, far, T0):  # past days, and simulated ones that the log has reached
        note_complete(layout, until)
    assert complete_until(layout) == far


def test_of_listings_known_at_one_moment_the_later_record_stays_when_partitions_were_added(layout: Layout) -> None:
    table = TopicTable(layout.table("items"), "items", "cluster/topic", "items")

    def listing(key: str, partition: int, offset: int, time: int, price: int) -> EventRow:
        known = item(offset, time, price=price)
        assert isinstance(known.event, Item)
        event = msgspec.structs.replace(known.event, event_id=event_id(key, time, price), item_id=key)
        return EventRow(partition, offset, time, event)

    rows = [
        listing("up", 0, 5000, T0, 100), listing("up", 7, 3, T0, 200),
        listing("down", 3, 4999, T0 - DAY, 50), listing("down", 3, 5000, T0, 100), listing("down", 1, 2, T0, 200),
        listing("same", 0, 10, T0, 100), listing("same", 0, 11, T0, 200),
    ]  # fmt: skip
    table.commit(EventBatch(rows, {0: None, 1: None, 3: None, 7: None}, {0: 5001, 1: 3, 3: 5001, 7: 4}))
    con = connect()
    view = EventLog(layout).latest(con, "items", T0 + DAY)
    found = con.sql(f"SELECT item_id, price_minor FROM {view} ORDER BY 1").fetchall()
    assert found == [("down", 200), ("same", 200), ("up", 200)]
    facts.load_items(con, layout, known_before_us=T0 + DAY)
    found = con.sql("SELECT item_id, known_time, price_minor FROM f_items ORDER BY 1, 2").fetchall()
    assert found == [("down", T0 - DAY, 50), ("down", T0, 200), ("same", T0, 200), ("up", T0, 200)]
