"""Routes of the operations port for runs, callbacks and providers: the same for one process and for several workers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.api.admin.attention import AttentionHandlers
from gateway.api.admin.audit import AuditHandlers
from gateway.api.admin.budgets import BudgetHandlers
from gateway.api.admin.callback_delivery import CallbackDeliveryHandlers
from gateway.api.admin.callbacks import CallbackAdminHandlers, CallbackStore
from gateway.api.admin.cancellation import CancellationHandlers
from gateway.api.admin.configuration import ConfigurationHandlers
from gateway.api.admin.configured import ConfiguredHandlers
from gateway.api.admin.judgement import JudgementHandlers, JudgementStore
from gateway.api.admin.keys import KeyAdminHandlers, KeyStore
from gateway.api.admin.live_feed import LiveFeed
from gateway.api.admin.live_stream import LiveStreamHandlers
from gateway.api.admin.oidc_login import OidcLoginHandlers
from gateway.api.admin.operator_run import OperatorRunHandlers
from gateway.api.admin.overview import GatewayState, OverviewHandlers
from gateway.api.admin.providers import ProviderAdminHandlers
from gateway.api.admin.replays import ReplayAdminHandlers, ReplayStore
from gateway.api.admin.runs import RunAdminHandlers, RunStore
from gateway.api.admin.session import SessionHandlers
from gateway.api.admin.usage import UsageAdminHandlers
from gateway.api.console.files import ConsoleFiles
from gateway.api.operator_cancellations import RunCanceller
from gateway.api.operator_runs import OperatorRunStarter
from gateway.clock import Clock
from gateway.http.ops_authentication import OpsAuthenticator
from gateway.http.request import Route
from gateway.observability.logger_protocol import Logger
from gateway.runs.attention.monitor import AttentionMonitor
from gateway.runs.callbacks.trial_delivery import CallbackTester
from gateway.store.audit import KeepsAudit
from gateway.store.usage import KeepsUsage


class AdminStore(CallbackStore, JudgementStore, KeepsAudit, KeepsUsage, KeyStore, ReplayStore, RunStore, Protocol):
    """The part of `Store` that the operations port needs."""


def admin_routes(
    store: AdminStore,
    clock: Clock,
    log: Logger,
    providers: ProviderAdminHandlers,
    attention: AttentionMonitor,
    *,
    authenticator: OpsAuthenticator,
    state: GatewayState,
    feed: LiveFeed,
    apply_keys: Callable[[], Awaitable[None]] | None = None,
    run_starter: OperatorRunStarter,
    run_canceller: RunCanceller,
    callback_tester: CallbackTester,
) -> list[Route]:
    """Return the routes, without those for health, metrics and documentation.

    One that changes something has an `action`, by which `AuditTrail` records it. `apply_keys`: reads changed keys where
    this process uses them.
    """
    return [
        *RunAdminHandlers(store, clock).routes(),
        *ReplayAdminHandlers(store, state, clock, log).routes(),
        *JudgementHandlers(store, clock, log).routes(),
        *CancellationHandlers(run_canceller, log).routes(),
        *AttentionHandlers(attention).routes(),
        *AuditHandlers(store).routes(),
        *CallbackAdminHandlers(store, clock, log).routes(),
        *CallbackDeliveryHandlers(store, callback_tester, clock, log).routes(),
        *OperatorRunHandlers(run_starter, lambda: state.settings, log).routes(),
        *UsageAdminHandlers(store.usage, clock, lambda: state.settings.usage.currency).routes(),
        *providers.routes(),
        *KeyAdminHandlers(store, lambda: state.settings, clock, log, apply_keys).routes(),
        *OverviewHandlers(state, clock).routes(),
        *ConfigurationHandlers(state).routes(),
        *ConfiguredHandlers(state, providers).routes(),
        *BudgetHandlers(store, state, clock).routes(),
        *LiveStreamHandlers(feed, clock).routes(),
        *SessionHandlers(authenticator, log).routes(),
        *OidcLoginHandlers(authenticator, log).routes(),
        *ConsoleFiles.load().routes(),
    ]
