"""Apache Kafka: one node in KRaft mode, broker and controller in one process, data on disk."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from features.atomic import write_text
from features.errors import NotReadyError, UsageError
from freshrank.stack import addresses
from freshrank.stack.server import NotYet, Program, Server, setup_folder

if TYPE_CHECKING:
    from freshrank.settings import Settings

PROBE_TOPIC = "freshrank-probe"
_LOCALE = {"LC_ALL": "C.UTF-8"}  # by which Java reads and writes the names of files

_LOG4J = """<Configuration>
  <Appenders><Console name="STDOUT"><PatternLayout pattern="[%d] %p %m (%c)%n"/></Console></Appenders>
  <Loggers>
    <Logger name="kafka.server.KafkaRaftServer" level="INFO"/>
    <Root level="WARN"><AppenderRef ref="STDOUT"/></Root>
  </Loggers>
</Configuration>
"""


class Kafka(Server):
    """The broker of the local stack."""

    name = "kafka"
    can_be_external = True

    def is_external(self, settings: Settings) -> bool:
        """Whether `kafka.bootstrap_servers` names one."""
        return addresses.kafka_is_external(settings)

    def address(self, settings: Settings) -> str:
        """Bootstrap servers."""
        return addresses.kafka_bootstrap(settings)

    def ports(self, settings: Settings) -> tuple[int, ...]:
        """Clients' and the controller's."""
        return tuple(addresses.port(settings, offset) for offset in (addresses.KAFKA, addresses.KAFKA_CONTROLLER))

    def programs(self, settings: Settings) -> tuple[Program, ...]:
        """One Java process. The collector is the one with the least memory; one node has few topics."""
        command = (
            *_java(),
            *("-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:MaxMetaspaceSize=128m", "-XX:+ExitOnOutOfMemoryError"),
            "-Dlog4j2.configurationFile=run/kafka-log4j2.xml",
            *("kafka.Kafka", "run/kafka.properties"),
        )
        return (Program("kafka", command, _LOCALE, stop_s=20, directory=settings.layout.root),)

    def prepare(self, settings: Settings) -> None:
        """Write its configuration; format its folder once."""
        if settings.kafka.security_protocol != "PLAINTEXT":
            raise UsageError(
                "the stack's own Kafka speaks PLAINTEXT on loopback alone",
                field="kafka.security_protocol",
                value=settings.kafka.security_protocol,
                remedy="name your cluster in kafka.bootstrap_servers",
            )
        if not (setup_folder() / "kafka").exists() or shutil.which("java") is None:
            raise NotReadyError("Kafka's jars or Java are missing", remedy="run `make setup`")
        run, data = settings.layout.run, settings.layout.root / "kafka"
        write_text(run / "kafka-log4j2.xml", _LOG4J)
        properties = self._properties(settings)
        write_text(run / "kafka.properties", "".join(f"{key}={value}\n" for key, value in properties.items()))
        if not (data / "meta.properties").exists():
            self._format(data)

    def _properties(self, settings: Settings) -> dict[str, object]:
        broker, controller = self.ports(settings)
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{addresses.HOST}:{controller}",
            "listeners": f"PLAINTEXT://{addresses.HOST}:{broker},CONTROLLER://{addresses.HOST}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{addresses.HOST}:{broker}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            # Below its working folder: a comma in a path would make it two, and properties are read as Latin-1.
            "log.dirs": "kafka",
            "auto.create.topics.enable": "false",
            "num.partitions": settings.kafka.partitions,
            "default.replication.factor": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "share.coordinator.state.topic.num.partitions": 1,
            "group.initial.rebalance.delay.ms": 0,
            # A replay carries the stamps of its own time: the clock must not delete it. Topics set their own.
            "log.retention.ms": -1,
            # After a kill the next start waits until the old registration lapses; 9 s by default.
            "broker.session.timeout.ms": 6000,
            "broker.heartbeat.interval.ms": 1000,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "log.cleaner.dedupe.buffer.size": 16 * 2**20,
        }

    def _format(self, data: Path) -> None:
        data.mkdir(parents=True, exist_ok=True)
        identity = subprocess.run(
            [
                *(*_java(), "-Xmx128m", "kafka.tools.StorageTool"),
                *("format", "--ignore-formatted", "-t", _kafka_uuid(), "-c", "run/kafka.properties"),
            ],
            capture_output=True,
            encoding="utf-8",
            cwd=data.parent,
            env=os.environ | _LOCALE,
        )
        if identity.returncode:
            raise NotReadyError(
                f"Kafka's folder cannot be formatted: {(identity.stderr or identity.stdout).strip()[-300:]}",
                field="folder",
                value=str(data),
                remedy="mend what it says, or remove the folder to begin with an empty log",
            )

    def look(self, settings: Settings) -> str:
        """Ask a broker which topics there are."""
        from features.kafka import consumer

        with consumer(addresses.resolve(settings).kafka) as client:
            client.topics()
        return ""

    def probe(self, settings: Settings) -> None:
        """Produce a record and consume it."""
        broker = self.ports(settings)[0]
        with socket.socket() as trial:  # a client made before the broker listens waits for half a minute
            trial.settimeout(1)
            if trial.connect_ex((addresses.HOST, broker)):
                raise NotYet("its port is not open")
        produce_and_consume(self.address(settings))


def _java() -> tuple[str, ...]:
    """Java with Kafka's classes; without performance data, which it would leave in the temp directory when killed."""
    java = shutil.which("java") or "java"
    return (java, "-XX:-UsePerfData", "-Djava.awt.headless=true", "-cp", f"{setup_folder() / 'kafka'}/*")


def _kafka_uuid() -> str:
    import base64

    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")


def produce_and_consume(bootstrap: str) -> None:
    """Send one record to the probe's topic, acknowledged, and read it back.

    Args:
        bootstrap: Bootstrap servers of a broker without security.

    Raises:
        NotYet: If any of it fails.
    """
    import contextlib
    import logging

    from kafka import KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.admin import KafkaAdminClient, NewTopic
    from kafka.errors import KafkaError, TopicAlreadyExistsError

    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    mark = uuid.uuid4().bytes
    try:
        config = {"retention.ms": "3600000", "segment.ms": "3600000"}
        topic = NewTopic(PROBE_TOPIC, 1, 1, topic_configs=config)
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        with contextlib.closing(admin), contextlib.suppress(TopicAlreadyExistsError):
            admin.create_topics([topic])
        with contextlib.closing(KafkaProducer(bootstrap_servers=bootstrap)) as producer:
            sent = producer.send(PROBE_TOPIC, mark, partition=0).get(timeout=10)
        consumer = KafkaConsumer(bootstrap_servers=bootstrap, consumer_timeout_ms=10_000)
        with contextlib.closing(consumer):
            place = TopicPartition(PROBE_TOPIC, 0)
            consumer.assign([place])
            consumer.seek(place, sent.offset)
            if not any(record.value == mark for record in consumer):
                raise NotYet("a record produced is not consumed")
    except (KafkaError, OSError) as error:
        raise NotYet(f"{type(error).__name__}: {error}") from error
