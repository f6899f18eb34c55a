"""Header fields of trusted proxies: the client's address, and the prefix that they have removed from its path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

from gateway.http.request import Request

Networks: TypeAlias = Sequence[IPv4Network | IPv6Network]

_MAX_HOPS = 20
_MAX_PREFIX = 500
_PREFIX = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~!$&'()*+;=:@%-]+)+").fullmatch
# A node with a port as proxies write it: 192.0.2.1:80, [2001:db8::1]:80, or an IPv6 address in brackets alone.
_NODE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?").fullmatch


def client_address(request: Request, trusted_proxies: Networks) -> str:
    """Address of the client: the last hop that is not a trusted proxy.

    `X-Forwarded-For` is read from its end, where the trusted proxies write. Elements before the first untrusted address
    were supplied by that address and are ignored; so is everything before an element that is not an address. Empty
    elements are skipped (RFC 9110, 5.6.1). IPv4-mapped IPv6 addresses count as IPv4.
    """
    remote = request.remote or ""
    address = _parse_address(remote)
    if not trusted_proxies or address is None:
        return remote if address is None else str(address)
    elements = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
    hops = [element for element in (text.strip(" \t") for text in elements) if element][-_MAX_HOPS:]
    while hops and any(address in network for network in trusted_proxies):
        hop = _parse_node(hops.pop())
        if hop is None:
            break
        address = hop
    return str(address)


def path_prefix(request: Request, trusted_proxies: Networks) -> str:
    """Path that the proxies have removed from the front of the target (`X-Forwarded-Prefix`), without a final slash.

    Several elements are those of several proxies, outermost first. Empty if the peer is not trusted, or for a value
    that is not a plain path.
    """
    fields = request.headers.getall("X-Forwarded-Prefix", ())
    if not fields or not is_trusted_peer(request, trusted_proxies):
        return ""
    prefix = "".join(element.strip(" \t").rstrip("/") for element in ",".join(fields).split(","))
    return prefix if len(prefix) <= _MAX_PREFIX and _PREFIX(prefix) else ""


def is_trusted_peer(request: Request, trusted_proxies: Networks) -> bool:
    """Return whether a trusted proxy has sent the request."""
    address = _parse_address(request.remote or "") if trusted_proxies else None
    return address is not None and any(address in network for network in trusted_proxies)


def _parse_node(text: str) -> IPv4Address | IPv6Address | None:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = text[1:-1]
    plain = _parse_address(text)
    if plain is not None:
        return plain
    match = _NODE(text)
    return _parse_address(next(filter(None, match.groups()), "")) if match else None


def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
