"""Webhook sender: posts a signed message to a callback receiver, and returns its status or a fault.

Receivers are untrusted. Of a response the sender uses the status and `Retry-After`, and reads at most 20 kB of the
rest, so that the receiver can finish its response.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeAlias

from gateway import happy_eyeballs
from gateway.clock import Clock
from gateway.errors import CallbackUrlRefused
from gateway.outbound.connect_tunnel import Proxy
from gateway.outbound.retry_after import parse_retry_after
from gateway.outbound.webhook.callback_url import CallbackUrl
from gateway.outbound.webhook.egress_policy import EgressPolicy
from gateway.outbound.webhook.http1_connection import DeliveryFault, WebhookConnection
from gateway.outbound.webhook.ip_ranges import IpAddress

_MAX_ADDRESSES = 3
_MAX_JOINED_BODY = 65_536  # bytes; a larger body is written separately, without a copy of it


@dataclass(frozen=True, slots=True)
class WebhookMessage:
    """A JSON body and the header values of Standard Webhooks. What is empty adds no header field."""

    id: str
    timestamp: int
    signature: str
    body: bytes
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class WebhookResponse:
    """Status of the receiver, and Retry-After in seconds, if present."""

    status: int
    retry_after: float | None = None


DeliveryResult: TypeAlias = WebhookResponse | DeliveryFault


@dataclass(frozen=True, slots=True)
class WebhookTimeouts:
    """Seconds for a whole delivery, DNS look-up included, and for connecting."""

    total: float = 15.0
    connect: float = 5.0


class WebhookSender:
    """Delivers each message over a new connection, to an address that the egress policy has just permitted."""

    def __init__(
        self,
        egress_policy: EgressPolicy,
        clock: Clock,
        *,
        user_agent: str = "runward",
        timeouts: WebhookTimeouts | None = None,
        tls: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        """Create a sender. `tls`: trusted CA certificates, by default those of the system when the first is needed."""
        self._egress_policy = egress_policy
        self._clock = clock
        self._user_agent = user_agent
        self._timeouts = timeouts or WebhookTimeouts()
        self._tls = tls
        self._proxy = proxy

    @property
    def uses_proxy(self) -> bool:
        """True if deliveries go through a proxy, which resolves their hosts."""
        return self._proxy is not None

    def reconfigure(self, proxy: Proxy | None) -> None:
        """Deliver through this proxy from now on."""
        self._proxy = proxy

    async def deliver(self, url: str, message: WebhookMessage, client: str = "") -> DeliveryResult:
        """Post a message once, within the timeouts. Redirects are not followed: a 3xx is a status.

        The DNS look-up is one of `client`.
        """
        deadline = self._clock.monotonic() + self._timeouts.total
        try:
            async with asyncio.timeout(self._timeouts.total):
                target = self._egress_policy.check(url)
                tls = await self._tls_context() if target.scheme == "https" else None
                proxy = self._proxy
                if proxy is None:
                    addresses = await self._egress_policy.resolve(target, client)
                    connection = await self._connect(target, tls, addresses, message)
                else:
                    await self._egress_policy.check_for_proxy(target, client)
                    connection = await self._connect_through(proxy, target, tls, message)
        except CallbackUrlRefused:
            return DeliveryFault.REFUSED
        except TimeoutError:
            return DeliveryFault.UNREACHABLE
        if isinstance(connection, DeliveryFault):
            return connection
        return await self._await_response(connection, deadline - self._clock.monotonic())

    async def _connect(
        self,
        target: CallbackUrl,
        tls: ssl.SSLContext | None,
        addresses: tuple[IpAddress, ...],
        message: WebhookMessage,
    ) -> WebhookConnection | DeliveryFault:
        """Connect to the permitted addresses in a race (RFC 8305); after a TLS failure, to the others.

        Nothing is sent before a connection is complete, so nothing is sent twice.
        """
        fault = DeliveryFault.UNREACHABLE
        remaining = list(addresses[:_MAX_ADDRESSES])
        while remaining:
            try:
                connected = await self._race(target, remaining)
            except (OSError, TimeoutError):
                return fault
            remaining.remove(ip_address(connected.getpeername()[0]))
            try:
                return await self._start(target, tls, connected, message)
            except ssl.SSLError:
                fault = DeliveryFault.UNTRUSTED
            except (OSError, TimeoutError):
                fault = DeliveryFault.UNREACHABLE
        return fault

    async def _connect_through(
        self, proxy: Proxy, target: CallbackUrl, tls: ssl.SSLContext | None, message: WebhookMessage
    ) -> WebhookConnection | DeliveryFault:
        """Connect through the tunnel of a proxy, which resolves the host."""
        try:
            async with asyncio.timeout(self._timeouts.connect):
                connected = await proxy.open_tunnel(target.host, target.port)
            return await self._start(target, tls, connected, message)
        except ssl.SSLError:
            return DeliveryFault.UNTRUSTED
        except (OSError, TimeoutError):
            return DeliveryFault.UNREACHABLE

    async def _race(self, target: CallbackUrl, addresses: Sequence[IpAddress]) -> socket.socket:
        async with asyncio.timeout(self._timeouts.connect):
            return await happy_eyeballs.connect_addresses(
                happy_eyeballs.address_info(address, target.port) for address in addresses
            )

    async def _start(
        self, target: CallbackUrl, tls: ssl.SSLContext | None, connected: socket.socket, message: WebhookMessage
    ) -> WebhookConnection:
        """Send the request on a connected socket, after a TLS handshake in which the host is verified."""
        parts = [self._encode_head(target, message), message.body]
        if len(message.body) <= _MAX_JOINED_BODY:
            parts = [b"".join(parts)]
        async with asyncio.timeout(self._timeouts.connect):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: WebhookConnection(*parts),
                sock=connected,
                ssl=tls,
                server_hostname=target.host if tls else None,
            )
        return connection

    async def _tls_context(self) -> ssl.SSLContext:
        """Return the context, created by the first delivery: most gateways never need it, and it reads many files."""
        if self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        return self._tls

    async def _await_response(self, connection: WebhookConnection, seconds: float) -> DeliveryResult:
        try:
            await asyncio.wait([connection.done], timeout=seconds)
        finally:
            connection.close()
        if connection.status is not None:
            return WebhookResponse(
                connection.status, parse_retry_after(connection.retry_after_fields, self._clock.now())
            )
        return connection.fault

    def _encode_head(self, target: CallbackUrl, message: WebhookMessage) -> bytes:
        """Encode the request without its body. It has these header fields only: none of a client or a provider."""
        fields = {
            "Host": target.authority,
            "User-Agent": self._user_agent,
            "Accept-Encoding": "identity",
            "Connection": "close",
            "Content-Type": "application/json",
            "Content-Length": str(len(message.body)),
            "webhook-id": message.id,
            "webhook-timestamp": str(message.timestamp),
            "webhook-signature": message.signature,
            "traceparent": message.traceparent,
        }
        lines = [f"POST {target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value)]
        return "\r\n".join([*lines, "", ""]).encode()
