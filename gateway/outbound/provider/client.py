"""HTTP client of one provider: sends a `Call`, returns a `Reply` or raises `ProviderFault`.

Every request goes to one origin, with one key, without redirects, cookies, proxies from the environment or compressed
responses, through the tunnel of the configured proxy if there is one, and is read to a bounded size within a deadline.
Connecting and the exchange are separate steps, so that it is known whether a request was sent.
"""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from operator import attrgetter
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from gateway import happy_eyeballs
from gateway.clock import Clock
from gateway.content_decoding import CODINGS, Decoder, UndecodableError, decode
from gateway.json import strict_json
from gateway.observability.metrics import Metrics
from gateway.outbound.connect_tunnel import ProxyRefused
from gateway.outbound.provider.endpoint import ProviderEndpoint
from gateway.outbound.provider.http1_connection import HttpResponse, ProviderConnection
from gateway.outbound.provider.passthrough_request import PassthroughRequest, PassthroughResponse, with_provider_key
from gateway.outbound.provider.redaction import ExposedKeyError, Redaction
from gateway.outbound.provider.request_encoding import (
    encode_body,
    encode_header_fields,
    encode_request_line,
    request_target,
)
from gateway.outbound.provider.stream import RedactedStream
from gateway.outbound.retry_after import parse_retry_after
from gateway.write_batch import WriteBatch
from providers.contract import UNREADABLE, Call, Cause, ProviderFault, Reply, invalid

_JSON_FIELD = b"Content-Type: application/json\r\n"
_idle_since = attrgetter("idle_since")
TlsContextFactory: TypeAlias = Callable[[Path | None], ssl.SSLContext]
"""Returns the context that trusts the CA certificates in a file, or those of the system. Raises OSError, SSLError."""
_IDLE_SECONDS = 15.0
_REST_SECONDS = 0.1  # after an exchange, in which an unsolicited response can arrive and close the connection
_LOCAL_RESOURCE_ERRORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}  # exhausted on this machine
_RETURNED_HEADERS = {b"content-type", b"retry-after"}  # header fields of a passed-through response
_CONTENT_ENCODING = b"content-encoding"
_INLINE_BYTES = 262_144  # larger bodies are searched for keys in a thread
_MAX_EXPANSION = 10  # of a compressed response, whose decoded form is searched for the key
_is_header_value = re.compile(r"[!-~](?:[ -~]{0,998}[!-~])?").fullmatch
_isrequest_target = re.compile(r"/[!-~]*").fullmatch


