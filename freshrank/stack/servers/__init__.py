"""The servers of the stack, one file each."""

from __future__ import annotations

from freshrank.stack.server import Server
from freshrank.stack.servers.airflow import Airflow
from freshrank.stack.servers.gateway import Gateway
from freshrank.stack.servers.kafka import Kafka
from freshrank.stack.servers.redis import Redis
from freshrank.stack.servers.triton import TritonServer


def all_servers() -> dict[str, Server]:
    """Every server by name, in the order in which they are shown."""
    servers: tuple[Server, ...] = (Kafka(), Redis(), TritonServer(), Airflow(), Gateway())
    return {server.name: server for server in servers}
