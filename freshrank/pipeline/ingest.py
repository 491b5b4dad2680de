"""Step `ingest`: Kafka to the event log, exactly once.

Reads the topics; leaves `lake/<topic>`, dead letters with their reasons, the moment up to which the log is complete,
and `steps/<D>/ingest.json`.
"""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from features.eventlog.compact import compact_closed
from features.eventlog.ingest import Ingested, ingest
from features.eventlog.share import describe
from features.eventlog.table import Tally
from features.times import format_us, run_cut
from freshrank.pipeline.step import StepResult, say, seconds_since
from freshrank.settings import Settings


class TopicIngested(msgspec.Struct, frozen=True):
    """What was taken in of a topic.

    Args:
        events: Rows appended.
        dead_letters: Records that were no events.
        first: Partition → offset where this run began; `from` on disk.
        next: Partition → next offset to read; `to` on disk.
        hidden: Partition → offsets that an open transaction hides.
        warnings: What an operator should look at although it went well.
    """

    events: int
    dead_letters: int
    first: dict[int, int] = msgspec.field(name="from")
    next: dict[int, int] = msgspec.field(name="to")
    hidden: dict[int, int]
    warnings: list[str]


@dataclass(frozen=True)
class EventsIngested(StepResult):
    """The event log, brought up to what Kafka holds.

    Args:
        until: The moment of known time up to which it is complete, RFC 3339; None where none was asked for.
        topics: Topic → what was taken in.
        files_compacted: Files of closed days that were replaced.
        seconds: How long it took.
    """

    STEP: ClassVar[str] = "ingest"
    COMMAND: ClassVar[str] = "ingest"

    until: str | None
    topics: dict[str, TopicIngested]
    files_compacted: int
    seconds: float

    @property
    def events(self) -> int:
        """Rows appended."""
        return sum(topic.events for topic in self.topics.values())

    @property
    def dead_letters(self) -> int:
        """Records that were no events."""
        return sum(topic.dead_letters for topic in self.topics.values())

    def summary(self) -> str:
        """One line for people."""
        return (
            f"{self.events:,} events ingested, {self.dead_letters:,} dead letters, {self.files_compacted} files "
            f"compacted, in {self.seconds:.1f} s"
        )

    def to_json(self) -> dict[str, object]:
        """With the sums over all topics."""
        return {
            "events": self.events,
            "dead_letters": self.dead_letters,
            "until": self.until,
            "topics": msgspec.to_builtins(self.topics),
            "files_compacted": self.files_compacted,
            "seconds": self.seconds,
        }


def run(settings: Settings, day: dt.date, *, compact: bool = True) -> EventsIngested:
    """Take in every event that Kafka holds now, and say that the log is complete up to the day's cut.

    Args:
        settings: All settings.
        day: The run's day D.
        compact: Whether closed days are compacted.

    Raises:
        DataError: If Kafka no longer has records that the log lacks, or too many of a topic's are no events.
        NotReadyError: If the log cannot be complete at the cut.
        UnreachableError: If Kafka does not answer.
    """
    result = take_in(settings, run_cut(day), compact=compact)
    result.leave(settings.layout, day)
    return result


def take_in(settings: Settings, until_us: int | None, *, compact: bool = True) -> EventsIngested:
    """Take in every event that Kafka holds now; what is no valid event goes to the dead letters with the reason.

    Args:
        settings: All settings.
        until_us: Moment of known time up to which the log has to be complete, µs UTC; None for none.
        compact: Whether closed days are compacted.
    """
    from freshrank.stack.addresses import resolve

    began = time.monotonic()

    def progress(topic: str, done: Ingested) -> None:
        say(f"{topic}: {done.events:,} events, {done.dead:,} dead letters")

    done = ingest(resolve(settings).kafka, settings.layout, until=until_us, progress=progress)
    topics = {topic: _told(topic, one) for topic, one in done.items()}
    for told in topics.values():
        for line in told.warnings:
            say(f"warning: {line}")
    files = compact_closed(settings.layout) if compact else 0
    until = None if until_us is None else format_us(until_us)
    return EventsIngested(until, topics, files, seconds_since(began))


def _told(topic: str, done: Ingested) -> TopicIngested:
    return TopicIngested(
        events=done.events,
        dead_letters=done.dead,
        first=done.rows_from,
        next=done.rows_to,
        hidden=done.hidden,
        warnings=warnings(topic, done),
    )


def warnings(topic: str, done: Ingested) -> list[str]:
    """What of a topic's run an operator should look at although it went well.

    Args:
        topic: Our name of the topic.
        done: What was done with it.
    """
    lines = []
    if done.dead:
        reason, count = done.reasons.most_common(1)[0]
        said = describe(Tally(done.events + done.dead, done.dead))
        lines.append(f"{topic}: {said}, {count:,} of them: {reason}; see `freshrank topics dead`")
    if done.few is not None:
        lines.append(
            f"{topic}: beyond kafka.max_invalid_share, and too few to stop the run; they count on with the next"
        )
    if done.hidden:
        where = ", ".join(f"partition {number}: {count:,} offsets" for number, count in sorted(done.hidden.items()))
        lines.append(f"{topic}: an open transaction hides records ({where}); a later run takes them in")
    return lines