def create_tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return a new context that trusts the CA certificates in a file, or those of the system."""
    return ssl.create_default_context(cafile=ca_file)


class ProviderClient:
    """Connection pool to one provider. Its size is bounded by the concurrency limit of the provider.

    HTTP/1.1 has no request ids: an unsolicited response of one exchange could be taken for the response of the next
    one, and so for the result of another run. Therefore a connection rests before its reuse, it is probed when it is
    taken from the pool, and bytes that arrive outside of an exchange, or before its request is written, close it. Only
    an unsolicited response that arrives between the request and its response cannot be distinguished.
    """

    def __init__(
        self,
        endpoint: ProviderEndpoint,
        *,
        clock: Clock,
        metrics: Metrics,
        tls_context: TlsContextFactory = create_tls_context,
    ) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._metrics = metrics
        self._redaction = Redaction(endpoint.key.get_secret_value())
        base = urlsplit(endpoint.base_url)
        self._secure = base.scheme == "https"
        self._host = base.hostname or ""
        self._port = base.port or (443 if self._secure else 80)
        self._path_prefix = base.path.rstrip("/")
        self._header_fields = encode_header_fields(base.netloc, endpoint, accept="application/json")
        self._passthrough_header_fields = {
            accepts_gzip: encode_header_fields(base.netloc, endpoint, accept_encoding=accept_encoding)
            for accepts_gzip, accept_encoding in ((False, "identity"), (True, "gzip"))
        }
        self._tls = tls_context(endpoint.ca_file) if self._secure else None
        self._idle: list[ProviderConnection] = []
        self._connections: set[ProviderConnection] = set()
        self._pooling_stopped = False
        self._write_batch = WriteBatch()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the provider."""
        return self._host, self._port

    async def send(self, call: Call, deadline: float, traceparent: str = "") -> Reply:
        """Make one call. Raises `ProviderFault` with a cause of the transport if no complete response arrived.

        `deadline` is a time of the monotonic clock and bounds everything: DNS, connect, TLS, sending and reading.
        """
        request = self._encode_request(call, traceparent)
        monotonic = self._clock.monotonic
        ended_at, result, connection = 0.0, "given_up", None
        started_at = connected_at = monotonic()
        try:
            connection = idle = self._checkout(started_at)
            if connection is None:
                connection = await self._connect(deadline - started_at)
                connected_at = monotonic()
            response = await connection.exchange(request, deadline - connected_at)
            ended_at = monotonic()
            if connection.reusable:
                self._checkin(connection, ended_at)
            connection = None
            reply = self._parse_reply(response, reused=idle is not None)
            result = "ok"
        except ProviderFault as fault:
            result = fault.cause.value
            raise
        finally:
            if connection is not None:  # the exchange has failed or was cancelled
                connection.abort()
            seconds = (ended_at or monotonic()) - started_at
            self._metrics.call_ended(self._endpoint.provider, call.operation, result, seconds)
        return reply

    @asynccontextmanager
    async def send_passthrough(
        self, request: PassthroughRequest, deadline: float, *, max_body: int
    ) -> AsyncIterator[PassthroughResponse]:
        """Send a client's own request with the provider's key instead of the client's. Nothing is repeated.

        The response has at most `max_body` bytes. It arrives before `deadline`, unless it has a stream, which is read
        within the context. Raises ProviderFault as `send` does, and InvalidRequest as `with_provider_key` does.
        """
        key = self._endpoint.key.get_secret_value()
        if len(request.body) > _INLINE_BYTES or request.coding:
            request = await asyncio.to_thread(with_provider_key, request, key, max_body)
        else:
            request = with_provider_key(request, key, max_body)
        started_at, result = self._clock.monotonic(), "given_up"
        response = connection = None
        try:
            connection = self._checkout(started_at) or await self._connect(deadline - started_at)
            response = await connection.exchange(
                self._encode_passthrough(request),
                deadline - self._clock.monotonic(),
                max_body=max_body,
                may_stream=True,
            )
            if connection.reusable:
                self._checkin(connection, self._clock.monotonic())
            if len(response.body) > _INLINE_BYTES:
                parsed = await asyncio.to_thread(self._parse_passthrough, response, max_body)
            else:
                parsed = self._parse_passthrough(response, max_body)
            yield parsed
            result = "ok"
        except ProviderFault as fault:
            result = fault.cause.value
            raise
        finally:
            if response is None and connection is not None:  # the exchange has failed or was cancelled
                connection.abort()
            if response is not None and response.stream is not None:
                response.stream.close()
            elapsed = self._clock.monotonic() - started_at
            self._metrics.call_ended(self._endpoint.provider, "passthrough", result, elapsed)

    def reconfigure(self, replacement: ProviderClient) -> None:
        """Take over the key and timeouts of `replacement`, an unused client with the same address.

        Connections are kept. The next request has the new key; a response may still quote an old key.
        """
        self._endpoint, self._tls = replacement._endpoint, replacement._tls
        self._header_fields = replacement._header_fields
        self._passthrough_header_fields = replacement._passthrough_header_fields
        self._redaction = replacement._redaction.with_keys_of(self._redaction)

    def stop_pooling(self) -> None:
        """Close idle connections, and pool none from now on: the provider was removed from the configuration."""
        self._pooling_stopped = True
        while self._idle:
            self._idle.pop().abort()

    async def close(self) -> None:
        """Close every connection."""
        for connection in list(self._connections):
            connection.abort()
        await self._clock.sleep(0)

    def _checkout(self, now: float) -> ProviderConnection | None:
        """Return the rested connection that was used last, or None. Connections idle for too long are closed."""
        rested = bisect_right(self._idle, now - _REST_SECONDS, key=_idle_since)
        while rested:
            rested -= 1
            connection = self._idle.pop(rested)
            if now - connection.idle_since < _IDLE_SECONDS and connection.is_silent():
                return connection
            connection.abort()
        return None

    def _checkin(self, connection: ProviderConnection, now: float) -> None:
        if self._pooling_stopped:
            connection.abort()
            return
        connection.idle_since = now
        self._idle.append(connection)
        if now - self._idle[0].idle_since > _IDLE_SECONDS:
            self._idle.pop(0).abort()

    async def _connect(self, seconds: float) -> ProviderConnection:
        try:
            async with asyncio.timeout(min(seconds, self._endpoint.connect_timeout)):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: ProviderConnection(self._endpoint.max_response, self._remove, self._write_batch),
                    sock=await self._open_socket(),
                    ssl=self._tls,
                    server_hostname=self._host if self._secure else None,
                )
        except ssl.SSLError:
            raise ProviderFault(Cause.MISCONFIGURED, "no trusted TLS connection was possible") from None
        except ProxyRefused as refused:
            raise ProviderFault(Cause.UNREACHABLE, str(refused)) from None
        except (OSError, TimeoutError) as error:
            if error.errno in _LOCAL_RESOURCE_ERRORS:
                raise ProviderFault(Cause.EXHAUSTED, "no more connections can be opened", retry_after=1) from None
            raise ProviderFault(Cause.UNREACHABLE, "no connection was possible") from None
        if connection.reusable:  # otherwise it was lost already, and `_remove` was called
            self._connections.add(connection)
        return connection

    async def _open_socket(self) -> socket.socket:
        proxy = self._endpoint.proxy
        if proxy is not None:
            return await proxy.open_tunnel(self._host, self._port)
        return await happy_eyeballs.connect_host(self._host, self._port)

    def _remove(self, connection: ProviderConnection) -> None:
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _encode_request(self, call: Call, traceparent: str) -> bytes:
        target = request_target(call) if call.query else call.path
        request_line = encode_request_line(call.method, self._path_prefix, target)
        trace = f"traceparent: {traceparent}\r\n".encode() if traceparent else b""
        fields = self._encode_call_headers(call) if call.headers else b""
        if call.form is None and call.json is not None:
            content_type, body = _JSON_FIELD, strict_json.write(call.json)
        else:
            content_type, body = encode_body(call)
        if call.method == "GET" and not content_type:
            return b"%b%b%b%b\r\n" % (request_line, self._header_fields, trace, fields)
        framing = b"%bContent-Length: %d\r\n\r\n" % (content_type, len(body))
        return b"%b%b%b%b%b%b" % (request_line, self._header_fields, trace, fields, framing, body)

    def _encode_call_headers(self, call: Call) -> bytes:
        pairs = call.headers.items() if isinstance(call.headers, Mapping) else call.headers
        for name, value in pairs:
            if name.lower() not in self._endpoint.request_headers or not _is_header_value(value):
                raise ValueError("an adapter's header is not declared, or has an invalid value")
        return "".join(f"{name}: {value}\r\n" for name, value in pairs).encode()

    def _encode_passthrough(self, request: PassthroughRequest) -> bytes:
        target = self._path_prefix + request.path + ("?" + request.query if request.query else "")
        fields = "".join(f"{name}: {value}\r\n" for name, value in request.forwarded_headers).encode()
        framing = b"" if request.method == "GET" and not request.body else b"Content-Length: %d\r\n" % len(request.body)
        request_line = f"{request.method} {target} HTTP/1.1\r\n".encode()
        common_fields = self._passthrough_header_fields[request.accepts_gzip]
        return b"%b%b%b%b\r\n%b" % (request_line, common_fields, fields, framing, request.body)

    def _parse_passthrough(self, response: HttpResponse, max_body: int) -> PassthroughResponse:
        if 300 <= response.status < 400 and response.status != 304:
            raise invalid("redirects are not followed")
        redact = self._redaction.redact
        coding = _content_coding(response)
        fields = {
            name.decode(): redact(value).decode("latin-1")
            for name, value in response.headers
            if name in _RETURNED_HEADERS
        }
        if coding:
            fields["content-encoding"] = coding
        decoder = Decoder(_MAX_EXPANSION * max_body) if coding else None
        if response.stream is not None:
            stream = RedactedStream(response.stream, self._redaction.stream(decoder))
            return PassthroughResponse(response.status, tuple(fields.items()), stream=stream)
        if decoder is None:
            return PassthroughResponse(response.status, tuple(fields.items()), redact(response.body))
        try:
            self._check_compressed(response.body, decoder)
        except ExposedKeyError:
            del fields["content-encoding"]
            redacted = redact(decode(response.body, _MAX_EXPANSION * max_body))
            return PassthroughResponse(response.status, tuple(fields.items()), redacted)
        except UndecodableError as error:
            raise invalid(str(error)) from None
        return PassthroughResponse(response.status, tuple(fields.items()), response.body)

    def _check_compressed(self, body: bytes, decoder: Decoder) -> None:
        """Raise ExposedKeyError for a compressed body that quotes the key, UndecodableError for an invalid one."""
        redaction = self._redaction.stream(decoder)
        for start in range(0, len(body), _INLINE_BYTES):
            redaction.feed(body[start : start + _INLINE_BYTES])

    def _parse_reply(self, response: HttpResponse, *, reused: bool) -> Reply:
        _reject_unsupported(response)
        retry_after_seconds = None
        if response.status in {429, 503}:
            retry_after_seconds = parse_retry_after(
                [value for name, value in response.headers if name == b"retry-after"], self._clock.now()
            )
        try:
            value, repairs = self._redaction.parse_response(response.body)
        except strict_json.NotJson:
            return Reply(response.status, UNREADABLE, retry_after_seconds, (), reused)
        return Reply(response.status, value, retry_after_seconds, repairs, reused)


def _reject_unsupported(response: HttpResponse) -> None:
    """Raise ProviderFault for a redirect or a compressed response."""
    if 300 <= response.status < 400:
        raise invalid("redirects are not followed")
    for name, value in response.headers:
        if name == _CONTENT_ENCODING and value.lower() != b"identity":
            raise invalid("the response is compressed, although identity was requested")


def _content_coding(response: HttpResponse) -> str:
    """Return the coding of a passed-through response, "" for none. Raises ProviderFault for one that is not decoded."""
    codings = [value.decode("latin-1").strip().lower() for name, value in response.headers if name == _CONTENT_ENCODING]
    codings = [coding for coding in codings if coding not in {"", "identity"}]
    if not codings:
        return ""
    if len(codings) > 1 or codings[0] not in CODINGS:
        raise invalid("the response is compressed in a way that was not asked for")
    return codings[0]
