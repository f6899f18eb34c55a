"""Addresses in the configuration: base URLs, store URLs, hosts, networks, allowed callback targets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

Network: TypeAlias = IPv4Network | IPv6Network

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*"
_ALLOWED_TARGET = re.compile(rf"(?:\*\.)?{_HOST}(?::([0-9]{{1,5}}))?|\[[0-9A-Fa-f:.]+\]:([0-9]{{1,5}})")
REDIS_SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")
"""Schemes of stores that processes share."""
_STORE_SCHEMES = ("sqlite", "memory", *REDIS_SCHEMES)
_SENTINEL_PATH = re.compile(r"/([A-Za-z0-9_.-]{1,100})(?:/([0-9]{1,4}))?")
_MAX_SENTINELS = 20
_MAX_WEBHOOK_URL = 2000  # characters
_MAX_ENDPOINT_URL = 2000  # characters
DEFAULT_SENTINEL_PORT = 26379


def check_base_url(text: str) -> str:
    """Check a base URL; returns it without a trailing slash. Raises ValueError."""
    parts = _split_url(text)
    if parts.scheme not in {"http", "https"} or not _is_host(parts.hostname or ""):
        raise ValueError("must be a URL such as https://api.example.com")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain a user or password: the key belongs in api_key")
    if "?" in text or "#" in text:
        raise ValueError("must not have a query or fragment")
    return text.rstrip("/")


def check_webhook_url(text: str) -> str:
    """Check the URL of a webhook, which may have a query. Raises ValueError."""
    parts = _split_url(text)
    if parts.scheme not in {"http", "https"} or not _is_host(parts.hostname or ""):
        raise ValueError("must be a URL such as https://alerts.example.com/runward")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain a user or password: messages are signed")
    if "#" in text or len(text) > _MAX_WEBHOOK_URL:
        raise ValueError(f"must not have a fragment, and {_MAX_WEBHOOK_URL} characters at most")
    return text


def check_endpoint_url(text: str) -> str:
    """Check the URL of an issuer's endpoint, which may have a query. Raises ValueError."""
    parts = _split_url(text)
    if parts.scheme not in {"http", "https"} or not _is_host(parts.hostname or ""):
        raise ValueError("must be a URL such as https://login.example.com/keys")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain a user or password")
    if "#" in text or len(text) > _MAX_ENDPOINT_URL:
        raise ValueError(f"must not have a fragment, and {_MAX_ENDPOINT_URL} characters at most")
    return text


def check_issuer_url(text: str) -> str:
    """Check the URL of an issuer; it is compared character by character, so it stays as it is. Raises ValueError."""
    if "?" in check_endpoint_url(text):
        raise ValueError("must not have a query")
    return text


def is_plaintext_remote(url: str) -> bool:
    """Return True for plain http to another machine: a key sent there is unencrypted."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not _is_loopback(parts.hostname or "")


def check_store_url(text: str) -> str:
    """Check a store URL; raises ValueError.

    It is sqlite:///path, memory://, redis://user@host:port/0, or redis+sentinel://user@host:port,host:port/name/0;
    rediss is TLS.
    """
    scheme = text.partition("://")[0]
    if scheme.endswith("+sentinel"):
        parse_sentinel_url(text)
        return text
    parts = _split_url(text)
    if parts.scheme not in _STORE_SCHEMES or "://" not in text:
        raise ValueError("must be sqlite:///path, memory://, redis://host or rediss://host")
    if parts.scheme.startswith("redis"):
        _check_redis_url(parts)
    elif parts.username is not None or parts.password is not None:
        raise ValueError("must not contain a user or password")
    if parts.scheme == "sqlite" and not parts.path.strip("/"):
        raise ValueError("must name a file")
    return text


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """URL of a primary that Redis Sentinel names: `name` at the `sentinels` (host, port)."""

    tls: bool
    username: str | None
    sentinels: tuple[tuple[str, int], ...]
    name: str
    database: int


def parse_sentinel_url(text: str) -> SentinelUrl:
    """Parse redis+sentinel://user@host:port,host:port/name/0. Raises ValueError."""
    scheme, _, rest = text.partition("://")
    authority, slash, path = rest.partition("/")
    user, _, hosts = authority.rpartition("@")
    found = _SENTINEL_PATH.fullmatch(slash + path)
    if scheme not in REDIS_SCHEMES or not found:
        raise ValueError("must be such as redis+sentinel://host:26379,host2:26379/name-of-the-primary/0")
    if ":" in user:
        raise ValueError("must not contain a password: it belongs in store.password")
    parts = [_split_url(f"redis://{host}") for host in hosts.split(",")]
    if len(parts) > _MAX_SENTINELS or not all(_is_host(part.hostname or "") for part in parts):
        raise ValueError(f"must name at most {_MAX_SENTINELS} hosts, separated by commas")
    sentinels = tuple((part.hostname or "", part.port or DEFAULT_SENTINEL_PORT) for part in parts)
    name, database = found.groups()
    return SentinelUrl(scheme == "rediss+sentinel", unquote(user) or None, sentinels, name, int(database or 0))


