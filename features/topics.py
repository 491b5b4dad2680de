"""Kafka topics: created with the settings that event time needs, or checked where someone else creates them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from features.encoded import JsonObject
from features.errors import UsageError
from features.events import COMPACTED, EVENTS
from features.kafka import MAX_MESSAGE_BYTES, admin
from features.settings import KafkaSettings

if TYPE_CHECKING:
    from kafka import KafkaAdminClient

DEAD = ".dead"
_FOREVER = str(2**63 - 1)
_TEN_YEARS_MS = str(10 * 365 * 24 * 3600 * 1000)


@dataclass(frozen=True)
class Topic:
    """A topic as the broker has it.

    Args:
        name: Our name of it, such as `items` or `items.dead`.
        broker_name: The broker's name of it.
        topic_id: The broker's id of it, which a topic made again does not share.
        partitions: How many it has.
        configs: Its settings that matter here; empty if we have no right to read them.
        created: Whether this call created it.
        problems: What of its settings endangers the event log, or that they may not be read.
        notes: What of its settings is worth knowing and may be meant.
    """

    name: str
    broker_name: str
    topic_id: str
    partitions: int
    configs: dict[str, str]
    created: bool
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


def names() -> list[str]:
    """Our names of all topics, dead letters included."""
    return [*EVENTS, *(topic + DEAD for topic in EVENTS)]


def broker_name(settings: KafkaSettings, name: str) -> str:
    """The broker's name of one of our topics; dead letters follow the topic they come from."""
    return settings.topic(name.removesuffix(DEAD)) + (DEAD if name.endswith(DEAD) else "")


def wanted_configs(name: str) -> dict[str, str]:
    """Settings that a topic of ours is created with.

    Timestamps are event time, often of past days: retention and segment rolling, which count them against the wall
    clock, are off, and stamps ahead of the clock are let in, as a simulated day may lie there. A segment that is never
    rolled by time is not compacted before it has a gigabyte, so the history of listings can be ingested again.
    """
    configs = {
        "cleanup.policy": "compact" if name in COMPACTED or name.endswith(DEAD) else "delete",
        "retention.ms": "-1",
        "segment.ms": _TEN_YEARS_MS,
        "message.timestamp.type": "CreateTime",
        "message.timestamp.after.max.ms": _FOREVER,
        "message.timestamp.before.max.ms": _FOREVER,
    }
    if name.endswith(DEAD):
        configs["max.message.bytes"] = str(MAX_MESSAGE_BYTES)
    return configs


def ensure(settings: KafkaSettings) -> list[Topic]:
    """Create what is missing (or, with `create_topics` off, check that nothing is), and look at every topic's settings.

    Args:
        settings: Kafka's settings with `bootstrap_servers` filled in.

    Returns:
        All topics, in the order of `names()`. Existing topics are never altered: see `problems`.

    Raises:
        UsageError: If a topic is missing and may not be created.
        UnreachableError: If Kafka does not answer.
    """
    with admin(settings) as client:
        there = set(client.list_topics())
        missing = [name for name in names() if broker_name(settings, name) not in there]
        if missing and not settings.create_topics:
            raise UsageError(
                "topics are missing", field="kafka.topics",
                value=", ".join(broker_name(settings, name) for name in missing),
                remedy="create them with the settings of docs/sources.md, or set kafka.create_topics",
            )  # fmt: skip
        if missing:
            _create(client, settings, missing)
        return _describe(client, settings, names(), set(missing))


def _create(client: KafkaAdminClient, settings: KafkaSettings, missing: list[str]) -> None:
    from kafka import errors as kafka_errors

    for name in missing:
        new = {
            "num_partitions": settings.partitions,
            "replication_factor": settings.replication_factor,
            "configs": wanted_configs(name),
        }
        try:
            client.create_topics({broker_name(settings, name): new})
        except kafka_errors.TopicAlreadyExistsError:
            continue  # another process was faster
        except (kafka_errors.InvalidReplicationFactorError, kafka_errors.PolicyViolationError) as error:
            raise UsageError(
                f"the broker refuses to create {broker_name(settings, name)}", field="kafka.replication_factor",
                value=settings.replication_factor, remedy=str(error),
            ) from error  # fmt: skip
    client.wait_for_topics([broker_name(settings, name) for name in missing])


