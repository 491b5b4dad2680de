"""Kafka clients made from the settings, and what their failures mean to the user."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from features.encoded import JsonObject
from features.errors import DataError, FreshrankError, UnreachableError, UsageError
from features.settings import KafkaSettings

if TYPE_CHECKING:
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

MAX_MESSAGE_BYTES = 4 * 1024 * 1024  # of dead letters, which wrap a message of the usual limit of 1 MiB
BOOTSTRAP_MS = 20_000  # how long a client tries to find its way among the brokers
CODECS = {"lz4": "lz4", "snappy": "python-snappy", "zstd": "zstandard"}  # a topic's compression -> the package for it
_PROBE_S = 3.0

# What the client logs while it tries again is not for stderr: its error says it once.
logging.getLogger("kafka").addHandler(logging.NullHandler())


def client_config(settings: KafkaSettings) -> JsonObject:
    """Arguments that every Kafka client of ours takes.

    Args:
        settings: Kafka's settings with `bootstrap_servers` filled in.

    Returns:
        Arguments of kafka-python's clients.

    Raises:
        UsageError: If no server is named, or SASL is asked for without its mechanism, user or password.
    """
    if not settings.bootstrap_servers:
        raise UsageError("no Kafka is named", field="kafka.bootstrap_servers", value="", remedy="name host:port")
    config: dict[str, object] = {
        "bootstrap_servers": [server.strip() for server in settings.bootstrap_servers.split(",")],
        "security_protocol": settings.security_protocol,
        "client_id": "freshrank",
        "bootstrap_timeout_ms": BOOTSTRAP_MS,
    }
    if settings.ssl_cafile is not None:
        config["ssl_cafile"] = str(settings.ssl_cafile)
    if settings.security_protocol.startswith("SASL"):
        config["kafka_client"] = _client_that_tells_of_refusals
        for name in ("sasl_mechanism", "sasl_username"):
            if not getattr(settings, name):
                raise UsageError("SASL needs it", field=f"kafka.{name}", value="", remedy="set it")
        password = settings.sasl_password.get_secret_value()
        if not password:
            remedy = "set FRESHRANK_KAFKA__SASL_PASSWORD"
            raise UsageError("SASL needs it", field="kafka.sasl_password", value="", remedy=remedy)
        config |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": password,
        }
    return config


@contextlib.contextmanager
def producer(settings: KafkaSettings, **extra: object) -> Iterator[KafkaProducer]:
    """An idempotent producer that waits for all replicas; flushed and closed at the end of the block.

    Args:
        settings: Kafka's settings with `bootstrap_servers` filled in.
        extra: More arguments of `kafka.KafkaProducer`.

    Raises:
        UnreachableError: If no broker answers.
    """
    with errors(settings):
        from kafka import KafkaProducer

        defaults = {"enable_idempotence": True, "acks": "all", "linger_ms": 20, "batch_size": 256 * 1024}
        defaults["allow_auto_create_topics"] = False
        client = KafkaProducer(**(_probed(settings) | defaults | extra))
        try:
            yield client
        finally:
            client.close(timeout=30)


@contextlib.contextmanager
def consumer(settings: KafkaSettings, **extra: object) -> Iterator[KafkaConsumer]:
    """A consumer of committed records that never chooses an offset by itself; closed at the end of the block.

    Args:
        settings: Kafka's settings with `bootstrap_servers` filled in.
        extra: More arguments of `kafka.KafkaConsumer`.

    Raises:
        UnreachableError: If no broker answers.
    """
    with errors(settings):
        from kafka import KafkaConsumer

        defaults = {
            "auto_offset_reset": "none",
            "enable_auto_commit": False,
            "isolation_level": "read_committed",
            "allow_auto_create_topics": False,
        }
        client = KafkaConsumer(**(_probed(settings) | defaults | extra))
        try:
            yield client
        finally:
            client.close(autocommit=False, timeout_ms=5_000)


@contextlib.contextmanager
def admin(settings: KafkaSettings) -> Iterator[KafkaAdminClient]:
    """An admin client, closed at the end of the block.

    Raises:
        UnreachableError: If no broker answers.
    """
    with errors(settings):
        from kafka import KafkaAdminClient

        client = KafkaAdminClient(**_probed(settings))
        try:
            yield client
        finally:
            client.close()


def _probed(settings: KafkaSettings) -> dict[str, object]:
    """The clients' arguments, once a port of the brokers listens: a client made before waits much longer to say so."""
    config = client_config(settings)
    for server in config["bootstrap_servers"]:
        host, _, port = server.rpartition(":")
        if not host or not port.isdigit():
            field, remedy = "kafka.bootstrap_servers", "write host:port[,host:port]"
            raise UsageError("not a server's address", field=field, value=server, remedy=remedy)
        host = host.strip("[]")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=_PROBE_S) as link:
            if settings.security_protocol.endswith("SSL"):
                _shake_hands(settings, link, host)
            return config
    raise _unreachable(settings, "no connection")


