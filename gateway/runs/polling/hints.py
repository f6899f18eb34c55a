"""Hints: a provider calls back to say "look now". Nothing that it sends is read or believed; the run is asked about.

Whoever may call has a token that only we can make. It is told to all replicas, and the one that works on the run, if
any does, asks at once. So a hint that is forged, repeated or late does nothing, and nobody learns whether a run exists.
"""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from gateway.clock import Clock
from gateway.limits.contract import RateLimit
from gateway.limits.gcra import RateLimiter
from gateway.observability.metrics import Metrics
from gateway.runs.polling.hint_tokens import HintTokens
from gateway.store.contract import Store, StoreUnavailable

_SECRET_NAME = "seals"  # noqa: S105 - its name in the store
_SECRET_BYTES = 32
_MAX_RATE = RateLimit(count=1000, per=1.0)


class PollHints:
    """Makes the URLs at `public_url` to which hints come, takes hints in, and lets runs wait for theirs."""

    def __init__(
        self, public_url: str, store: Store, *, clock: Clock, metrics: Metrics, log: FilteringBoundLogger
    ) -> None:
        self._public_url = public_url
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._tokens = HintTokens(clock.token(_SECRET_BYTES))
        self._rate_limit = RateLimiter(_MAX_RATE, int(_MAX_RATE.count))

    async def load_secret(self) -> None:
        """Take the secret that all replicas share, out of a store that is open. Raises StoreUnavailable."""
        self._tokens = HintTokens(
            await self._store.get_or_create_secret(_SECRET_NAME, self._clock.token(_SECRET_BYTES))
        )

    def notify_url(self, run_id: str) -> str:
        """Where a provider may say that this run has ended."""
        return f"{self._public_url}/hints/{self._tokens.issue(run_id)}"

    async def receive(self, token: str) -> None:
        """Tell whoever works on the run, wherever it is. What is not ours costs a MAC, and the store is not asked."""
        run_id = self._tokens.verify(token)
        result = "forged" if run_id is None else await self._notify_replicas(run_id)
        self._metrics.hint_received(result)
        self._log.debug("hint", result=result, run_id=run_id)

    async def wait_for_hint(self, run_id: str, seconds: float) -> bool:
        """Wait for so many seconds, or for a hint about this run; whether there was one."""
        name, end = _notification_name(run_id), self._clock.monotonic() + seconds
        while not self._store.recently_notified(name):
            remaining = end - self._clock.monotonic()
            if remaining <= 0:
                return False
            await self._wait_in_store(name, remaining)
        self._metrics.hint_used()
        return True

    async def _wait_in_store(self, name: str, seconds: float) -> None:
        try:
            await self._store.wait_for_change([name], seconds)
        except StoreUnavailable:
            await self._clock.sleep(seconds)

    async def _notify_replicas(self, run_id: str) -> str:
        now = self._clock.monotonic()
        if self._rate_limit.blocked(now):  # nobody is lost: the run is asked about a little later
            return "surplus"
        self._rate_limit.take(now)
        try:
            await self._store.notify(_notification_name(run_id))
        except StoreUnavailable:
            return "not_told"
        return "genuine"


def _notification_name(run_id: str) -> str:
    """What a hint is called in the store: whoever waits for the run itself is not to be woken by it."""
    return f"hint:{run_id}"
