"""Where a request comes from, behind proxies that are trusted to say so."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from aiohttp import web

_MOST_HOPS = 20


def peer(request: web.BaseRequest, trusted: Sequence[IPv4Network | IPv6Network]) -> str:
    """The address of the client: the last one that no trusted proxy has.

    `X-Forwarded-For` is read from its end, where our own proxies write; what stands before the first stranger is that
    stranger's word, and counts for nothing (R82).
    """
    address = request.remote or ""
    if not trusted:
        return address
    hops = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")[-_MOST_HOPS:]
    while hops and _trusts(trusted, address):
        hop = hops.pop().strip()
        if not _is_address(hop):
            break
        address = hop
    return address


def _trusts(trusted: Sequence[IPv4Network | IPv6Network], address: str) -> bool:
    return _is_address(address) and any(ip_address(address) in network for network in trusted)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
