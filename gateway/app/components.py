"""Components of a gateway: every object below the HTTP handlers is built here once, with its dependencies."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from gateway.api.admin.live_feed import LiveFeed
from gateway.api.admin.overview import GatewayState
from gateway.api.promptlayer import result_formats
from gateway.app import access_factories, factories, tls
from gateway.app.listeners import TlsContexts
from gateway.app.reload import ReloadHook
from gateway.app.snapshot import ConfigSnapshot, build_snapshot
from gateway.app.tracing import create_tracer
from gateway.audit.recorder import AuditRecorder
from gateway.auth.failed_attempts import FailedAuthLimiter
from gateway.auth.oidc.verifier import TokenVerifier
from gateway.auth.stored_keys.directory import KeyDirectory
from gateway.auth.stored_keys.follower import KeyFollower
from gateway.byte_budget import ByteBudget
from gateway.clock import Clock
from gateway.http.access_log import AccessSampling
from gateway.http.authentication import Authenticator
from gateway.http.ops_authentication import OpsAuthenticator
from gateway.http.pipeline import InFlightLimiter
from gateway.http.problem_mapping import final_response
from gateway.limits.daily_usage import DailyUsageRecorder, DailyUsageStore
from gateway.limits.limiter import Limiter
from gateway.memory_limit import memory_limit
from gateway.observability import json_logging
from gateway.observability.level_control import LevelControl
from gateway.observability.logger_protocol import Logger
from gateway.observability.metrics import Metrics
from gateway.observability.metrics_history import MetricsHistory
from gateway.outbound.webhook.egress_policy import EgressPolicy
from gateway.outbound.webhook.sender import WebhookSender
from gateway.problems import Problem
from gateway.runs.attention.monitor import AttentionMonitor
from gateway.runs.attention.webhook import AttentionWebhook
from gateway.runs.budgets.keeper import BudgetKeeper
from gateway.runs.budgets.settlement import Settler
from gateway.runs.budgets.sweep import BudgetSweep
from gateway.runs.bulk_replays.runner import BulkReplayRunner
from gateway.runs.callbacks.dispatcher import CallbackDispatcher
from gateway.runs.catalog import Catalog
from gateway.runs.durable.activity import ActivityReporter
from gateway.runs.durable.background_limit import BackgroundLimit
from gateway.runs.durable.cancellation import RunCancellation
from gateway.runs.durable.recovery import Recovery
from gateway.runs.durable.runs import DurableRuns
from gateway.runs.executor import RunExecutor
from gateway.runs.history import HistoryRecorder
from gateway.runs.housekeeping_tasks import HousekeepingTasks
from gateway.runs.passthrough import Passthrough
from gateway.runs.polling import provider_hints
from gateway.runs.polling.provider_hints import ProviderHints
from gateway.runs.polling.schedule import PollSchedule
from gateway.runs.resilience.override_follower import OverrideFollower
from gateway.runs.resilience.registry import CircuitRegistry
from gateway.runs.run_reader import RunReader
from gateway.runs.run_replay import RunReplayer
from gateway.runs.workflow_attempt import ExecutionContext
from gateway.settings import Settings
from gateway.store import factory
from gateway.store.contract import Store
from gateway.store.encryption import EncryptedStore

_TOKEN_SECRET_BYTES = 32
_MEMORY_SHARE = 4  # the byte budget is a quarter of the memory limit; parsing needs several times an answer's size


@dataclass(frozen=True, slots=True)
class Components:
    """Objects that the HTTP handlers work with, and the TLS contexts of the ports."""

    settings: Settings
    snapshot: ConfigSnapshot
    clock: Clock
    log: Logger
    metrics: Metrics
    catalog: Catalog
    limiter: Limiter
    execution_context: ExecutionContext
    executor: RunExecutor
    store: EncryptedStore
    run_reader: RunReader
    egress_policy: EgressPolicy
    webhook_sender: WebhookSender
    callback_dispatcher: CallbackDispatcher
    durable_runs: DurableRuns
    cancellation: RunCancellation
    run_replayer: RunReplayer
    override_follower: OverrideFollower
    history: HistoryRecorder
    attention: AttentionMonitor
    gateway_state: GatewayState
    live_feed: LiveFeed
    background_tasks: HousekeepingTasks
    passthrough: Passthrough
    in_flight_limiter: InFlightLimiter
    authenticator: Authenticator
    token_verifier: TokenVerifier
    ops_authenticator: OpsAuthenticator
    audit: AuditRecorder
    public_tls: tls.ReloadableContext | None
    ops_tls: tls.ReloadableContext | None
    log_level: LevelControl
    access_sampling: AccessSampling

    async def open(self) -> None:
        """Open the store. Raises StoreUnavailable."""
        await self.store.open()
        await self.override_follower.refresh()  # before any start
        await self.background_tasks.key_follower.refresh()  # before any request
        self.metrics.track_store_durability(lambda: self.store.durability_warning)
        self.metrics.track_store_availability(lambda: self.store.failing)
        if isinstance(self.store.inner, DailyUsageStore):
            await self.limiter.record_usage(DailyUsageRecorder(self.store.inner, self.clock, self.log))
        public_url = self.settings.server.public_url
        if public_url:
            secret = await provider_hints.load_secret(self.store, self.clock)
            self.execution_context.poll_hints = ProviderHints(
                public_url, secret, self.store, clock=self.clock, metrics=self.metrics, log=self.log
            )

    @property
    def poll_hints(self) -> ProviderHints | None:
        """The poll hints, once open; None without `server.public_url`."""
        return self.execution_context.poll_hints

    async def token_secret(self) -> bytes:
        """Secret for signed tokens and ids, shared by all replicas on this store. Raises StoreUnavailable."""
        return await self.store.get_or_create_secret("faces", self.clock.token(_TOKEN_SECRET_BYTES))

    async def check_callback_url(self, url: str, client: str) -> None:
        """Raise Problem if callbacks cannot be signed, or if the egress policy refuses the URL of a client."""
        if not self.callback_dispatcher.signing_keys:
            raise Problem("callback_url_refused", "No secret is configured to sign callbacks with.")
        target = self.egress_policy.check(url)
        if self.webhook_sender.uses_proxy:
            await self.egress_policy.check_for_proxy(target, client)
        else:
            await self.egress_policy.resolve(target, client)

    async def start(self, own_addresses: Collection[tuple[str, int]], *, attends: bool = True) -> None:
        """Start limits and background tasks, once the ports are open at `own_addresses` (host, port).

        `attends`: this process announces what needs attention, and keeps the history of the metrics; of several workers
        the supervisor does both.
        """
        self.egress_policy.set_own_addresses(own_addresses)
        self.token_verifier.start()
        await self.limiter.open()
        await self.background_tasks.start()
        if attends:
            self.attention.start()
            self.gateway_state.history.start()

    async def close(self) -> None:
        """Stop background tasks and close every outbound connection."""
        self.log_level.close()
        await self.limiter.store_usage()  # before the store is closed
        await self.audit.close()
        await self.attention.close()
        await self.gateway_state.history.close()
        await self.background_tasks.close()
        await self.token_verifier.close()
        await self.limiter.close()
        for provider in self.catalog.providers:
            await provider.upstream.close()
        if self.execution_context.tracer is not None:
            await self.execution_context.tracer.close()

    @property
    def tls(self) -> TlsContexts:
        """TLS contexts of the ports; their certificates follow the configuration."""
        return TlsContexts(self.public_tls, self.ops_tls)

    def reload_hooks(self) -> list[ReloadHook]:
        """All hooks that apply a new snapshot; the reloader calls them in one step."""
        return [
            lambda new: self.authenticator.reconfigure(new.keys, new.clients, new.certificates),
            lambda new: self.token_verifier.reconfigure(new.tokens),
            lambda new: self.ops_authenticator.reconfigure(new.ops_keys, new.login),
            lambda new: tls.replace(self.public_tls, new.tls.public),
            lambda new: tls.replace(self.ops_tls, new.tls.ops),
            lambda new: self.catalog.reconfigure(new.workflows, new.providers),
            lambda new: self.limiter.reconfigure(new.limits),
            lambda new: self.execution_context.reconfigure(new.retry_policy, new.breaker_config),
            lambda new: self.execution_context.poll_schedule.reconfigure(*factories.polling_intervals(new.settings)),
            lambda new: self.background_tasks.budgets.keeper.reconfigure(new.budgets),
            lambda new: self.egress_policy.reconfigure(new.callback_allowlist),
            lambda new: self.webhook_sender.reconfigure(new.callback_proxy),
            lambda new: self.callback_dispatcher.reconfigure(new.signing_keys, new.settings.callbacks.schedule),
            lambda new: self.background_tasks.reconfigure(
                new.settings.store.retention, access_factories.audit_limits(new.settings)
            ),
            lambda new: self.run_replayer.reconfigure(new.settings.store.retention),
            lambda new: self.history.reconfigure(factories.history_config(new.settings)),
            lambda new: self.attention.reconfigure(new.attention),
            lambda new: self.gateway_state.reconfigure(new.settings),
            lambda _: self.live_feed.end_all(),  # a key may have been removed
            lambda new: self.passthrough.reconfigure(new.passthrough_rules, new.providers),
            lambda new: self.store.reconfigure(new.content_cipher),
            lambda new: self.log_level.reconfigure(new.settings.logs.level),
            lambda new: self.access_sampling.reconfigure(new.settings.logs.sample, new.settings.logs.slow),
        ]


def build_components(settings: Settings, clock: Clock, log: Logger) -> Components:
    """Build all components in a running event loop; opens nothing. Raises SettingsError."""
    metrics = Metrics()
    json_logging.count_dropped_lines(metrics.log_lines_dropped)
    snapshot = build_snapshot(settings, clock, metrics)
    metrics.config_loaded(clock.now())
    limiter = factories.limiter(settings, snapshot.limits, clock=clock, metrics=metrics, log=log)
    inner_store = factory.create_configured_store(settings.store, clock)
    store = EncryptedStore(inner_store, snapshot.content_cipher, log, metrics.content_unreadable)
    catalog = Catalog(snapshot.workflows, snapshot.providers)
    poll_schedule = PollSchedule(*factories.polling_intervals(settings))
    circuits = CircuitRegistry(snapshot.breaker_config, clock.monotonic, metrics)
    byte_budget = ByteBudget(settings.server.max_bytes_in_flight or memory_limit() // _MEMORY_SHARE)
    metrics.track_bytes_in_flight(lambda: byte_budget.held)
    execution_context = ExecutionContext(
        limiter,
        snapshot.retry_policy,
        poll_schedule,
        circuits,
        clock,
        metrics,
        byte_budget=byte_budget,
        tracer=create_tracer(settings, clock),
    )
    budgets = execution_context.budgets = BudgetKeeper(
        store.budgets, Settler(store.budgets, clock, log, metrics.settlement_dropped), clock, metrics, log
    )
    budgets.reconfigure(snapshot.budgets)
    executor = RunExecutor(execution_context)
    egress_policy = EgressPolicy(settings.callbacks.allow)
    webhook_sender = factories.webhook_sender(egress_policy, clock, snapshot.callback_proxy)
    history = HistoryRecorder(
        store,
        clock,
        log,
        metrics.history_dropped,
        factories.history_config(settings),
        metrics.history_content_dropped,
    )
    callback_dispatcher = CallbackDispatcher(
        store,
        webhook_sender,
        snapshot.signing_keys,
        settings.callbacks.schedule,
        clock,
        metrics,
        log,
        keep_timelines=history.keeps_timelines,
        byte_budget=byte_budget,
        tracer=execution_context.tracer,
    )
    durable_runs = _durable_runs(settings, executor, store, callback_dispatcher, history, clock=clock, log=log)
    recovery = Recovery(durable_runs, store, catalog, clock, log)
    cancellation = RunCancellation(durable_runs, store, catalog, clock, log)
    override_follower = OverrideFollower(store, circuits, clock, log)
    run_replayer = RunReplayer(durable_runs, catalog, clock, settings.store.retention)
    key_directory = KeyDirectory(clock)
    token_verifier = TokenVerifier(snapshot.tokens, clock, metrics, log)
    authenticator = _authenticator(snapshot, key_directory, token_verifier, clock, log)
    in_flight_limiter = InFlightLimiter(settings.server.max_in_flight)
    metrics.track_in_flight(lambda: in_flight_limiter.in_flight)
    attention = _attention(snapshot, store, metrics, webhook_sender, clock=clock, log=log)
    return Components(
        settings=settings,
        snapshot=snapshot,
        clock=clock,
        log=log,
        metrics=metrics,
        catalog=catalog,
        limiter=limiter,
        execution_context=execution_context,
        executor=executor,
        store=store,
        run_reader=RunReader(store, clock),
        egress_policy=egress_policy,
        webhook_sender=webhook_sender,
        callback_dispatcher=callback_dispatcher,
        durable_runs=durable_runs,
        cancellation=cancellation,
        run_replayer=run_replayer,
        override_follower=override_follower,
        history=history,
        attention=attention,
        gateway_state=GatewayState(
            settings,
            MetricsHistory(metrics.read, clock, log),
            lambda: in_flight_limiter.draining,
            clock.now().timestamp(),
        ),
        live_feed=LiveFeed(store, metrics.read, attention, clock, log),
        background_tasks=HousekeepingTasks(
            durable_runs,
            store,
            recovery,
            cancellation,
            callback_dispatcher,
            override_follower,
            KeyFollower(store, key_directory, lambda: authenticator.clients, clock, metrics, log),
            history,
            ActivityReporter(durable_runs, store, clock, log),
            BulkReplayRunner(store, run_replayer, authenticator.find_client, clock, log),
            BudgetSweep(budgets, store, clock, metrics, log),
            clock,
            log,
            settings.store.retention,
            access_factories.audit_limits(settings),
        ),
        passthrough=Passthrough(
            snapshot.passthrough_rules,
            snapshot.providers,
            limits=limiter,
            clock=clock,
            metrics=metrics,
            max_body=settings.server.max_passthrough,
        ),
        in_flight_limiter=in_flight_limiter,
        authenticator=authenticator,
        token_verifier=token_verifier,
        ops_authenticator=access_factories.ops_authenticator(settings, snapshot.ops_keys, store, clock, log),
        audit=access_factories.audit_recorder(store, clock, log, metrics),
        public_tls=tls.make_reloadable(snapshot.tls.public),
        ops_tls=tls.make_reloadable(snapshot.tls.ops),
        log_level=LevelControl(settings.logs.level, clock, log),
        access_sampling=AccessSampling(clock, settings.logs.sample, settings.logs.slow),
    )


def _attention(
    snapshot: ConfigSnapshot, store: Store, metrics: Metrics, sender: WebhookSender, *, clock: Clock, log: Logger
) -> AttentionMonitor:
    async def collect_metrics() -> Metrics:
        return metrics

    webhook = AttentionWebhook(store.announcements, sender, clock, log)
    return AttentionMonitor(
        store, collect_metrics, snapshot.attention, webhook, clock, log, record_counts=metrics.attention_found
    )


def _durable_runs(
    settings: Settings,
    executor: RunExecutor,
    store: Store,
    dispatcher: CallbackDispatcher,
    history: HistoryRecorder,
    *,
    clock: Clock,
    log: Logger,
) -> DurableRuns:
    return DurableRuns(
        executor,
        store,
        clock,
        log,
        owner="rep_" + clock.token(8).hex(),
        render_response=final_response,
        lease=settings.store.lease,
        background_limit=BackgroundLimit(settings.server.max_queued, settings.server.max_queued_per_workflow),
        first_delay=dispatcher.first_delay,
        callback_renderers={"promptlayer": result_formats.callback_payload},
        keep_timelines=history.keeps_timelines,
    )


def _authenticator(
    snapshot: ConfigSnapshot, stored_keys: KeyDirectory, tokens: TokenVerifier, clock: Clock, log: Logger
) -> Authenticator:
    return Authenticator(
        snapshot.keys,
        snapshot.clients,
        FailedAuthLimiter(clock),
        snapshot.settings.server.trusted_proxies,
        clock,
        log,
        snapshot.certificates,
        stored_keys,
        tokens,
    )
