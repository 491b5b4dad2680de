"""Settings that are right one by one and cannot work together: refused when they are read, not hours later."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from features import times
from features.errors import UsageError
from features.settings import check_together
from serving.gateway.api import SHOWN_LIMIT

if TYPE_CHECKING:
    from freshrank.sections import Settings

CUT_HOUR = times.run_start(dt.date(1970, 1, 1)) // times.HOUR  # UTC
_TOPIC_LENGTH = 249 - len(".dead")  # Kafka's limit, with room for the dead letters' topic


def check(settings: Settings) -> None:
    """Look for settings that contradict each other.

    Args:
        settings: All settings, `stack.dir` absolute.

    Raises:
        UsageError: Naming both settings, where two cannot work together; or one that no server could work with.
    """
    for one in (_folder, _addresses, _security, _topics, _fields, _schedule, _names, _lists, _intervals):
        one(settings)
    check_together(settings.labels, settings.window)


def _folder(settings: Settings) -> None:
    """Whether servers and tables can live in the stack's folder, and Triton's stubs in the model repository."""
    folder = str(settings.layout.root)  # the data plane's own refusal comes first
    for character, reader in (("$", "Airflow takes it for a variable"), ("?", "Airflow's database for a question")):
        if character in folder:
            raise UsageError(
                f"no stack can live there: {reader}", field="stack.dir", value=folder,
                remedy=f"use a folder whose path does without {character!r}",
            )  # fmt: skip
    repository = settings.triton.repository
    if repository is None or settings.triton.url:
        return
    told = repository.relative_to(folder) if repository.is_relative_to(folder) else repository
    if found := re.search(r"[^\w./+:@%,=-]", str(told), re.ASCII):
        raise UsageError(
            f"Triton starts its processes through a shell and quotes nothing: it takes no {found[0]!r}",
            field="triton.repository", value=str(repository),
            remedy="use a folder whose path does without it, or leave it empty",
        )  # fmt: skip


def _addresses(settings: Settings) -> None:
    named = [(f"{name}.url", url) for name in ("redis", "triton") if (url := getattr(settings, name).url)]
    named += [("kafka.bootstrap_servers", server) for server in _servers(settings)]
    for name, text in named:
        try:
            parts = urlsplit(f"//{text}")
            fits = bool(parts.hostname) and parts.port is not None
        except ValueError:
            fits = False
        if not fits or "/" in text or "@" in text:
            more = "[,host:port]" if name.startswith("kafka") else ""
            raise UsageError("not a server's address", field=name, value=text, remedy=f"write host:port{more}")


def _servers(settings: Settings) -> list[str]:
    named = settings.kafka.bootstrap_servers
    return [server.strip() for server in named.split(",")] if named else []


def _security(settings: Settings) -> None:
    kafka = settings.kafka
    protocol = {"kafka.security_protocol": kafka.security_protocol}
    if not _servers(settings):
        if kafka.security_protocol != "PLAINTEXT":
            _refuse(
                "the stack's own Kafka speaks PLAINTEXT on loopback alone",
                {**protocol, "kafka.bootstrap_servers": ""},
                "name your cluster in kafka.bootstrap_servers",
            )
        if kafka.replication_factor > 1:
            _refuse(
                "the stack's own Kafka is one broker",
                {"kafka.replication_factor": kafka.replication_factor, "kafka.bootstrap_servers": ""},
                "leave kafka.replication_factor at 1, or name your cluster",
            )
    for name in ("sasl_mechanism", "sasl_username"):
        value, sasl = getattr(kafka, name), kafka.security_protocol.startswith("SASL")
        if sasl and not value:
            _refuse("SASL needs it", {f"kafka.{name}": "", **protocol}, f"set kafka.{name}")
        if value and not sasl:
            _refuse("nothing would use it", {f"kafka.{name}": value, **protocol}, "set SASL_SSL, or leave it out")
    if kafka.ssl_cafile is not None and not kafka.security_protocol.endswith("SSL"):
        pair = {"kafka.ssl_cafile": str(kafka.ssl_cafile), **protocol}
        _refuse("nothing would use it, and nothing be encrypted", pair, "set SSL or SASL_SSL, or leave it out")


def _topics(settings: Settings) -> None:
    kafka, owner = settings.kafka, dict[str, str]()
    for name in vars(kafka.topics):
        topic = kafka.topic(name)
        if len(topic) > _TOPIC_LENGTH:
            pair = {f"kafka.topics.{name}": getattr(kafka.topics, name), "kafka.topic_prefix": kafka.topic_prefix}
            _refuse(f"a topic's name is too long, {len(topic)} of {_TOPIC_LENGTH} characters", pair, "shorten one")
        for taken in (topic, f"{topic}.dead"):
            if taken in owner:
                pair = {f"kafka.topics.{name}": getattr(kafka.topics, name), f"kafka.topics.{owner[taken]}": taken}
                _refuse("two kinds of events on one topic", pair, "give each its own")
            owner[taken] = name


def _fields(settings: Settings) -> None:
    from features.events import EVENTS

    for topic, kind in EVENTS.items():
        ours, names = kind.__struct_fields__, settings.kafka.field_names(topic)
        for name, theirs in names.items():
            field = f"kafka.fields.{topic}.{name}"
            if name not in ours:
                raise UsageError(
                    "not a field of ours: it would map nothing", field=field, value=theirs,
                    remedy=f"write ours = theirs; ours are {', '.join(ours)}",
                )  # fmt: skip
            others = {other: names.get(other, other) for other in ours if other != name}
            if taken := [other for other, source in others.items() if source == theirs]:
                pair = {field: theirs, f"kafka.fields.{topic}.{taken[0]}": theirs}
                _refuse("two of our fields from one of the topic's", pair, "give each its own")


def _schedule(settings: Settings) -> None:
    cron = settings.airflow.schedule
    found = re.fullmatch(r"(\d{1,2})\s+(\d{1,2})\s+\*\s+\*\s+\*", cron)
    if cron and not (found and int(found[1]) < 60 and CUT_HOUR <= int(found[2]) < 24):
        raise UsageError(
            f"not a time once a day from {CUT_HOUR:02}:00 UTC on, when a day's facts are complete",
            field="airflow.schedule", value=cron,
            remedy='write a cron such as "30 2 * * *", or leave it empty to trigger runs yourself',
        )  # fmt: skip


def _names(settings: Settings) -> None:
    """Features whose names clash, and hosts that no address could match."""
    from features.store.definitions import define

    define(settings.features)
    context = settings.features.context
    if twice := [name for name in context if context.count(name) > 1]:
        raise UsageError("named twice", field="features.context", value=twice[0], remedy="name it once")
    for host in settings.content.allowed_hosts:
        if _hostname(host) != host:
            raise UsageError(
                "not a host's name: no photo's address would match", field="content.allowed_hosts", value=host,
                remedy="write the name alone in lower case, without https://, port and path",
            )  # fmt: skip
    tasks = settings.train.tasks
    if len(set(tasks)) < len(tasks):
        raise UsageError("named twice", field="train.tasks", value=list(tasks), remedy="name each label once")


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _lists(settings: Settings) -> None:
    gateway = settings.gateway
    length = {"gateway.list_length": gateway.list_length}
    most = min(gateway.max_candidates, SHOWN_LIMIT)
    if gateway.list_length > most:
        pair = length | {"gateway.max_candidates": gateway.max_candidates}
        _refuse(
            f"a list would never be so long: a request or an impression holds at most {most} items", pair, "lower it"
        )
    if gateway.young_slots > (gateway.list_length or most):
        _refuse(
            "more places are reserved than there are",
            {"gateway.young_slots": gateway.young_slots, **length},
            "lower it",
        )


def _intervals(settings: Settings) -> None:
    gate = settings.gate
    if gate.bootstraps * (1 - gate.confidence) / 2 < 1:
        pair = {"gate.confidence": gate.confidence, "gate.bootstraps": gate.bootstraps}
        _refuse("too few resamples to have an end of the interval among them", pair, "raise gate.bootstraps")


def _refuse(what: str, pair: Mapping[str, object], remedy: str) -> None:
    (name, value), (other, against) = pair.items()
    raise UsageError(f"{what} ({other} = {against!r})", field=name, value=value, remedy=remedy)
