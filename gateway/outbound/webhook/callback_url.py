"""Strict parser of a `callback_url`, so that the egress policy and the connection use the same host."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from urllib.parse import quote

from yarl import URL

from gateway.errors import CallbackUrlRefused
from gateway.outbound.webhook.ip_ranges import IpAddress

MAX_BYTES = 2048
_DEFAULT_PORTS = {"https": 443, "http": 80}
# No user, no fragment, no percent signs in the host; an IPv6 address has brackets and no zone.
_URL = re.compile(r"(https?)://(?:\[([0-9a-f:.]+)\]|([^\[\]:/?#@%]+))(?::([0-9]{1,5}))?([/?][^#]*)?", re.IGNORECASE)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


@dataclass(frozen=True, slots=True)
class CallbackUrl:
    """A callback target. `host` is the shortest form of an address, or a lower-case ASCII name without a trailing dot.

    `path` is the request target, with the query; `address` is None for a name.
    """

    scheme: str
    host: str
    port: int
    path: str
    address: IpAddress | None

    @property
    def authority(self) -> str:
        """The value of the Host header field."""
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse(url: str) -> CallbackUrl:
    """Parse a URL. Raises CallbackUrlRefused if it is not http(s), or if parsers could disagree about it."""
    match = _URL.fullmatch(url) if url.isprintable() and not re.search(r"[ \\]", url) else None
    if match is None or len(url.encode()) > MAX_BYTES:
        raise _invalid_url()
    scheme, literal, name, port, path_and_query = match.groups("")
    address, host = _parse_host(literal, name)
    scheme = scheme.lower()
    port_number = int(port or _DEFAULT_PORTS[scheme])
    if not 0 < port_number < 65536:
        raise _invalid_url()
    # Sent unchanged, because a receiver may have signed it. Only characters outside of ASCII are encoded.
    path = quote(path_and_query if path_and_query.startswith("/") else "/" + path_and_query, safe=_PRINTABLE)
    return CallbackUrl(scheme, host, port_number, path, address)


def receiver_host(url: str) -> str:
    """Return the host of a URL, or all of it if `parse` refuses it: the name under which a receiver is counted."""
    try:
        return parse(url).host
    except CallbackUrlRefused:
        return url


def _parse_host(literal: str, name: str) -> tuple[IpAddress | None, str]:
    """Parse the host as it will be used: ①②⑦.0.0.1 and 127。0。0。1 are 127.0.0.1."""
    if literal:
        try:
            address = IPv6Address(literal)
        except ValueError:
            raise _invalid_url() from None
        return address, str(address)
    try:
        host = URL.build(scheme="https", host=name).raw_host or ""
    except ValueError:
        raise _invalid_url() from None
    host = host.removesuffix(".")
    # Some resolvers take a name that ends in a number for an address: 127.1, 2130706433, 0x7f000001, 0177.0.0.1. Only
    # the dotted decimal notation is accepted.
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            return ip_address(host), host
        except ValueError:
            raise _invalid_url() from None
    if len(host) > 253 or not _HOST_NAME.fullmatch(host):
        raise _invalid_url()
    return None, host


def _invalid_url() -> CallbackUrlRefused:
    """Return the error for every invalid URL: its text does not depend on the target."""
    return CallbackUrlRefused(
        f"The callback_url must be an https URL of at most {MAX_BYTES} bytes, with a host written in the usual way, "
        "and without user, password, fragment, spaces or backslashes.",
    )
