"""What is counted, by name: every client's account, workflow's gate and provider's lane."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.clock import Clock
from gateway.limits.client_limiter import ClientLimiter
from gateway.limits.contract import ClientLimitsConfig, OnDecision, SharedLimitsConfig
from gateway.limits.queue.provider_queue import ProviderQueue
from gateway.limits.shared_limiter import SharedLimiter


class LimiterRegistry:
    """As large as the configuration, whatever names requests hold (R90). What has no limits shares one open gate."""

    def __init__(
        self,
        clock: Clock,
        *,
        clients: Mapping[str, ClientLimitsConfig],
        workflows: Mapping[str, SharedLimitsConfig],
        providers: Mapping[str, SharedLimitsConfig],
        on_decision: OnDecision | None,
    ) -> None:
        self.monotonic = clock.monotonic
        self.on_decision = on_decision
        self._clock = clock
        self.client_limiters: dict[str, ClientLimiter] = {}
        self._workflow_limiters: dict[str, SharedLimiter] = {}
        self._provider_queues: dict[str, ProviderQueue] = {}
        self._unlimited_workflow = SharedLimiter("workflow", SharedLimitsConfig())
        self._unlimited_queue = self._make_queue(SharedLimitsConfig())
        self.reconfigure(clients=clients, workflows=workflows, providers=providers)

    def reconfigure(
        self,
        *,
        clients: Mapping[str, ClientLimitsConfig],
        workflows: Mapping[str, SharedLimitsConfig],
        providers: Mapping[str, SharedLimitsConfig],
    ) -> None:
        """Other limits. What stays keeps its state and who waits its place; what goes limits nobody any more."""
        now, clock = self.monotonic(), self._clock
        client_limiters, workflow_limiters, queues = (
            self.client_limiters,
            self._workflow_limiters,
            self._provider_queues,
        )
        limited = {name: limits for name, limits in clients.items() if limits != ClientLimitsConfig()}
        self.client_limiters = {
            name: client_limiters.get(name) or ClientLimiter(limits, clock) for name, limits in limited.items()
        }
        self._workflow_limiters = {
            name: workflow_limiters.get(name) or SharedLimiter("workflow", limits) for name, limits in workflows.items()
        }
        self._provider_queues = {
            name: queues.get(name) or self._make_queue(limits) for name, limits in providers.items()
        }
        for name, client_limiter in client_limiters.items():
            client_limiter.reconfigure(limited.get(name, ClientLimitsConfig()), now)
        for name, workflow_limiter in workflow_limiters.items():
            workflow_limiter.reconfigure(workflows.get(name, SharedLimitsConfig()), now)
        for name, queue in queues.items():  # last: whoever waits may go now
            queue.reconfigure(providers.get(name, SharedLimitsConfig()))

    def _make_queue(self, limits: SharedLimitsConfig) -> ProviderQueue:
        return ProviderQueue(limits, self._clock, self.on_decision)

    def workflow_limiter(self, name: str) -> SharedLimiter:
        """What the workflow may take."""
        return self._workflow_limiters.get(name, self._unlimited_workflow)

    def provider_queue(self, provider: str) -> ProviderQueue:
        """The way to the provider."""
        return self._provider_queues.get(provider, self._unlimited_queue)
