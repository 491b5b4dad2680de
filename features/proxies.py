"""Proxies of the environment: they lead to the world outside, never to this machine.

`http_proxy`, `all_proxy` and `grpc_proxy` tell clients the way out of a company's network. Clients take it for loopback
addresses too, which a proxy elsewhere cannot reach. So loopback is always spoken to directly; every other host is
reached as the environment says, `no_proxy` included.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own, so that no proxy may stand before it.

    Args:
        address: A host, `host:port`, or a URL; `0.0.0.0` and `::` count, for a client of them reaches itself.

    Example:
        >>> [is_loopback(a) for a in ("127.0.0.1:8001", "http://localhost:8007/rank", "[::1]:80", "triton.shop:8001")]
        [True, True, True, False]
    """
    host = _host(address)
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    ip = mapped or ip
    return ip.is_loopback or ip.is_unspecified


def trust_env(address: str) -> bool:
    """What httpx takes as `trust_env` for a client of this address: False keeps it from the environment's proxies.

    Example:
        >>> trust_env("http://127.0.0.1:8007")
        False
    """
    return not is_loopback(address)


def channel_options(address: str) -> list[tuple[str, int]]:
    """Options of a gRPC channel to this address that keep it from the environment's proxies, where it must be direct.

    Example:
        >>> channel_options("127.0.0.1:8001"), channel_options("triton.shop:8001")
        ([('grpc.enable_http_proxy', 0)], [])
    """
    return [("grpc.enable_http_proxy", 0)] if is_loopback(address) else []


def _host(address: str) -> str:
    """The host of an address, in lower case and without the brackets of IPv6."""
    if address.count(":") > 1 and "[" not in address and "://" not in address:  # an IPv6 address by itself
        return address.lower()
    try:
        host = urlsplit(address if "://" in address else f"//{address}").hostname
    except ValueError:
        return ""
    return (host or "").rstrip(".")
