"""However several writers of one topic interleave, restart and know too little, each record is in the table once."""

from __future__ import annotations

import tempfile
from pathlib import Path

from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from features.eventlog.schema import EventRow
from features.eventlog.table import EventBatch, TopicTable
from features.events import Click
from features.times import format_us

T0 = 1_735_689_600_000_000
PARTITIONS = (0, 1)
LENGTH = 40  # records a partition
STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.booleans(), st.integers(0, 15), st.integers(0, 15)), min_size=1, max_size=12
)


class Writer:
    """An ingest: reads on from where it stands, commits, and knows of others only what its handle shows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.restart()

    def restart(self) -> None:
        """As after a kill: everything it knows is what the table says."""
        self.table = TopicTable(self.path, "clicks", "cluster/topic", "clicks")
        self.starts: dict[int, int | None] = {number: self.table.next_offset(number) for number in PARTITIONS}

    def step(self, sizes: tuple[int, int]) -> None:
        """Read some records of each partition and commit them."""
        ends = {p: min((self.starts[p] or 0) + size, LENGTH) for p, size in zip(PARTITIONS, sizes, strict=True)}
        ends = {number: end for number, end in ends.items() if end != self.starts[number]}
        read = {number: range(self.starts[number] or 0, end) for number, end in ends.items()}
        rows = [row(number, offset) for number, offsets in read.items() for offset in offsets if is_event(offset)]
        dead = {number: [o for o in offsets if not is_event(o)] for number, offsets in read.items()}
        self.table.commit(EventBatch(rows, self.starts, ends, dead))
        self.starts |= ends


def is_event(offset: int) -> bool:
    """Every fifth record is none."""
    return offset % 5 != 0


def row(partition: int, offset: int) -> EventRow:
    click = Click(
        event_id=f"{partition}-{offset}", event_time=format_us(T0), schema_version=1, user_id="u", item_id="i"
    )
    return EventRow(partition, offset, T0, click)


@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_each_record_is_there_and_counted_once_and_none_is_skipped(steps: list[tuple[int, bool, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clicks"
        writers = [Writer(path) for _ in range(3)]
        for number, restarts, *sizes in steps:
            if restarts:
                writers[number].restart()
            writers[number].step((sizes[0], sizes[1]))
        table = DeltaTable(path)
        found = table.to_pyarrow_table(columns=["_partition", "_offset"]).to_pylist()
        for partition in PARTITIONS:
            offsets = sorted(entry["_offset"] for entry in found if entry["_partition"] == partition)
            stands = table.transaction_version(f"cluster/topic/{partition}") or 0
            assert offsets == [offset for offset in range(stands) if is_event(offset)]
            counted = writers[0].table.tally([partition])
            assert (counted.read, counted.read - counted.dead) == (stands, len(offsets))
            assert stands == max(writer.starts[partition] or 0 for writer in writers)
