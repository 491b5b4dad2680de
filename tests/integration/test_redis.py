"""What Redis has acknowledged is there after it was killed."""

from __future__ import annotations

import contextlib

import pytest
import redis

from tests.stack import Stack, until

pytestmark = pytest.mark.integration


def answers(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


def test_acknowledged_writes_survive_a_kill(stack: Stack) -> None:
    host, _, port = stack.need("redis").redis.url.partition(":")
    client = redis.Redis(host=host, port=int(port))
    for n in range(500):
        client.hset("trial", str(n), str(n))
    (before,) = stack.pids("redis")
    stack.kill("redis")
    until(lambda: stack.pids("redis") not in ([], [before]) and answers(client), "Redis to be started again")
    assert client.hlen("trial") == 500
    client.delete("trial")
