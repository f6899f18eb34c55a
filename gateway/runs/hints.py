"""Hints: a provider calls back to say "look now". Nothing that it sends is read or believed; the run is asked about.

Whoever may call has a token that only we can make. It is told to all replicas, and the one that works on the run, if
any does, asks at once. So a hint that is forged, repeated or late does nothing, and nobody learns whether a run exists.
"""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from gateway.access.gcra import Bucket
from gateway.access.limits import Rate
from gateway.clock import Clock
from gateway.metrics import Metrics
from gateway.runs.seals import Seals
from gateway.store.contract import Store, StoreUnavailable

_SECRET = "seals"  # noqa: S105 - its name in the store
_SECRET_BYTES = 32
_MOST = Rate(count=1000, per=1.0)


class Hints:
    """Makes the URLs at `public_url` to which hints come, takes hints in, and lets runs wait for theirs."""

    def __init__(
        self, public_url: str, store: Store, *, clock: Clock, metrics: Metrics, log: FilteringBoundLogger
    ) -> None:
        self._public_url = public_url
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._seals = Seals(clock.token(_SECRET_BYTES))
        self._genuine = Bucket(_MOST, int(_MOST.count))

    async def open(self) -> None:
        """Take the secret that all replicas share, out of a store that is open. Raises StoreUnavailable."""
        self._seals = Seals(await self._store.secret(_SECRET, self._clock.token(_SECRET_BYTES)))

    def url(self, run_id: str) -> str:
        """Where a provider may say that this run has ended."""
        return f"{self._public_url}/hints/{self._seals.hint(run_id)}"

    async def receive(self, token: str) -> None:
        """Tell whoever works on the run, wherever it is. What is not ours costs a MAC, and the store is not asked."""
        run_id = self._seals.read_hint(token)
        result = "forged" if run_id is None else await self._tell(run_id)
        self._metrics.hint_came(result)
        self._log.debug("hint", result=result, run_id=run_id)

    async def wait(self, run_id: str, seconds: float) -> bool:
        """Wait for so many seconds, or for a hint about this run; whether there was one."""
        name, end = _name(run_id), self._clock.monotonic() + seconds
        while not self._store.told(name):
            left = end - self._clock.monotonic()
            if left <= 0:
                return False
            await self._wait(name, left)
        self._metrics.hint_used()
        return True

    async def _wait(self, name: str, seconds: float) -> None:
        try:
            await self._store.wait([name], seconds)
        except StoreUnavailable:
            await self._clock.sleep(seconds)

    async def _tell(self, run_id: str) -> str:
        now = self._clock.monotonic()
        if self._genuine.blocked(now):  # nobody is lost: the run is asked about a little later
            return "surplus"
        self._genuine.take(now)
        try:
            await self._store.tell(_name(run_id))
        except StoreUnavailable:
            return "not_told"
        return "genuine"


def _name(run_id: str) -> str:
    """What a hint is called in the store: whoever waits for the run itself is not to be woken by it."""
    return f"hint:{run_id}"
