"""Registry of the limiters of all clients and workflows, and of the wait queues of all providers, by name."""

from __future__ import annotations

from gateway.clock import Clock
from gateway.limits.client_limiter import ClientLimiter
from gateway.limits.config import ClientLimitsConfig, LimitsConfig, OnDecision, ResourceLimitsConfig
from gateway.limits.counters import Counters
from gateway.limits.daily_usage import DailyUsageRecorder
from gateway.limits.queue.provider_queue import ProviderQueue
from gateway.limits.resource_limiter import ResourceLimiter


class LimiterRegistry:
    """Limiters by name, as many as the configuration has. Names without limits share one unlimited limiter."""

    def __init__(self, clock: Clock, config: LimitsConfig, counters: Counters, on_decision: OnDecision | None) -> None:
        self.monotonic = clock.monotonic
        self.counters = counters
        self.on_decision = on_decision
        self._clock = clock
        self._config = config
        self.clients: dict[str, ClientLimiter] = {}
        self.workflows: dict[str, ResourceLimiter] = {}
        self.queues: dict[str, ProviderQueue] = {}
        self.usage_recorder: DailyUsageRecorder | None = None
        self._unlimited_workflow = ResourceLimiter("workflow")
        self._unlimited_queue = self._new_queue(ResourceLimitsConfig())
        self._apply()
        counters.on_change = self._apply

    def reconfigure(self, config: LimitsConfig) -> None:
        """Apply other limits. Limiters that remain keep usage and waiting requests; removed ones stop limiting."""
        self._config = config
        self._apply()

    def record_usage(self, recorder: DailyUsageRecorder) -> None:
        """Restore the usage of daily quotas, and record it from now on."""
        self.usage_recorder = recorder
        self._bind_quotas(recorder)

    def client(self, name: str) -> ClientLimiter | None:
        """Return the limiter of a client; None if it has no limits."""
        return self.clients.get(name)

    def workflow(self, name: str) -> ResourceLimiter:
        """Return the limiter of a workflow."""
        return self.workflows.get(name, self._unlimited_workflow)

    def queue(self, provider: str) -> ProviderQueue:
        """Return the wait queue of a provider."""
        return self.queues.get(provider, self._unlimited_queue)

    def _apply(self) -> None:
        """Apply the part of the configuration that holds for this process now."""
        config, clock, now = self.counters.effective_config(self._config), self._clock, self.monotonic()
        clients, workflows, queues = self.clients, self.workflows, self.queues
        limited = {name: limits for name, limits in config.clients.items() if limits != ClientLimitsConfig()}
        self.clients = {name: clients.get(name) or ClientLimiter(limits, clock) for name, limits in limited.items()}
        self.workflows = {
            name: workflows.get(name) or ResourceLimiter("workflow", limits)
            for name, limits in config.workflows.items()
        }
        self.queues = {name: queues.get(name) or self._new_queue(limits) for name, limits in config.providers.items()}
        for name, client in clients.items():
            client.reconfigure(limited.get(name, ClientLimitsConfig()), now)
        for name, workflow in workflows.items():
            workflow.reconfigure(config.workflows.get(name, ResourceLimitsConfig()), now)
        for name, queue in queues.items():
            queue.limiter.reconfigure(config.providers.get(name, ResourceLimitsConfig()), now)
        if self.usage_recorder is not None:
            self._bind_quotas(self.usage_recorder)
        self._register_limiters()
        for queue in queues.values():  # the new limits may admit waiting requests
            queue.dispatch_if_waiting()

    def _bind_quotas(self, recorder: DailyUsageRecorder) -> None:
        quotas = {name: client.daily_quota for name, client in self.clients.items()}
        recorder.bind({name: quota for name, quota in quotas.items() if quota is not None})

    def _register_limiters(self) -> None:
        limiters: dict[str, ClientLimiter | ResourceLimiter] = {
            "workflow:": self._unlimited_workflow,
            "provider:": self._unlimited_queue.limiter,
        }
        limiters |= {f"client:{name}": client for name, client in self.clients.items()}
        limiters |= {f"workflow:{name}": workflow for name, workflow in self.workflows.items()}
        limiters |= {f"provider:{name}": queue.limiter for name, queue in self.queues.items()}
        self.counters.register(limiters)

    def _new_queue(self, limits: ResourceLimitsConfig) -> ProviderQueue:
        return ProviderQueue(limits, self._clock, self.counters, self.on_decision)
