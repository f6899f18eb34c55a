"""What a client may use of a provider's API beside its workflows: requests that are passed on as they are.

Nothing is known about such a request, so it is sent once, unless no connection was possible; it takes its place in the
provider's and the client's limits as a run does, and says nothing about a workflow's circuit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from gateway.access.limits import Limits
from gateway.clock import Clock
from gateway.metrics import Metrics
from gateway.passages import Passage, starts_run
from gateway.problems import Problem
from gateway.runs.catalog import Provider
from gateway.runs.retry import RULES
from gateway.upstream.parcel import Parcel, Returned
from providers.contract import Cause, ProviderFault

_PATIENCE = 60.0  # seconds for everything
_TRIES = 2

Allowed: TypeAlias = Mapping[str, Mapping[str, Sequence[Passage]]]
"""By client and provider, what may be passed through."""


class Passthrough:
    """Passes on what is `allowed`."""

    def __init__(
        self, allowed: Allowed, providers: Mapping[str, Provider], *, limits: Limits, clock: Clock, metrics: Metrics
    ) -> None:
        self._limits, self._clock, self._metrics = limits, clock, metrics
        self.reconfigure(allowed, providers)

    def reconfigure(self, allowed: Allowed, providers: Mapping[str, Provider]) -> None:
        """Let other requests through from now on."""
        self._allowed, self._providers = allowed, providers
        of_clients = (passages for of_client in allowed.values() for passages in of_client.values())
        self._any = tuple({passage for passages in of_clients for passage in passages})

    def provider(self, client: str, method: str, path: str) -> str | None:
        """The provider that may be sent this, or None. `path` is as `passages.normal` has it."""
        if starts_run(path):
            return None
        of_client = self._allowed.get(client, {})
        return next((name for name, passages in of_client.items() if _has(passages, method, path)), None)

    def has(self, method: str, path: str) -> bool:
        """Whether any client may send this."""
        return not starts_run(path) and _has(self._any, method, path)

    async def carry(
        self,
        client: str,
        provider: str,
        *,
        wanted: Callable[[], bool],
        method: str,
        path: str,
        query: str,
        headers: tuple[tuple[str, str], ...],
        body: bytes,
        client_key: str,
    ) -> Returned:
        """Send a request, and wait for the answer. `wanted` tells whether somebody waits for it; see `Parcel`.

        Raises Problem: as `Limits.admit`, where the provider can not be asked or gives no whole answer, and where the
        client's key stands where it can not be replaced.
        """
        found = self._providers.get(provider)
        if found is None:  # since its path was looked up
            raise Problem("forbidden", "This is not passed through any more.")
        parcel = Parcel(method, path, query, headers, body, client_key)
        deadline = self._clock.monotonic() + _PATIENCE
        entry = self._limits.admit(client, f"{provider}/*", provider, deadline=deadline, wanted=wanted)
        async with await entry:
            return await self._send(found, parcel, deadline)

    async def _send(self, provider: Provider, parcel: Parcel, deadline: float) -> Returned:
        for tries_left in reversed(range(_TRIES)):
            try:
                return await provider.upstream.relay(parcel, deadline)
            except ProviderFault as fault:
                if fault.cause is not Cause.UNREACHABLE or not tries_left:
                    raise Problem(RULES[fault.cause].code, retry_after=fault.retry_after) from None
                self._metrics.retried(provider.name, "passthrough", fault.cause.value)
        raise AssertionError("one of the tries is the last")


def _has(passages: Sequence[Passage], method: str, path: str) -> bool:
    return any(passage.has(method, path) for passage in passages)
