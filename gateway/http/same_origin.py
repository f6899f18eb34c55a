"""Origin of the page that caused a request, compared with the address at which the browser reached this port."""

from __future__ import annotations

import re
from ipaddress import ip_address

from gateway.http.forwarded import Networks, is_trusted_peer
from gateway.http.headers import single_value
from gateway.http.request import Request

_ORIGIN = re.compile(r"(https?)://([^/?#@\s]{1,255})", re.ASCII | re.IGNORECASE).fullmatch
_PORT = re.compile(r":[0-9]{1,5}\Z", re.ASCII)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def is_secure(request: Request, trusted_proxies: Networks) -> bool:
    """Return whether the client is known to use TLS: to this port, or to a trusted proxy (`X-Forwarded-Proto`)."""
    if request.transport is not None and request.transport.get_extra_info("ssl_object") is not None:
        return True
    if "X-Forwarded-Proto" not in request.headers or not is_trusted_peer(request, trusted_proxies):
        return False
    schemes = ",".join(request.headers.getall("X-Forwarded-Proto")).split(",")
    return any(scheme.strip(" \t").lower() == "https" for scheme in schemes)


def is_same_origin(request: Request, trusted_proxies: Networks) -> bool:
    """Return whether `Origin` is the address of this port. Over TLS, its scheme has to be https.

    Of plain HTTP, the scheme is not compared: a proxy may terminate TLS without being a trusted one.
    """
    match = _ORIGIN(single_value(request.headers, "Origin"))
    if match is None:
        return False
    scheme, authority = match[1].lower(), match[2].lower()
    if scheme == "http" and is_secure(request, trusted_proxies):
        return False
    default = _DEFAULT_PORTS[scheme]
    return authority.removesuffix(default) == _own_authority(request, trusted_proxies).removesuffix(default) != ""


def has_literal_host(request: Request, trusted_proxies: Networks) -> bool:
    """Return whether the browser used an IP address or `localhost`, which no other site can resolve to this port."""
    host = _PORT.sub("", _own_authority(request, trusted_proxies)).removeprefix("[").removesuffix("]")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _own_authority(request: Request, trusted_proxies: Networks) -> str:
    """Return host and port that the browser has in its address bar, in lower case."""
    forwarded = single_value(request.headers, "X-Forwarded-Host")
    if forwarded and "," not in forwarded and is_trusted_peer(request, trusted_proxies):
        return forwarded.lower()
    return single_value(request.headers, "Host").lower()
