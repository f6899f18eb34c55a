"""Passthrough: a client's requests to other endpoints of a provider, forwarded unchanged.

Such a request is sent once, and again only if no connection was possible. It counts in the limits of the client and of
the provider as a run does, and never in a circuit breaker. Requests that start runs are not forwarded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeAlias

from gateway.clock import Clock
from gateway.errors import PassthroughForbidden, ProviderError
from gateway.limits.config import KeyLimits
from gateway.limits.limiter import Limiter
from gateway.observability.metrics import Metrics
from gateway.outbound.provider.passthrough_request import PassthroughRequest, PassthroughResponse
from gateway.passthrough_rules import PassthroughRule
from gateway.runs.catalog import Provider
from gateway.runs.resilience.retry import RETRY_RULES
from providers.contract import Cause, ProviderFault

_TIMEOUT = 60.0  # seconds, in total; for a stream, until its head
_MAX_ATTEMPTS = 2
DEFAULT_MAX_BODY = 20_000_000
"""Default maximum size of the body of a request, and of a response, in bytes."""

AllowedPassthrough: TypeAlias = Mapping[str, Mapping[str, Sequence[PassthroughRule]]]
"""Passthrough rules by client and provider."""


class Passthrough:
    """Forwards the requests that the rules allow."""

    def __init__(
        self,
        allowed: AllowedPassthrough,
        providers: Mapping[str, Provider],
        *,
        limits: Limiter,
        clock: Clock,
        metrics: Metrics,
        max_body: int = DEFAULT_MAX_BODY,
    ) -> None:
        """`max_body`: the maximum size of a request's body, and of a response's, in bytes."""
        self.max_body = max_body
        self._limits, self._clock, self._metrics = limits, clock, metrics
        self.reconfigure(allowed, providers)

    def reconfigure(self, allowed: AllowedPassthrough, providers: Mapping[str, Provider]) -> None:
        """Use other rules for subsequent requests."""
        self._allowed, self._providers = allowed, providers
        self._starts = tuple(dict.fromkeys(start for each in providers.values() for start in each.starts or ()))

    def find_provider(self, client: str, method: str, path: str) -> str | None:
        """Return the provider that the request is passed to, or None. `path` is normalized (`normalize_path`)."""
        return next(
            (name for name in self._allowed.get(client, {}) if self._is_allowed(client, name, method, path)), None
        )

    def allows(self, method: str, path: str) -> bool:
        """Return True if any client may send the request."""
        return any(self.find_provider(client, method, path) is not None for client in self._allowed)

    def starts_run(self, method: str, path: str) -> bool:
        """Return True if the request starts a run at any configured provider."""
        return any(start.matches(method, path) for start in self._starts)

    def _is_allowed(self, client: str, provider: str, method: str, path: str) -> bool:
        """Return True if the request is listed and starts no run, neither at its provider nor at another.

        An address may lead to a server that serves the APIs of several providers. Nothing is passed to a provider whose
        adapter does not declare which requests start runs.
        """
        target = self._providers.get(provider)
        listed = any(rule.matches(method, path) for rule in self._allowed[client][provider])
        return listed and not (target is not None and target.starts is None) and not self.starts_run(method, path)

    @asynccontextmanager
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
        coding: str = "",
        accepts_gzip: bool = False,
        key_limits: KeyLimits | None = None,
    ) -> AsyncIterator[PassthroughResponse]:
        """Forward a request; the response is valid within the context, in which the request counts in the limits.

        `client_connected`: False once the client has disconnected; `key_limits`: of the client's key, if it has limits
        of its own; see `PassthroughRequest` for the others. Raises GatewayError as `Limiter.admit`; ProviderError
        without a complete response; PassthroughForbidden if the provider was removed; InvalidRequest if the client's
        key stands where it cannot be replaced. In the context, reading a stream may raise ProviderFault.
        """
        target = self._providers.get(provider)
        if target is None:  # removed by a reload
            raise PassthroughForbidden("This request is no longer in the allow-list for passthrough.")
        request = PassthroughRequest(method, path, query, headers, body, client_key, coding, accepts_gzip)
        deadline = self._clock.monotonic() + _TIMEOUT
        admission = self._limits.admit(
            client,
            f"{provider}/*",
            provider,
            deadline=deadline,
            still_wanted=client_connected,
            key_limits=key_limits,
        )
        async with await admission, AsyncExitStack() as opened:
            yield await self._open(opened, target, request, deadline)

    async def _open(
        self, opened: AsyncExitStack, provider: Provider, request: PassthroughRequest, deadline: float
    ) -> PassthroughResponse:
        """Send the request; the response belongs to `opened`."""
        for attempts_left in reversed(range(_MAX_ATTEMPTS)):
            sending = provider.upstream.send_passthrough(request, deadline, max_body=self.max_body)
            try:
                return await opened.enter_async_context(sending)
            except ProviderFault as fault:
                if fault.cause is not Cause.UNREACHABLE or not attempts_left:
                    rule = RETRY_RULES[fault.cause]
                    raise ProviderError(rule.code, ending=rule.ending, retry_after=fault.retry_after) from None
                self._metrics.call_retried(provider.name, "passthrough", fault.cause.value)
        raise AssertionError("one of the tries is the last")
