"""Kafka clients made from the settings, and what their failures mean to the user."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from features.errors import DataError, FreshrankError, UnreachableError, UsageError
from features.settings import KafkaSettings

if TYPE_CHECKING:
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

MAX_MESSAGE_BYTES = 4 * 1024 * 1024  # of dead letters, which wrap a message of the usual limit of 1 MiB
BOOTSTRAP_MS = 20_000  # how long a client tries to find its way among the brokers
_PROBE_S = 3.0


def client_config(settings: KafkaSettings) -> dict[str, Any]:
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
    config: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in settings.bootstrap_servers.split(",")],
        "security_protocol": settings.security_protocol,
        "client_id": "freshrank",
        "bootstrap_timeout_ms": BOOTSTRAP_MS,
    }
    if settings.ssl_cafile is not None:
        config["ssl_cafile"] = str(settings.ssl_cafile)
    if settings.security_protocol.startswith("SASL"):
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
def producer(settings: KafkaSettings, **extra: Any) -> Iterator[KafkaProducer]:
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
def consumer(settings: KafkaSettings, **extra: Any) -> Iterator[KafkaConsumer]:
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


def _probed(settings: KafkaSettings) -> dict[str, Any]:
    """The clients' arguments, once a port of the brokers listens: a client made before waits much longer to say so."""
    config = client_config(settings)
    _REASONS.clear()
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


class _Reasons(logging.Handler):
    """Keeps what the Kafka client logs while it tries again: its last error says only that time is up.

    As a handler of the client's logger it also keeps those repeated lines from stderr.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: deque[str] = deque(maxlen=50)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self._lines.append(record.getMessage())

    def clear(self) -> None:
        """Forget all."""
        self._lines.clear()

    def tells_of(self, name: str) -> bool:
        """Whether a line has this in it."""
        return any(name in line for line in self._lines)


_REASONS = _Reasons()
logging.getLogger("kafka").addHandler(_REASONS)


def _unreachable(settings: KafkaSettings, why: object) -> UnreachableError:
    return UnreachableError(
        f"Kafka does not answer ({why})", field="kafka.bootstrap_servers", value=settings.bootstrap_servers,
        remedy="start it (`freshrank up` for the local one), or name the right servers and kafka.security_protocol",
    )  # fmt: skip


def _refused(settings: KafkaSettings, why: str) -> UsageError:
    return UsageError(
        f"Kafka refuses us ({why})", field="kafka.sasl_username", value=settings.sasl_username,
        remedy="check user, password and the ACLs of the topics and the group",
    )  # fmt: skip


@contextlib.contextmanager
def errors(settings: KafkaSettings) -> Iterator[None]:
    """Turn the Kafka client's errors into ours.

    Raises:
        UnreachableError: If a broker stopped answering.
        UsageError: If the broker refuses who we are or what we may do.
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
        raise _refused(settings, type(error).__name__) from error
    except kafka_errors.KafkaError as error:
        if _REASONS.tells_of("SaslAuthenticationFailedError"):
            raise _refused(settings, "SaslAuthenticationFailedError") from error
        raise _unreachable(settings, f"{type(error).__name__}: {error}") from error
