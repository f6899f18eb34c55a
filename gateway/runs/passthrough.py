"""What a client may use of a provider's API beside its workflows: requests that are passed on as they are.

Nothing is known about such a request, so it is sent once, unless no connection was possible; it takes its place in the
provider's and the client's limits as a run does, and says nothing about a workflow's circuit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from gateway.clock import Clock
from gateway.errors import RunError
from gateway.limits.limiter import Limiter
from gateway.observability.metrics import Metrics
from gateway.outbound.provider.passthrough import PassthroughRequest, PassthroughResponse
from gateway.passthrough_rules import PassthroughRule, path_starts_run
from gateway.problems import Problem, problem_from_error
from gateway.runs.catalog import Provider
from gateway.runs.resilience.retry import RETRY_RULES
from providers.contract import Cause, ProviderFault

_TIMEOUT = 60.0  # seconds for everything
_MAX_ATTEMPTS = 2

AllowedPassthrough: TypeAlias = Mapping[str, Mapping[str, Sequence[PassthroughRule]]]
"""By client and provider, what may be passed through."""


class Passthrough:
    """Passes on what is `allowed`."""

    def __init__(
        self,
        allowed: AllowedPassthrough,
        providers: Mapping[str, Provider],
        *,
        limits: Limiter,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._limits, self._clock, self._metrics = limits, clock, metrics
        self.reconfigure(allowed, providers)

    def reconfigure(self, allowed: AllowedPassthrough, providers: Mapping[str, Provider]) -> None:
        """Let other requests through from now on."""
        self._allowed, self._providers = allowed, providers
        rule_lists = (passages for of_client in allowed.values() for passages in of_client.values())
        self._all_rules = tuple({passage for passages in rule_lists for passage in passages})

    def find_provider(self, client: str, method: str, path: str) -> str | None:
        """The provider that may be sent this, or None. `path` is as `passages.normal` has it."""
        if path_starts_run(path):
            return None
        rules_by_provider = self._allowed.get(client, {})
        return next(
            (name for name, passages in rules_by_provider.items() if _matches_any(passages, method, path)), None
        )

    def allows(self, method: str, path: str) -> bool:
        """Whether any client may send this."""
        return not path_starts_run(path) and _matches_any(self._all_rules, method, path)

    async def forward(
        self,
        client: str,
        provider: str,
        *,
        client_connected: Callable[[], bool],
        method: str,
        path: str,
        query: str,
        headers: tuple[tuple[str, str], ...],
        body: bytes,
        client_key: str,
    ) -> PassthroughResponse:
        """Send a request, and wait for the answer. `wanted` tells whether somebody waits for it; see `Parcel`.

        Raises Problem: as `Limits.admit`, where the provider can not be asked or gives no whole answer, and where the
        client's key stands where it can not be replaced.
        """
        target = self._providers.get(provider)
        if target is None:  # since its path was looked up
            raise Problem("forbidden", "This is not passed through any more.")
        request = PassthroughRequest(method, path, query, headers, body, client_key)
        deadline = self._clock.monotonic() + _TIMEOUT
        admission = self._limits.admit(
            client, f"{provider}/*", provider, deadline=deadline, still_wanted=client_connected
        )
        try:
            held = await admission
        except RunError as error:
            raise problem_from_error(error) from None
        async with held:
            return await self._send(target, request, deadline)

    async def _send(self, provider: Provider, request: PassthroughRequest, deadline: float) -> PassthroughResponse:
        for attempts_left in reversed(range(_MAX_ATTEMPTS)):
            try:
                return await provider.upstream.send_passthrough(request, deadline)
            except ProviderFault as fault:
                if fault.cause is not Cause.UNREACHABLE or not attempts_left:
                    raise Problem(RETRY_RULES[fault.cause].code, retry_after=fault.retry_after) from None
                self._metrics.call_retried(provider.name, "passthrough", fault.cause.value)
        raise AssertionError("one of the tries is the last")


def _matches_any(rules: Sequence[PassthroughRule], method: str, path: str) -> bool:
    return any(passage.matches(method, path) for passage in rules)
