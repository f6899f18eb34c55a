"""Where a request comes from, behind proxies that are trusted to say so."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from aiohttp import web

_MAX_HOPS = 20


def client_address(request: web.BaseRequest, trusted_proxies: Sequence[IPv4Network | IPv6Network]) -> str:
    """The address of the client: the last one that no trusted proxy has.

    `X-Forwarded-For` is read from its end, where our own proxies write; what stands before the first stranger is that
    stranger's word, and counts for nothing (R82).
    """
    address = request.remote or ""
    if not trusted_proxies:
        return address
    hops = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")[-_MAX_HOPS:]
    while hops and _is_trusted(trusted_proxies, address):
        hop = hops.pop().strip()
        if not _is_address(hop):
            break
        address = hop
    return address


def _is_trusted(trusted_proxies: Sequence[IPv4Network | IPv6Network], address: str) -> bool:
    return _is_address(address) and any(ip_address(address) in network for network in trusted_proxies)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
