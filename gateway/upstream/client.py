"""The door to a provider: a `Call` goes out, a `Reply` or a `ProviderFault` comes back.

Whatever an adapter asks for, this is what is sent: to one origin, with one key, without redirects, cookies, proxies
from the environment or compressed answers, read to a bounded size within a deadline. Whether a request was sent is
known, not guessed: connecting and exchanging are two steps.
"""

from __future__ import annotations

import asyncio
import errno
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr

from gateway import strictjson
from gateway.clock import Clock
from gateway.metrics import Metrics
from gateway.upstream.connection import Answer, Connection
from gateway.upstream.hint import retry_after
from gateway.upstream.parcel import Parcel, Returned, addressed
from gateway.upstream.redaction import Redaction
from providers.contract import UNREADABLE, Call, Cause, KeyHeader, ProviderFault, Reply, invalid

T = TypeVar("T")
_IDLE_SECONDS = 15.0
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}  # what says that we are short, not the provider
_KEPT = {b"content-type", b"retry-after"}  # of what is passed back
_TARGET = re.compile(r"/[!-~]*").fullmatch


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a provider is, and how it is reached. Times in seconds, sizes in bytes."""

    provider: str
    base_url: str
    key_header: KeyHeader
    key: SecretStr
    user_agent: str = "runward"
    ca_file: Path | None = None
    connect_timeout: float = 5.0
    max_response: int = 10_000_000


class HttpUpstream:
    """The connections to one provider. How many there are is bounded by the provider's limits, not here."""

    def __init__(self, origin: Origin, *, clock: Clock, metrics: Metrics) -> None:
        self._origin = origin
        self._clock = clock
        self._metrics = metrics
        self._redaction = Redaction(origin.key.get_secret_value())
        base = urlsplit(origin.base_url)
        self._secure = base.scheme == "https"
        self._host = base.hostname or ""
        self._port = base.port or (443 if self._secure else 80)
        self._prefix = base.path.rstrip("/")
        self._head = _head(base.netloc, origin, accept="application/json")
        self._plain_head = _head(base.netloc, origin)
        self._tls = ssl.create_default_context(cafile=origin.ca_file) if self._secure else None
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._retired = False

    async def send(self, call: Call, deadline: float, traceparent: str = "") -> Reply:
        """Make one call; raise `ProviderFault` with a cause of the transport where no whole answer came.

        `deadline` is on the clock's monotonic scale and bounds everything: DNS, connect, TLS, sending and reading.
        """
        return await self._exchange(self._request(call, traceparent), deadline, call.operation, self._reply)

    async def relay(self, parcel: Parcel, deadline: float) -> Returned:
        """Pass a client's own request on, with the provider's key instead of the client's; nothing is repeated.

        Raises ProviderFault as `send` does, and Problem where the client's key stands where it can not be replaced.
        """
        parcel = addressed(parcel, self._origin.key.get_secret_value())
        return await self._exchange(self._passed_on(parcel), deadline, "passthrough", self._returned)

    async def _exchange(self, request: bytes, deadline: float, operation: str, read: Callable[[Answer], T]) -> T:
        began = self._clock.monotonic()
        result = "given_up"
        try:
            connection = self._rested(began) or await self._connect(deadline - began)
            answer = await connection.exchange(request, deadline - self._clock.monotonic())
            if connection.reusable:
                self._rest(connection)
            found = read(answer)
            result = "ok"
        except ProviderFault as fault:
            result = fault.cause.value
            raise
        finally:
            self._metrics.called(self._origin.provider, operation, result, self._clock.monotonic() - began)
        return found

    def reconfigure(self, fresh: HttpUpstream) -> None:
        """Become `fresh`, an upstream with the same address that was not used yet: another key, other times.

        Connections stay. Requests have the new key from the next one on; an answer may still quote an old one.
        """
        self._origin, self._tls = fresh._origin, fresh._tls
        self._head, self._plain_head = fresh._head, fresh._plain_head
        self._redaction = fresh._redaction.after(self._redaction)

    def retire(self) -> None:
        """Keep no connection from now on: only runs that began here still come."""
        self._retired = True
        while self._idle:
            self._idle.pop().abort()

    async def close(self) -> None:
        """Close every connection."""
        for connection in list(self._all):
            connection.abort()
        await self._clock.sleep(0)

    def _rested(self, now: float) -> Connection | None:
        """Take the connection that was used last; what has rested for too long may be half closed already."""
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and now - connection.idle_since < _IDLE_SECONDS:
                return connection
            connection.abort()
        return None

    def _rest(self, connection: Connection) -> None:
        if self._retired:
            connection.abort()
            return
        now = connection.idle_since = self._clock.monotonic()
        self._idle.append(connection)
        if now - self._idle[0].idle_since > _IDLE_SECONDS:
            self._idle.pop(0).abort()

    async def _connect(self, seconds: float) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(min(seconds, self._origin.connect_timeout)):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._origin.max_response, self._forget), self._host, self._port, ssl=self._tls
                )
        except ssl.SSLError:
            raise ProviderFault(Cause.MISCONFIGURED, "no trusted TLS connection was possible") from None
        except (OSError, TimeoutError) as error:
            if error.errno in _OURS:
                raise ProviderFault(Cause.EXHAUSTED, "no more connections can be opened", retry_after=1) from None
            raise ProviderFault(Cause.UNREACHABLE, "no connection was possible") from None
        if connection.reusable:  # else it was lost already, and will not be forgotten again
            self._all.add(connection)
        return connection

    def _forget(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _request(self, call: Call, traceparent: str) -> bytes:
        if not _TARGET(call.path):
            raise ValueError("an adapter's path is not encoded")
        line = f"{call.method} {self._prefix}{call.path} HTTP/1.1\r\n".encode()
        trace = f"traceparent: {traceparent}\r\n".encode() if traceparent else b""
        if call.method == "GET":
            return b"%b%b%b\r\n" % (line, self._head, trace)
        body = strictjson.write(call.json)
        framing = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        return b"%b%b%b%b%b" % (line, self._head, trace, framing, body)

    def _passed_on(self, parcel: Parcel) -> bytes:
        target = self._prefix + parcel.path + ("?" + parcel.query if parcel.query else "")
        fields = "".join(f"{name}: {value}\r\n" for name, value in parcel.fields).encode()
        framing = b"" if parcel.method == "GET" and not parcel.body else b"Content-Length: %d\r\n" % len(parcel.body)
        line = f"{parcel.method} {target} HTTP/1.1\r\n".encode()
        return b"%b%b%b%b\r\n%b" % (line, self._plain_head, fields, framing, parcel.body)

    def _returned(self, answer: Answer) -> Returned:
        _refuse_strange(answer)
        strip = self._redaction.strip
        kept = ((name, strip(value)) for name, value in answer.headers if name in _KEPT)
        fields = tuple((name.decode(), value.decode("latin-1")) for name, value in kept)
        return Returned(answer.status, fields, strip(answer.body))

    def _reply(self, answer: Answer) -> Reply:
        _refuse_strange(answer)
        hint = None
        if answer.status in {429, 503}:
            hint = retry_after([value for name, value in answer.headers if name == b"retry-after"], self._clock.now())
        try:
            return Reply(answer.status, self._redaction.read(answer.body), hint)
        except strictjson.NotJson:
            return Reply(answer.status, UNREADABLE, hint)


def _refuse_strange(answer: Answer) -> None:
    """Refuse what leads elsewhere or can not be read."""
    if 300 <= answer.status < 400:
        raise invalid("redirects are not followed")
    for name, value in answer.headers:
        if name == b"content-encoding" and value.lower() != b"identity":
            raise invalid("the answer is compressed, which was not asked for")


def _head(host: str, origin: Origin, *, accept: str = "") -> bytes:
    """The header fields of every request. There are few others, and none that a client chooses freely."""
    fields = {
        "Host": host,
        origin.key_header.name: origin.key_header.prefix + origin.key.get_secret_value(),
        "Accept": accept,
        "Accept-Encoding": "identity",
        "User-Agent": origin.user_agent,
    }
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value).encode()
