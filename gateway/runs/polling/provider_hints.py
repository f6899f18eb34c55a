"""Poll hints: a provider calls back when a run has ended, and the run is polled at once.

The content of the call is neither read nor trusted: it only wakes the poller. Its URL contains a token that only the
gateway can issue; all replicas are notified (pub/sub), and the replica that works on the run polls. A forged, repeated
or late hint has no effect, and the response does not disclose whether a run exists.
"""

from __future__ import annotations

from gateway.clock import Clock
from gateway.limits.config import RateLimit
from gateway.limits.gcra import RateLimiter
from gateway.observability.logger_protocol import Logger
from gateway.observability.metrics import Metrics
from gateway.runs.polling.hint_tokens import HintTokens
from gateway.store.contract import Store, StoreUnavailable

_SECRET_NAME = "seals"  # noqa: S105 - the name in the store
_SECRET_BYTES = 32
_MAX_RATE = RateLimit(count=1000, per=1.0)


async def load_secret(store: Store, clock: Clock) -> bytes:
    """Return the secret that all replicas share, from an open store. Raises StoreUnavailable."""
    return await store.get_or_create_secret(_SECRET_NAME, clock.token(_SECRET_BYTES))


class ProviderHints:
    """Issues the URLs at `public_url` that providers call, receives hints, and lets runs wait for theirs.

    `secret`: 32 bytes that all replicas share; see `load_secret`.
    """

    def __init__(
        self,
        public_url: str,
        secret: bytes,
        store: Store,
        *,
        clock: Clock,
        metrics: Metrics,
        log: Logger,
    ) -> None:
        self._public_url = public_url
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._tokens = HintTokens(secret)
        self._rate_limit = RateLimiter(_MAX_RATE, int(_MAX_RATE.count))

    def notify_url(self, run_id: str) -> str:
        """Return the URL that a provider calls when this run has ended."""
        return f"{self._public_url}/hints/{self._tokens.issue(run_id)}"

    async def receive(self, token: str) -> None:
        """Notify the replica that works on the run. A forged token costs one MAC and no access to the store."""
        run_id = self._tokens.verify(token)
        result = "forged" if run_id is None else await self._notify_replicas(run_id)
        self._metrics.hint_received(result)
        self._log.debug("hint", result=result, run_id=run_id)

    async def wait_for_hint(self, run_id: str, seconds: float) -> bool:
        """Wait for a hint about this run, at most `seconds`; returns whether there was one."""
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
        if self._rate_limit.blocked(now):  # the run is polled a little later instead
            return "surplus"
        self._rate_limit.take(now)
        try:
            await self._store.notify(_notification_name(run_id))
        except StoreUnavailable:
            return "not_told"
        return "genuine"


def _notification_name(run_id: str) -> str:
    """Return the name of the notification; it differs from the run id, so that only the poller is woken."""
    return f"hint:{run_id}"
