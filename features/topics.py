"""Kafka topics: created with the settings that event time needs, or checked where someone else creates them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
        configs: Its settings that matter here.
        created: Whether this call created it.
        problems: What of its settings endangers the event log.
    """

    name: str
    broker_name: str
    topic_id: str
    partitions: int
    configs: dict[str, str]
    created: bool
    problems: tuple[str, ...]


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
        values = {key: configs.get(there, {}).get(key, "") for key in wanted_configs(name)}
        topics.append(
            Topic(
                name=name, broker_name=there, topic_id=str(found[there].get("topic_id", "")),
                partitions=len(found[there]["partitions"]), configs=values, created=name in created,
                problems=tuple(_problems(name, values)),
            )
        )  # fmt: skip
    return topics


def _flatten(answer: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Broker topic name to its settings as text."""
    topics: dict[str, dict[str, str]] = {}
    for resources in answer.values():
        for name, entries in resources.items():
            topics[name] = {key: str(entry.get("value", "")) for key, entry in entries.items()}
    return topics


def _problems(name: str, values: dict[str, str]) -> list[str]:
    compacted = name in COMPACTED or name.endswith(DEAD)
    found = []
    if compacted and "delete" in values["cleanup.policy"]:
        found.append("cleanup.policy deletes: what did not change lately is lost; use compact")
    if not compacted and "compact" in values["cleanup.policy"]:
        found.append("cleanup.policy compacts: events of one key are lost; use delete")
    if values["message.timestamp.type"] == "LogAppendTime" and not name.endswith(DEAD):
        found.append("message.timestamp.type is LogAppendTime: replayed days count as known today")
    return found