def _shake_hands(settings: KafkaSettings, link: socket.socket, host: str) -> None:
    """Try TLS: the client itself would try again and again and then only say that time is up."""
    try:
        cafile = str(settings.ssl_cafile) if settings.ssl_cafile is not None else None
        with ssl.create_default_context(cafile=cafile).wrap_socket(link, server_hostname=host):
            return
    except ssl.SSLCertVerificationError as error:
        raise UsageError(
            f"the broker's certificate is not trusted ({error.verify_message})", field="kafka.ssl_cafile",
            value=cafile or "", remedy="name the file with its certificate authority",
        ) from error  # fmt: skip
    except FileNotFoundError as error:
        raise UsageError("no such file", field="kafka.ssl_cafile", value=cafile, remedy="mend the path") from error
    except (ssl.SSLError, ConnectionError) as error:  # it may also be stopping just now
        raise _unreachable(settings, f"no TLS at this port: {error}") from error


def _client_that_tells_of_refusals(**config: object) -> Any:
    """The library's network client, except that a refused login is an error at once.

    The library itself tries again until time is up and then says only that. The refusal is kept with the connections of
    this one client; what another client met is none of its business.
    """
    from kafka import errors as kafka_errors
    from kafka.net.compat import KafkaNetClient
    from kafka.net.manager import KafkaConnectionManager
    from kafka.net.selector import NetworkSelector

    final = (
        kafka_errors.SaslAuthenticationFailedError,
        kafka_errors.UnsupportedSaslMechanismError,
        kafka_errors.IllegalSaslStateError,
    )
    selector = NetworkSelector(**config)
    manager = KafkaConnectionManager(selector, **config)
    connect = manager.get_connection
    refused: dict[object, BaseException] = {}

    def get_connection(node_id: object, **options: object) -> Any:
        if node_id in refused:
            raise refused[node_id]
        connection = connect(node_id, **options)
        authenticate = connection._sasl_authenticate

        async def note(*arguments: object, **named: object) -> None:
            _answer_before_the_end(connection.transport)
            try:
                await authenticate(*arguments, **named)
            except final as error:
                if manager.cluster.is_bootstrap(node_id):
                    refused[node_id] = error
                raise

        connection._sasl_authenticate = note
        return connection

    manager.get_connection = get_connection
    return KafkaNetClient(net=selector, manager=manager, **config)


def _answer_before_the_end(transport: Any) -> None:
    """Have a connection's end wait for the next read.

    A broker that refuses a login answers and hangs up at once. Where both come in one read, the library drops the
    answer and ends the connection as lost; nobody would hear of the refusal.
    """
    if "_sock_recv" in vars(transport):  # a login that is renewed
        return
    receive = transport._sock_recv

    def one_at_a_time() -> tuple[bytes, BaseException | None]:
        data, error = receive()
        return data, None if data else error

    transport._sock_recv = one_at_a_time


def _unreachable(settings: KafkaSettings, why: object) -> UnreachableError:
    return UnreachableError(
        f"Kafka does not answer ({why})", field="kafka.bootstrap_servers", value=settings.bootstrap_servers,
        remedy="start it (`freshrank up` for the local one), or name the right servers and kafka.security_protocol",
    )  # fmt: skip


def _refused(settings: KafkaSettings, why: str) -> UsageError:
    return UsageError(
        f"Kafka refuses us ({why})", field="kafka.sasl_username", value=settings.sasl_username,
        remedy="check user, password and the ACLs of the topics and the group (docs/sources.md lists the rights)",
    )  # fmt: skip


def _no_codec(why: str) -> UsageError:
    codec = next((name for name in CODECS if name in why), "")
    if not codec:
        return UsageError(f"a topic is compressed in a way that cannot be read here ({why})")
    return UsageError(
        "a topic is compressed and the package that undoes it is missing", field="compression.type", value=codec,
        remedy=f"install {CODECS[codec]} into this Python environment (`make setup` does)",
    )  # fmt: skip


@contextlib.contextmanager
def errors(settings: KafkaSettings) -> Iterator[None]:
    """Turn the Kafka client's errors into ours.

    Raises:
        UnreachableError: If a broker stopped answering.
        UsageError: If the broker refuses who we are, what we may do or how large a record is, or if the package is
            missing that undoes a topic's compression.
        DataError: If the offsets that we stand at are gone from the log.
    """
    from kafka import errors as kafka_errors

    try:
        yield
    except FreshrankError:
        raise
    except (kafka_errors.OffsetOutOfRangeError, kafka_errors.NoOffsetForPartitionError) as error:
        raise DataError(
            "records were deleted by retention before they were ingested", field="offset", value=str(error),
            remedy="lengthen retention.ms of the topic, and ingest more often; the gap cannot be filled",
        ) from error  # fmt: skip
    except (kafka_errors.AuthorizationError, kafka_errors.SaslAuthenticationFailedError) as error:
        raise _refused(settings, str(error)) from error
    except (kafka_errors.UnsupportedSaslMechanismError, kafka_errors.IllegalSaslStateError) as error:
        raise UsageError(
            f"Kafka refuses the way of logging in ({error})", field="kafka.sasl_mechanism",
            value=settings.sasl_mechanism, remedy="name a mechanism that the broker has enabled",
        ) from error  # fmt: skip
    except kafka_errors.UnsupportedCodecError as error:
        raise _no_codec(str(error)) from error
    except (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError) as error:
        raise UsageError(
            "Kafka refuses a record for its size", field="max.message.bytes", value=str(error),
            remedy="raise it on the topic, or publish smaller events",
        ) from error  # fmt: skip
    except kafka_errors.KafkaError as error:
        raise _unreachable(settings, f"{type(error).__name__}: {error}") from error
