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
from gateway.problems import Problem
from gateway.upstream.egress import Egress
from gateway.upstream.exchange import Exchange, Fault
from gateway.upstream.hint import retry_after
from gateway.upstream.networks import Address
from gateway.upstream.target import Target

_MOST_ADDRESSES = 3


@dataclass(frozen=True, slots=True)
class Message:
    """What is delivered: JSON, and what Standard Webhooks has beside it in the header. No signature, no such field."""

    id: str
    timestamp: int
    signature: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """The receiver's status, and in how many seconds it wants to be asked again, if it says so."""

    status: int
    retry_after: float | None = None


Result: TypeAlias = Answered | Fault


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds for a whole delivery, look-up included, and for each address that is tried."""

    whole: float = 15.0
    connect: float = 5.0


class Courier:
    """Delivers messages, each over a connection of its own, to addresses that `egress` has just judged."""

    def __init__(
        self,
        egress: Egress,
        clock: Clock,
        *,
        user_agent: str = "runward",
        patience: Patience | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`tls` is whom we trust: by default what the system trusts."""
        self._egress = egress
        self._clock = clock
        self._user_agent = user_agent
        self._patience = patience or Patience()
        self._tls = tls or ssl.create_default_context()

    async def deliver(self, url: str, message: Message) -> Result:
        """Post a message once, within the courier's patience. Redirects are not followed: a 3xx is just a status."""
        deadline = self._clock.monotonic() + self._patience.whole
        try:
            async with asyncio.timeout(self._patience.whole):
                target = self._egress.check(url)
                addresses = await self._egress.resolve(target)
                exchange = await self._connect(target, addresses, self._request(target, message))
        except Problem:
            return Fault.REFUSED
        except TimeoutError:
            return Fault.UNREACHABLE
        if isinstance(exchange, Fault):
            return exchange
        return await self._outcome(exchange, deadline - self._clock.monotonic())

    async def _connect(self, target: Target, addresses: tuple[Address, ...], request: bytes) -> Exchange | Fault:
        """Connect to the first address that lets us. Nothing is sent before that, so nothing is sent twice."""
        fault = Fault.UNREACHABLE
        for address in addresses[:_MOST_ADDRESSES]:
            try:
                async with asyncio.timeout(self._patience.connect):
                    return await self._dial(target, address, request)
            except ssl.SSLError:
                fault = Fault.UNTRUSTED
            except (OSError, TimeoutError):
                fault = Fault.UNREACHABLE
        return fault

    async def _dial(self, target: Target, address: Address, request: bytes) -> Exchange:
        """Connect to this address and no other; the certificate must be the host's."""
        secure = target.scheme == "https"
        _, exchange = await asyncio.get_running_loop().create_connection(
            lambda: Exchange(request),
            str(address),
            target.port,
            ssl=self._tls if secure else None,
            server_hostname=target.host if secure else None,
            flags=socket.AI_NUMERICHOST,
        )
        return exchange

    async def _outcome(self, exchange: Exchange, seconds: float) -> Result:
        try:
            await asyncio.wait([exchange.over], timeout=seconds)
        finally:
            exchange.close()
        if exchange.status is not None:
            return Answered(exchange.status, retry_after(exchange.hints, self._clock.now()))
        return exchange.fault

    def _request(self, target: Target, message: Message) -> bytes:
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