def _describe(client: KafkaAdminClient, settings: KafkaSettings, wanted: list[str], created: set[str]) -> list[Topic]:
    from kafka.admin import ConfigResource, ConfigResourceType

    by_broker = {broker_name(settings, name): name for name in wanted}
    found = {topic["name"]: topic for topic in client.describe_topics(list(by_broker))}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in by_broker]
    configs = _flatten(client.describe_configs(resources, config_filter="all"))
    topics = []
    for there, name in by_broker.items():
        # A broker that has not heard of a topic made just now answers as one that lets nobody look.
        values = configs.get(there) or (wanted_configs(name) if name in created else {})
        original = configs.get(there.removesuffix(DEAD), {}) if name.endswith(DEAD) else {}
        shown = {key: values[key] for key in wanted_configs(name) if key in values}
        topics.append(
            Topic(
                name=name, broker_name=there, topic_id=str(found[there].get("topic_id", "")),
                partitions=len(found[there]["partitions"]), configs=shown, created=name in created,
                problems=tuple(problems(name, values, original)), notes=tuple(_notes(name, values)),
            )
        )  # fmt: skip
    return topics


def _flatten(answer: JsonObject) -> dict[str, dict[str, str]]:
    """Broker topic name to its settings as text."""
    topics: dict[str, dict[str, str]] = {}
    for resources in answer.values():
        for name, entries in resources.items():
            topics[name] = {key: str(entry.get("value", "")) for key, entry in entries.items()}
    return topics


def problems(name: str, values: Mapping[str, str], original: Mapping[str, str]) -> list[str]:
    """What of a topic's settings endangers the event log.

    Args:
        name: Our name of the topic.
        values: Its settings; empty if the broker does not show them, as it does without an error to users that lack the
            right to look.
        original: Those of the topic that it keeps the dead letters of.

    Returns:
        A line for each problem: what it is, what it does, what to set.
    """
    if not values:
        return [
            "its settings may not be read: allow DescribeConfigs on the topic, or nobody knows whether they are right"
        ]
    compacted = name in COMPACTED or name.endswith(DEAD)
    policy = values.get("cleanup.policy", "")
    found = []
    if compacted and "delete" in policy:
        found.append("cleanup.policy deletes: what did not change lately is lost; use compact")
    if not compacted and "compact" in policy:
        found.append("cleanup.policy compacts: events of one key are lost; use delete")
    if name.endswith(DEAD):
        limit, needed = int(values.get("max.message.bytes", MAX_MESSAGE_BYTES)), letter_bytes(original)
        if limit < needed:
            found.append(
                f"max.message.bytes is {limit}: the letter of a long record goes without its original; use {needed}"
            )
    return found


def letter_bytes(original: Mapping[str, str]) -> int:
    """The `max.message.bytes` that lets a topic keep dead letters whole.

    A letter is JSON around the original, which escapes or base64 make longer; four times as long is enough for nearly
    all, and beyond 4 MiB we send none.

    Args:
        original: Settings of the topic that the records come from.

    Example:
        >>> letter_bytes({"max.message.bytes": "100000"})
        400000
    """
    return min(MAX_MESSAGE_BYTES, 4 * int(original.get("max.message.bytes", MAX_MESSAGE_BYTES)))


def _notes(name: str, values: Mapping[str, str]) -> list[str]:
    if values.get("message.timestamp.type") == "LogAppendTime" and not name.endswith(DEAD):
        return [
            "message.timestamp.type is LogAppendTime: good for a live topic, but a replayed day counts as known today"
        ]
    return []
