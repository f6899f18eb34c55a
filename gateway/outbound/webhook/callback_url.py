"""What a `callback_url` means: read once, in one way, so that what is judged is what is dialled."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from urllib.parse import quote

from yarl import URL

from gateway.outbound.webhook.ip_ranges import IpAddress
from gateway.problems import Problem

MAX_BYTES = 2048
_DEFAULT_PORTS = {"https": 443, "http": 80}
# No user, no fragment, no percent signs in the host; an IPv6 address stands in brackets and has no zone.
_URL = re.compile(r"(https?)://(?:\[([0-9a-f:.]+)\]|([^\[\]:/?#@%]+))(?::([0-9]{1,5}))?([/?][^#]*)?", re.IGNORECASE)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


@dataclass(frozen=True, slots=True)
class CallbackUrl:
    """Where a callback goes. `host` is an address's shortest form, or a lower-case ASCII name without a dot behind it.

    `path` is what the request line asks for, with the query; `address` is None for a name.
    """

    scheme: str
    host: str
    port: int
    path: str
    address: IpAddress | None

    @property
    def authority(self) -> str:
        """The Host header field."""
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse(url: str) -> CallbackUrl:
    """Take a URL apart; `Problem` where it is not http(s), or where parsers could disagree about it."""
    match = _URL.fullmatch(url) if url.isprintable() and not re.search(r"[ \\]", url) else None
    if match is None or len(url.encode()) > MAX_BYTES:
        raise _invalid_url()
    scheme, literal, name, port, path_and_query = match.groups("")
    address, host = _parse_host(literal, name)
    scheme = scheme.lower()
    port_number = int(port or _DEFAULT_PORTS[scheme])
    if not 0 < port_number < 65536:
        raise _invalid_url()
    # Sent as it was written: a receiver may have signed it. Only what is not ASCII has to be encoded.
    path = quote(path_and_query if path_and_query.startswith("/") else "/" + path_and_query, safe=_PRINTABLE)
    return CallbackUrl(scheme, host, port_number, path, address)


def _parse_host(literal: str, name: str) -> tuple[IpAddress | None, str]:
    """Judge the host as it will be used: ①②⑦.0.0.1 and 127。0。0。1 are 127.0.0.1."""
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
    # What ends in a number is an address to some resolvers: 127.1, 2130706433, 0x7f000001, 0177.0.0.1. One notation is
    # enough, and `ip_address` reads no other.
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            return ip_address(host), host
        except ValueError:
            raise _invalid_url() from None
    if len(host) > 253 or not _HOST_NAME.fullmatch(host):
        raise _invalid_url()
    return None, host


def _invalid_url() -> Problem:
    """The same words whatever it is: they speak of the text, never of what is behind it."""
    return Problem(
        "callback_url_refused",
        f"The callback_url must be an https URL of at most {MAX_BYTES} bytes, with a host written in the usual way, and "
        "without user, password, fragment, spaces or backslashes.",
    )