def _check_redis_url(parts: SplitResult) -> None:
    if parts.password is not None:
        raise ValueError("must not contain a password: it belongs in store.password")
    if not _is_host(parts.hostname or ""):
        raise ValueError("must name a host")
    if not re.fullmatch(r"/?|/[0-9]{1,4}", parts.path) or parts.query or parts.fragment:
        raise ValueError("must end with the number of a database, such as redis://host:6379/0")


def parse_network(value: object) -> Network:
    """Parse an address or a network. Raises ValueError, also for bits set beyond the mask."""
    try:
        # ip_network would read a number as an address.
        return ip_network(value if isinstance(value, str | IPv4Network | IPv6Network) else "")
    except ValueError:
        raise ValueError("must be an address or a network such as 10.0.0.0/8") from None


def check_proxy_url(text: str) -> str:
    """Check the URL of a proxy; returns it without a trailing slash. Raises ValueError."""
    parts = _split_url(text)
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain a user or password: they belong in proxy_auth")
    if parts.scheme != "http" or not _is_host(parts.hostname or "") or parts.path not in {"", "/"}:
        raise ValueError("must be a URL such as http://proxy.example.com:3128")
    if parts.port is None or "?" in text or "#" in text:
        raise ValueError("must be a URL such as http://proxy.example.com:3128")
    return text.rstrip("/")


def check_allowed_target(text: str) -> str:
    """Check an allowed callback target: a host, *.host, host:port, or a network. Raises ValueError."""
    match = _ALLOWED_TARGET.fullmatch(text)
    port = match and (match.group(1) or match.group(2))
    if match and 0 < int(port or 443) < 65536 and len(text) <= 300:
        return text
    try:
        return str(parse_network(text))
    except ValueError:
        raise ValueError("must be a host, *.host, host:port or network") from None


def check_host(text: str) -> str:
    """Check an address or host name to listen on. Raises ValueError."""
    if not _is_host(text):
        raise ValueError("must be an address or a host name")
    return text


def _split_url(text: str) -> SplitResult:
    """Split a URL. Raises ValueError for text that parsers read differently: white space, backslash, non-ASCII."""
    try:
        parts = urlsplit(text)
        valid = parts.port != 0
    except ValueError:
        valid = False
    if not valid or not text.isascii() or re.search(r"[\x00-\x20\x7f\\]", text):
        raise ValueError("is not a URL")
    return urlsplit(text)


def _is_host(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        # Some resolvers read a last label that is a number as an address (0x7f.1, 127.1).
        numeric = re.fullmatch(r"[0-9]+|0[xX][0-9A-Fa-f]*", text.rpartition(".")[2])
        return len(text) <= 253 and re.fullmatch(_HOST, text) is not None and not numeric
    return True


def _is_loopback(text: str) -> bool:
    try:
        return ip_address(text).is_loopback
    except ValueError:
        return text == "localhost"


def _string_schema(**more: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", **more})


BaseUrl: TypeAlias = Annotated[str, AfterValidator(check_base_url), _string_schema(pattern=r"^https?://[^?#\s]+$")]
WebhookUrl: TypeAlias = Annotated[str, AfterValidator(check_webhook_url), _string_schema(pattern=r"^https?://[^#\s]+$")]
EndpointUrl: TypeAlias = Annotated[
    str, AfterValidator(check_endpoint_url), _string_schema(pattern=r"^https?://[^#\s]+$")
]
IssuerUrl: TypeAlias = Annotated[str, AfterValidator(check_issuer_url), _string_schema(pattern=r"^https?://[^?#\s]+$")]
ProxyUrl: TypeAlias = Annotated[str, AfterValidator(check_proxy_url), _string_schema(pattern=r"^http://[^?#@\s]+$")]
StoreUrl: TypeAlias = Annotated[
    str, AfterValidator(check_store_url), _string_schema(pattern=f"^({'|'.join(map(re.escape, _STORE_SCHEMES))})://")
]
NetworkSetting: TypeAlias = Annotated[Network, BeforeValidator(parse_network), _string_schema()]
AllowedTarget: TypeAlias = Annotated[str, AfterValidator(check_allowed_target), _string_schema()]
Host: TypeAlias = Annotated[str, AfterValidator(check_host), _string_schema()]
