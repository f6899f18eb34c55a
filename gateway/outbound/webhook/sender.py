"""The door to receivers: a signed message goes out, a status or a fault comes back, and nothing else can happen.

Receivers are strangers whom a client named. They see the message and who sends it; of their answer we take the status,
`Retry-After`, and 20 kB at most of the rest, so that they are not cut off while they speak.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import TypeAlias

from gateway.clock import Clock
from gateway.outbound.retry_after import parse_retry_after
from gateway.outbound.webhook.callback_url import CallbackUrl
from gateway.outbound.webhook.connection import DeliveryFault, WebhookConnection
from gateway.outbound.webhook.egress_policy import EgressPolicy
from gateway.outbound.webhook.ip_ranges import IpAddress
from gateway.problems import Problem

_MAX_ADDRESSES = 3


@dataclass(frozen=True, slots=True)
class WebhookMessage:
    """What is delivered: JSON, and what Standard Webhooks has beside it in the header. No signature, no such field."""

    id: str
    timestamp: int
    signature: str
    body: bytes


@dataclass(frozen=True, slots=True)
class WebhookResponse:
    """The receiver's status, and in how many seconds it wants to be asked again, if it says so."""

    status: int
    retry_after: float | None = None


DeliveryResult: TypeAlias = WebhookResponse | DeliveryFault


@dataclass(frozen=True, slots=True)
class WebhookTimeouts:
    """Seconds for a whole delivery, look-up included, and for each address that is tried."""

    total: float = 15.0
    connect: float = 5.0


class WebhookSender:
    """Delivers messages, each over a connection of its own, to addresses that `egress` has just judged."""

    def __init__(
        self,
        egress_policy: EgressPolicy,
        clock: Clock,
        *,
        user_agent: str = "runward",
        timeouts: WebhookTimeouts | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`tls` is whom we trust: by default what the system trusts."""
        self._egress_policy = egress_policy
        self._clock = clock
        self._user_agent = user_agent
        self._timeouts = timeouts or WebhookTimeouts()
        self._tls = tls or ssl.create_default_context()

    async def deliver(self, url: str, message: WebhookMessage) -> DeliveryResult:
        """Post a message once, within the courier's patience. Redirects are not followed: a 3xx is just a status."""
        deadline = self._clock.monotonic() + self._timeouts.total
        try:
            async with asyncio.timeout(self._timeouts.total):
                target = self._egress_policy.check(url)
                addresses = await self._egress_policy.resolve(target)
                connection = await self._connect(target, addresses, self._encode_request(target, message))
        except Problem:
            return DeliveryFault.REFUSED
        except TimeoutError:
            return DeliveryFault.UNREACHABLE
        if isinstance(connection, DeliveryFault):
            return connection
        return await self._await_response(connection, deadline - self._clock.monotonic())

    async def _connect(
        self, target: CallbackUrl, addresses: tuple[IpAddress, ...], request: bytes
    ) -> WebhookConnection | DeliveryFault:
        """Connect to the first address that lets us. Nothing is sent before that, so nothing is sent twice."""
        fault = DeliveryFault.UNREACHABLE
        for address in addresses[:_MAX_ADDRESSES]:
            try:
                async with asyncio.timeout(self._timeouts.connect):
                    return await self._connect_address(target, address, request)
            except ssl.SSLError:
                fault = DeliveryFault.UNTRUSTED
            except (OSError, TimeoutError):
                fault = DeliveryFault.UNREACHABLE
        return fault

    async def _connect_address(self, target: CallbackUrl, address: IpAddress, request: bytes) -> WebhookConnection:
        """Connect to this address and no other; the certificate must be the host's."""
        secure = target.scheme == "https"
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: WebhookConnection(request),
            str(address),
            target.port,
            ssl=self._tls if secure else None,
            server_hostname=target.host if secure else None,
            flags=socket.AI_NUMERICHOST,
        )
        return connection

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

    def _encode_request(self, target: CallbackUrl, message: WebhookMessage) -> bytes:
        """The whole request. These are the header fields, and no others: nothing of a client's or a provider's."""
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
        }
        lines = [f"POST {target.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value)]
        return "\r\n".join([*lines, "", ""]).encode() + message.body
