"""Classification of IP addresses for SSRF protection: public, private, local.

The tables are explicit, because `ipaddress.is_global` is True for NAT64, multicast and more, and changes between Python
versions. An address is private unless the tables make it public.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TypeAlias

IpAddress: TypeAlias = IPv4Address | IPv6Address
IpNetwork: TypeAlias = IPv4Network | IPv6Network

_GLOBAL_UNICAST = ip_network("2000::/3")  # RFC 4291, 2.4: all IPv6 addresses that IANA has assigned

# IANA registries of special-purpose addresses (RFC 6890). For IPv6, those within global unicast.
_SPECIAL_PURPOSE: tuple[IpNetwork, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # behind a carrier's NAT
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure platform service, though the address is public
        "169.254.0.0/16",  # link-local: cloud metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "2001::/23",  # protocol assignments: Teredo, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: embeds any IPv4 address
        "3fff::/20",  # documentation
    )
)
_PRIVATE: tuple[IpNetwork, ...] = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
    )
)
# Cloud metadata services within private networks: they return credentials of the machine.
_CLOUD_METADATA: tuple[IpNetwork, ...] = tuple(
    ip_network(text)
    for text in (
        "100.100.100.200/32",  # Alibaba
        "fd00:42::42/128",  # Scaleway
        "fd00:ec2::/32",  # AWS
        "fd20:ce::254/128",  # Google
    )
)


def is_public(address: IpAddress) -> bool:
    """Return True if the address is on the internet, and does not embed another address."""
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not _is_in_any(address, _SPECIAL_PURPOSE)


def is_private(address: IpAddress) -> bool:
    """Return True for a private or loopback address that is no cloud metadata service."""
    return _is_in_any(address, _PRIVATE) and not _is_in_any(address, _CLOUD_METADATA)


def is_local(address: IpAddress) -> bool:
    """Return True if a socket can be bound to the address: it belongs to this machine. True also if unknown."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        return error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
    return True


def _is_in_any(address: IpAddress, networks: tuple[IpNetwork, ...]) -> bool:
    return any(address in network for network in networks)
