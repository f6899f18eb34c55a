"""Happy Eyeballs (RFC 8305): connects to the addresses of a host in a staggered race; the first connection wins."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias

import aiohappyeyeballs

_ATTEMPT_DELAY = 0.25  # seconds between two attempts (RFC 8305, section 5)
_MAX_ADDRESSES = 8  # of one name; bounds the sockets of one attempt

AddressInfo: TypeAlias = aiohappyeyeballs.AddrInfoType


async def connect_host(host: str, port: int) -> socket.socket:
    """Resolve a host name or address, and return a connected, non-blocking socket. Raises OSError."""
    try:
        addresses = [address_info(ip_address(host), port)]
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [(family, kind, protocol, "", address) for family, kind, protocol, _, address in found]
    return await connect_addresses(addresses)


async def connect_addresses(addresses: Iterable[AddressInfo]) -> socket.socket:
    """Return a connected, non-blocking socket to one of these addresses, best first. Raises OSError."""
    try:
        return await aiohappyeyeballs.start_connection(
            list(dict.fromkeys(addresses))[:_MAX_ADDRESSES], happy_eyeballs_delay=_ATTEMPT_DELAY, interleave=1
        )
    except RuntimeError:  # uvloop raises it for some failures of a connect
        raise OSError("no connection was possible") from None


def address_info(address: IPv4Address | IPv6Address, port: int) -> AddressInfo:
    """Return the address as an entry of `getaddrinfo`."""
    if address.version == 4:
        return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (str(address), port)
    return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (str(address), port, 0, 0)
