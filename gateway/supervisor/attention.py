"""Attention list of a gateway with several workers: the supervisor collects it, and announces what is new."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

from gateway.app import factories
from gateway.clock import Clock
from gateway.observability.logger_protocol import Logger
from gateway.outbound.connect_tunnel import Proxy
from gateway.outbound.webhook.allowlist import CallbackAllowlist
from gateway.outbound.webhook.egress_policy import EgressPolicy
from gateway.outbound.webhook.sender import WebhookSender
from gateway.runs.attention.items import AttentionConfig
from gateway.runs.attention.monitor import AttentionMonitor
from gateway.runs.attention.webhook import AttentionWebhook
from gateway.runs.callbacks.trial_delivery import CallbackTester
from gateway.settings import Settings
from gateway.supervisor.admin import collect_metrics
from gateway.supervisor.lazy_store import LazyStore
from gateway.supervisor.worker_pool import WorkerPool


@dataclass(frozen=True, slots=True)
class AttentionSnapshot:
    """A configuration, and the part of it that the list and its webhook use."""

    settings: Settings
    config: AttentionConfig
    allowlist: CallbackAllowlist
    proxy: Proxy | None

    @classmethod
    def build(cls, settings: Settings) -> Self:
        """Build it from the settings. Raises SettingsError."""
        allowlist = CallbackAllowlist(settings.callbacks.allow)
        return cls(settings, factories.attention_config(settings), allowlist, factories.callback_proxy(settings))


@dataclass(frozen=True, slots=True)
class SupervisorAttention:
    """The monitor of the supervisor, and what its webhook is sent through."""

    monitor: AttentionMonitor
    egress_policy: EgressPolicy
    sender: WebhookSender

    @classmethod
    def build(cls, settings: Settings, pool: WorkerPool, store: LazyStore, clock: Clock, log: Logger) -> Self:
        """Build the monitor. Raises SettingsError."""
        snapshot = AttentionSnapshot.build(settings)
        egress_policy = EgressPolicy(settings.callbacks.allow)
        sender = factories.webhook_sender(egress_policy, clock, snapshot.proxy)
        webhook = AttentionWebhook(store, sender, clock, log)
        monitor = AttentionMonitor(
            store,
            lambda: collect_metrics(pool),
            snapshot.config,
            webhook,
            clock,
            log,
            record_counts=pool.metrics.attention_found,
        )
        return cls(monitor, egress_policy, sender)

    def start(self, own_addresses: Collection[tuple[str, int]]) -> None:
        """Start; `own_addresses` (host, port) are refused as receivers."""
        self.egress_policy.set_own_addresses(own_addresses)
        self.monitor.start()

    def callback_tester(self, clock: Clock) -> CallbackTester:
        """Return what sends test messages to callback URLs."""
        return CallbackTester(self.egress_policy, self.sender, lambda: self.monitor.config.signing_keys, clock)

    def reconfigure(self, snapshot: AttentionSnapshot) -> None:
        """Apply another configuration."""
        self.egress_policy.reconfigure(snapshot.allowlist)
        self.sender.reconfigure(snapshot.proxy)
        self.monitor.reconfigure(snapshot.config)
