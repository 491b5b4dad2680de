"""Where the servers are: the local stack's own, or external ones where settings name them.

The local stack has 20 ports from `stack.port_base`; each server's offset is fixed here and nowhere else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from freshrank.settings import Settings

HOST = "127.0.0.1"

KAFKA, KAFKA_CONTROLLER, REDIS, TRITON_HTTP, TRITON_GRPC, TRITON_METRICS, AIRFLOW, GATEWAY = range(8)
PORTS = 20  # reserved from `stack.port_base`; those not named above are spare


def port(settings: Settings, offset: int) -> int:
    """A port of the local stack.

    Args:
        settings: All settings.
        offset: One of this module's offsets, such as `KAFKA`.

    Returns:
        The port number.
    """
    return settings.stack.port_base + offset


def _local(settings: Settings, offset: int) -> str:
    return f"{HOST}:{port(settings, offset)}"


def kafka_is_external(settings: Settings) -> bool:
    """Whether settings name a Kafka; then the stack starts none."""
    return bool(settings.kafka.bootstrap_servers)


def redis_is_external(settings: Settings) -> bool:
    """Whether settings name a Redis; then the stack starts none."""
    return bool(settings.redis.url)


def triton_is_external(settings: Settings) -> bool:
    """Whether settings name a Triton; then the stack starts none."""
    return bool(settings.triton.url)


def kafka_bootstrap(settings: Settings) -> str:
    """Kafka's bootstrap servers, `host:port[,host:port]`."""
    return settings.kafka.bootstrap_servers or _local(settings, KAFKA)


def redis_address(settings: Settings) -> str:
    """Redis as `host:port`."""
    return settings.redis.url or _local(settings, REDIS)


def triton_grpc(settings: Settings) -> str:
    """Triton's gRPC endpoint as `host:port`."""
    return settings.triton.url or _local(settings, TRITON_GRPC)


def triton_http(settings: Settings) -> str | None:
    """The local Triton's HTTP endpoint as `host:port`; none for an external one, which is known by its gRPC alone."""
    return None if triton_is_external(settings) else _local(settings, TRITON_HTTP)


def airflow_url(settings: Settings) -> str:
    """Airflow's api-server and UI, without a slash at the end."""
    return f"http://{_local(settings, AIRFLOW)}"


def gateway_url(settings: Settings) -> str:
    """The ranking gateway, without a slash at the end."""
    return f"http://{settings.gateway.host}:{port(settings, GATEWAY)}"


def resolve(settings: Settings) -> Settings:
    """The settings with every address filled in, so that a room can be handed its own section and needs no other.

    Args:
        settings: All settings, where an empty address means the local stack's server.

    Returns:
        A copy in which `kafka.bootstrap_servers`, `redis.url`, `triton.url` and `triton.repository` are never empty.
    """
    repository = settings.triton.repository or settings.layout.triton_repository
    return replace(
        settings,
        kafka=replace(settings.kafka, bootstrap_servers=kafka_bootstrap(settings)),
        redis=replace(settings.redis, url=redis_address(settings)),
        triton=replace(settings.triton, url=triton_grpc(settings), repository=repository),
    )
