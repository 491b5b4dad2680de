"""A broker with TLS and SCRAM, as production has it: the settings are enough, and a wrong one is named."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ConfigResource,
    ConfigResourceType,
    ResourcePattern,
    ResourceType,
)

from features.configuration import read
from features.errors import UnreachableError, UsageError
from features.eventlog.ingest import ingest
from features.kafka import admin, consumer, producer
from features.layout import Layout
from features.publish import publish
from features.settings import KafkaSettings
from features.topics import ensure, names
from freshrank.stack.server import setup_folder
from tests.integration.broker import clicks, records, rows
from tests.stack import free_ports, until

pytestmark = pytest.mark.integration
PASSWORD = "right-password"


def keys(folder: Path) -> tuple[Path, Path]:
    """A key of 127.0.0.1 that signs itself, in Java's form, and its certificate in PEM."""
    store, certificate = folder / "broker.p12", folder / "ca.pem"
    common = ["-alias", "broker", "-keystore", str(store), "-storetype", "PKCS12", "-storepass", "changeit"]
    subprocess.run(
        ["keytool", "-genkeypair", "-keyalg", "EC", "-dname", "CN=127.0.0.1", "-ext", "san=ip:127.0.0.1", *common],
        check=True, capture_output=True,
    )  # fmt: skip
    pem = subprocess.run(["keytool", "-exportcert", "-rfc", *common], check=True, capture_output=True).stdout
    certificate.write_bytes(pem)
    return store, certificate


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """A broker of this module's own that wants TLS and a login."""
    folder, base = tmp_path_factory.mktemp("secure"), free_ports() + 10
    store, certificate = keys(folder)
    jars, java = f"{setup_folder() / 'kafka'}/*", shutil.which("java") or "java"
    properties = folder / "kafka.properties"
    values = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{base + 2}",
        "listeners": ",".join(
            [f"SECURE://127.0.0.1:{base}", f"INSIDE://127.0.0.1:{base + 1}", f"CONTROLLER://127.0.0.1:{base + 2}"]
        ),
        "advertised.listeners": f"SECURE://127.0.0.1:{base},INSIDE://127.0.0.1:{base + 1}",
        "listener.security.protocol.map": "SECURE:SASL_SSL,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "INSIDE",
        "controller.listener.names": "CONTROLLER",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:freshrank",  # the former is whoever comes by the inner listener
        "listener.name.secure.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.location": store,
        "ssl.keystore.password": "changeit",
        "log.dirs": folder / "data",
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
    }
    properties.write_text("".join(f"{name}={value}\n" for name, value in values.items()), encoding="utf-8")
    scram = [f"SCRAM-SHA-512=[name={name},password={PASSWORD}]" for name in ("freshrank", "limited")]
    subprocess.run(
        [java, "-Xmx128m", "-cp", jars, "kafka.tools.StorageTool", "format", "-t", "c2VjdXJlLWJyb2tlci0wMQ",
         "-c", str(properties), "--add-scram", scram[0], "--add-scram", scram[1]],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    with (folder / "log").open("w", encoding="utf-8") as log:
        broker = subprocess.Popen(
            [java, "-Xmx256m", "-XX:+UseSerialGC", "-cp", jars, "kafka.Kafka", str(properties)], stdout=log, stderr=log
        )
    try:
        settings = read(KafkaSettings, {
            "bootstrap_servers": f"127.0.0.1:{base}", "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "freshrank", "sasl_password": PASSWORD,
            "ssl_cafile": certificate, "partitions": 1,
        })  # fmt: skip

        def listens() -> bool:
            assert broker.poll() is None, (folder / "log").read_text(encoding="utf-8")[-3000:]
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", base), timeout=1):
                return True
            return False

        until(listens, "the broker listens", timeout_s=90)
        yield settings
    finally:
        broker.kill()
        broker.wait()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client tries again for this long only."""
    monkeypatch.setattr("features.kafka.BOOTSTRAP_MS", 6_000)


def changed(settings: KafkaSettings, **values: object) -> KafkaSettings:
    return read(KafkaSettings, vars(settings) | values)


def test_events_go_round_over_tls_with_a_login(secure: KafkaSettings, tmp_path: Path) -> None:
    publish(secure, clicks(0, 50))
    assert len(records(secure, "clicks")) == 50
    done = ingest(secure, Layout(tmp_path))
    assert done["clicks"].events == 50
    assert len(rows(Layout(tmp_path), "clicks", "event_id")) == 50


def test_a_wrong_password_is_a_matter_of_settings(secure: KafkaSettings) -> None:
    with pytest.raises(UsageError, match=r"refuses us.*kafka\.sasl_username = 'freshrank'"):
        ensure(changed(secure, sasl_password="wrong"))
    for client in (consumer, producer) * 4:  # the answer and the connection's end come in one read, or in two
        with pytest.raises(UsageError, match="refuses us"), client(changed(secure, sasl_password="wrong")):
            pass
    assert ensure(secure)  # what one client was refused is nothing to another


def test_a_mechanism_that_the_broker_has_not_is_a_matter_of_settings(secure: KafkaSettings) -> None:
    with pytest.raises(UsageError, match=r"kafka\.sasl_mechanism = 'SCRAM-SHA-256'"):
        ensure(changed(secure, sasl_mechanism="SCRAM-SHA-256"))


def test_settings_of_topics_that_may_not_be_read_are_not_as_they_should_be(
    secure: KafkaSettings, tmp_path: Path
) -> None:
    """The rights that docs/sources.md names suffice for ingest; without DescribeConfigs nobody knows the settings."""
    ensure(secure)
    with admin(secure) as client:
        items = ConfigResource(ConfigResourceType.TOPIC, "items", configs={"cleanup.policy": "delete"})
        client.alter_configs([items])
        allow(client, ResourceType.GROUP, secure.group_id, "READ")
        for name in names():
            allow(client, ResourceType.TOPIC, name, "READ", "WRITE", "DESCRIBE")
    limited = changed(secure, sasl_username="limited", create_topics=False)
    ingest(limited, Layout(tmp_path))
    found = ensure(limited)
    assert all(topic.configs == {} for topic in found)
    assert all("DescribeConfigs" in problem for topic in found for problem in topic.problems)
    assert all(topic.problems for topic in found)
    ended = freshrank_topics(limited, tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert "as it should be" not in ended.stdout
    with admin(secure) as client:
        for name in names():
            allow(client, ResourceType.TOPIC, name, "DESCRIBE_CONFIGS")
    until(lambda: all(topic.configs for topic in ensure(limited)), "the right to look")
    assert [(topic.name, len(topic.problems)) for topic in ensure(limited) if topic.problems] == [("items", 1)]
    ended = freshrank_topics(limited, tmp_path)
    assert (ended.returncode, "use compact" in ended.stdout) == (2, True)
    assert ended.stderr.endswith("nothing was altered\n")
    assert "kafka.topics = 'items'" in ended.stderr


def allow(client: KafkaAdminClient, kind: ResourceType, name: str, *operations: str) -> None:
    """Grant rights to the user `limited`."""
    resource = ResourcePattern(kind, name)
    client.create_acls(
        [
            ACL("User:limited", "*", getattr(ACLOperation, operation), ACLPermissionType.ALLOW, resource)
            for operation in operations
        ]
    )


def freshrank_topics(kafka: KafkaSettings, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `freshrank topics` with these settings."""
    values = {
        f"FRESHRANK_KAFKA__{name.upper()}": str(getattr(kafka, name))
        for name in ("bootstrap_servers", "security_protocol", "sasl_mechanism", "sasl_username", "ssl_cafile")
    } | {"FRESHRANK_KAFKA__SASL_PASSWORD": PASSWORD, "FRESHRANK_KAFKA__CREATE_TOPICS": "false"}
    return subprocess.run(
        [sys.executable, "-m", "freshrank.cli", "topics"],
        env={**os.environ, **values, "FRESHRANK_STACK__DIR": str(folder)}, capture_output=True, encoding="utf-8",
    )  # fmt: skip


def test_a_certificate_that_is_not_trusted_is_a_matter_of_settings(secure: KafkaSettings) -> None:
    with pytest.raises(UsageError, match=r"not trusted.*kafka\.ssl_cafile"):
        ensure(changed(secure, ssl_cafile=None))
    with pytest.raises(UsageError, match=r"no such file: kafka\.ssl_cafile = '/nowhere'"):
        ensure(changed(secure, ssl_cafile="/nowhere"))


def test_a_port_without_tls_is_said_at_once(secure: KafkaSettings) -> None:
    host, port = secure.bootstrap_servers.split(":")
    with pytest.raises(UnreachableError, match=r"no TLS at this port.*kafka\.security_protocol"):
        ensure(changed(secure, bootstrap_servers=f"{host}:{int(port) + 1}"))


def test_a_broker_that_understands_nothing_is_unreachable(secure: KafkaSettings, impatient: None) -> None:
    with pytest.raises(UnreachableError, match=r"kafka\.security_protocol") as error:
        ensure(changed(secure, security_protocol="PLAINTEXT"))
    assert PASSWORD not in str(error.value)
