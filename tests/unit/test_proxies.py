"""Loopback is spoken to directly whatever proxies the environment names; other hosts as the environment says."""

from __future__ import annotations

import pytest

from features import proxies

LOOPBACK = [
    "127.0.0.1", "127.0.0.1:8001", "127.8.9.10:1", "http://127.0.0.1:8007/rank", "localhost:80", "LOCALHOST.",
    "a.localhost", "::1", "::", "[::1]:8001", "http://[::1]:8007", "::ffff:127.0.0.1", "[::ffff:127.0.0.1]:1",
    "0.0.0.0:8007", "[::]:8007",
]  # fmt: skip
ELSEWHERE = [
    "", "triton:8001", "localhost.shop.example", "10.0.0.1:80", "http://gateway.shop.example", "[2001:db8::1]:80",
    "127.0.0.1.shop.example", "http://user@shop.example:1/127.0.0.1", "[::1", "1.2.3.4.5",
]  # fmt: skip


@pytest.mark.parametrize("address", LOOPBACK)
def test_loopback_takes_no_proxy(address: str) -> None:
    assert proxies.is_loopback(address)
    assert not proxies.trust_env(address)
    assert proxies.channel_options(address) == [("grpc.enable_http_proxy", 0)]


@pytest.mark.parametrize("address", ELSEWHERE)
def test_other_hosts_follow_the_environment(address: str) -> None:
    assert not proxies.is_loopback(address)
    assert proxies.trust_env(address)
    assert proxies.channel_options(address) == []
