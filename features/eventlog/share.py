"""Whether too many of a topic's new records are no events: a producer's change can empty a topic without an error.

Judged are all records since the last run that ended within the share, so that trying again changes nothing. What was
refused stays refused, however many good records follow, until one run under a raised `kafka.max_invalid_share`
accepts it; that is kept in `state/invalid.json`, in `accepted`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from features.atomic import write_bytes
from features.errors import DataError
from features.eventlog.table import Tally
from features.layout import Layout
from features.times import format_us

LEAST = 10  # fewer invalid records stop nothing, unless none is allowed
_REASONS = 3  # kept and told


@dataclass(frozen=True)
class Counted:
    """What is known of a topic when a run has ended.

    Args:
        source: `<cluster id>/<topic id>`: a topic made anew is judged anew.
        total: Its records since it is counted.
        reasons: Why records of this run were no events, to how many they were.
    """

    source: str
    total: Tally
    reasons: Mapping[str, int]


class Refused(msgspec.Struct, frozen=True):
    """A span of records that was refused."""

    read: int
    dead: int
    reasons: dict[str, int] = {}

    @property
    def share(self) -> float:
        """Share of what was no event, 0 to 1."""
        return self.dead / self.read if self.read else 0.0


class Judged(msgspec.Struct):
    """Up to where a topic was judged to be within the share, and what was refused since."""

    source: str
    read: int = 0
    dead: int = 0
    refused: Refused | None = None


class InvalidState(msgspec.Struct):
    """`state/invalid.json`."""

    topics: dict[str, Judged] = {}
    accepted: list[dict[str, object]] = []


def judge(layout: Layout, found: Mapping[str, Counted], *, limit: float, until: int | None) -> dict[str, Refused]:
    """Judge what a run found in each topic, and keep the judgement.

    Args:
        layout: Where the state lies.
        found: Topic to what is known of it.
        limit: The largest share that is accepted, 0 to 1.
        until: The moment up to which the run shall complete the log, µs UTC; noted with what is accepted.

    Returns:
        The topics beyond the share whose invalid records are too few to stop a run; they count on with the next run's.

    Raises:
        DataError: If the share of a topic is beyond the limit.
    """
    file = layout.state / "invalid.json"
    state = msgspec.json.decode(file.read_bytes(), type=InvalidState) if file.exists() else InvalidState()
    before = msgspec.json.encode(state)
    beyond: dict[str, Refused] = {}
    few: dict[str, Refused] = {}
    for topic, counted in found.items():
        judged = state.topics.get(topic)
        if judged is None or judged.source != counted.source:
            judged = state.topics[topic] = Judged(counted.source)
        since = _since(judged, counted)
        worst = max(since, judged.refused or since, key=lambda span: span.share)
        if worst.share > limit and (worst is judged.refused or worst.dead >= (LEAST if limit else 1)):
            beyond[topic] = judged.refused = worst
            continue
        if judged.refused is not None:
            _accept(state, topic, judged.refused, limit, until)
        if since.share > limit:
            few[topic] = since
        else:
            judged.read, judged.dead = counted.total.read, counted.total.dead
        judged.refused = None
    if msgspec.json.encode(state) != before:
        write_bytes(file, msgspec.json.format(msgspec.json.encode(state)) + b"\n")
    if beyond:
        raise _too_many(beyond, limit)
    return few


def _since(judged: Judged, counted: Counted) -> Refused:
    """The span since the last judgement that was within the share; a table restored to an earlier state has none."""
    reasons = Counter(counted.reasons)
    if judged.refused is not None:
        reasons.update(judged.refused.reasons)
    return Refused(
        read=max(0, counted.total.read - judged.read),
        dead=max(0, counted.total.dead - judged.dead),
        reasons=dict(reasons.most_common(_REASONS)),
    )


def _accept(state: InvalidState, topic: str, refused: Refused, limit: float, until: int | None) -> None:
    cut = {} if until is None else {"until": format_us(until)}
    state.accepted.append({"topic": topic, "read": refused.read, "dead": refused.dead, "limit": limit, **cut})


def _too_many(beyond: Mapping[str, Refused], limit: float) -> DataError:
    lines = []
    for topic, span in beyond.items():
        why = "; ".join(f"{count:,} times: {reason}" for reason, count in span.reasons.items())
        lines.append(f"{topic}: {describe(span)}" + (f" ({why})" if why else ""))
    enough = math.ceil(max(span.share for span in beyond.values()) * 1000) / 1000
    return DataError(
        "too many records are no events, no cut is called complete. " + " ".join(lines),
        field="kafka.max_invalid_share", value=limit,
        remedy="see `freshrank topics dead`, mend the producer and publish the events again; then accept what is lost "
        f"with one run under FRESHRANK_KAFKA__MAX_INVALID_SHARE={enough:g}",
    )  # fmt: skip


def describe(span: Refused | Tally) -> str:
    """Numbers for a line.

    Example:
        >>> describe(Refused(read=1000, dead=990))
        '990 of 1,000 new records (99.0%) are no events'
    """
    return f"{span.dead:,} of {span.read:,} new records ({span.share:.1%}) are no events"
