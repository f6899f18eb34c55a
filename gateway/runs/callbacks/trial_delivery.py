"""Test deliveries: a message to a callback URL, judged, signed and sent as a callback is, without a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.clock import Clock, format_rfc3339
from gateway.errors import CallbackUrlRefused, Overloaded
from gateway.json import strict_json
from gateway.outbound.webhook.callback_url import receiver_host
from gateway.outbound.webhook.egress_policy import EgressPolicy
from gateway.outbound.webhook.sender import WebhookResponse, WebhookSender
from gateway.runs.callbacks.webhook_message import sign_message

MESSAGE_TYPE = "callback.test"
"""`type` of the message."""

_AT_ONCE = 4
_NO_KEY = "No secret is configured to sign callbacks with."


@dataclass(frozen=True, slots=True)
class TrialDelivery:
    """A test delivery to `host`. `status` of the receiver, or the `fault` for which there is none.

    `seconds`: its duration. `sent_bytes`: the size of its body.
    """

    message_id: str
    host: str
    status: int | None
    fault: str | None
    seconds: float
    sent_bytes: int

    @property
    def accepted(self) -> bool:
        """True if the receiver answered with a 2xx."""
        return self.status is not None and 200 <= self.status < 300


def host_of(url: str) -> str:
    """Return the host of a URL; "" if it cannot be parsed, as it may contain a password then."""
    host = receiver_host(url)
    return "" if host == url else host


@dataclass(frozen=True, slots=True)
class CallbackTester:
    """Sends test messages. `signing_keys` returns the keys that callbacks are signed with now."""

    egress_policy: EgressPolicy
    sender: WebhookSender
    signing_keys: Callable[[], Sequence[bytes]]
    clock: Clock
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def deliver(self, url: str) -> TrialDelivery:
        """Post a test message once. Nothing is repeated or kept.

        Raises CallbackUrlRefused if a run with this URL would be refused, and Overloaded while four tests are in
        progress.
        """
        keys = self.signing_keys()
        if not keys:
            raise CallbackUrlRefused(_NO_KEY)
        if self._slots.locked():
            raise Overloaded(f"{_AT_ONCE} test deliveries are in progress.", retry_after=1)
        async with self._slots:
            host = await self._check(url)
            now, started = self.clock.now(), self.clock.monotonic()
            message_id = "msg_test_" + self.clock.token(16).hex()
            data = {"message": "A test delivery, requested by an operator; no run has ended."}
            body = strict_json.write({"type": MESSAGE_TYPE, "timestamp": format_rfc3339(now), "data": data})
            result = await self.sender.deliver(url, sign_message(message_id, body, keys, now))
            seconds = self.clock.monotonic() - started
            if isinstance(result, WebhookResponse):
                return TrialDelivery(message_id, host, result.status, None, seconds, len(body))
            return TrialDelivery(message_id, host, None, result.value, seconds, len(body))

    async def _check(self, url: str) -> str:
        """Return the host of a permitted target. Raises CallbackUrlRefused."""
        target = self.egress_policy.check(url)
        if self.sender.uses_proxy:
            await self.egress_policy.check_for_proxy(target)
        else:
            await self.egress_policy.resolve(target)
        return target.host
