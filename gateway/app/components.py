"""The rooms beneath the faces: every object is built here, once, and handed what it needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from gateway.api.promptlayer import results
from gateway.app import factories
from gateway.app.reload import ReloadHook
from gateway.app.snapshot import ConfigSnapshot, build_snapshot
from gateway.clock import Clock
from gateway.limits.limiter import Limiter
from gateway.observability import logs
from gateway.observability.metrics import Metrics
from gateway.outbound.webhook.egress_policy import EgressPolicy
from gateway.problems import Problem
from gateway.runs.attempt import ExecutionContext
from gateway.runs.background import BackgroundTasks
from gateway.runs.callbacks.dispatcher import CallbackDispatcher
from gateway.runs.catalog import Catalog
from gateway.runs.durable.background_limit import BackgroundLimit
from gateway.runs.durable.recovery import Recovery
from gateway.runs.durable.runs import DurableRuns
from gateway.runs.executor import RunExecutor
from gateway.runs.passthrough import Passthrough
from gateway.runs.polling.hints import PollHints
from gateway.runs.polling.schedule import PollSchedule
from gateway.runs.resilience.registry import CircuitRegistry
from gateway.settings import Settings
from gateway.store import factory
from gateway.store.contract import Store

_TOKEN_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Components:
    """What the faces work with. `ports` are the process's own, once they are open."""

    settings: Settings
    snapshot: ConfigSnapshot
    clock: Clock
    log: FilteringBoundLogger
    metrics: Metrics
    catalog: Catalog
    limiter: Limiter
    execution_context: ExecutionContext
    executor: RunExecutor
    store: Store
    poll_hints: PollHints | None
    egress_policy: EgressPolicy
    callback_dispatcher: CallbackDispatcher
    durable_runs: DurableRuns
    background_tasks: BackgroundTasks
    passthrough: Passthrough
    own_addresses: list[tuple[str, int]] = field(default_factory=list)

    async def open(self) -> None:
        """Open what outlives the process. Raises StoreUnavailable."""
        await self.store.open()
        self.metrics.track_store_durability(lambda: self.store.durability_warning)
        if self.poll_hints is not None:
            await self.poll_hints.load_secret()

    async def token_secret(self) -> bytes:
        """Read what the faces seal with: the same for every replica on this store. Raises StoreUnavailable."""
        return await self.store.get_or_create_secret("faces", self.clock.token(_TOKEN_SECRET_BYTES))

    async def check_callback_url(self, url: str) -> None:
        """Raise Problem where a callback could not be signed, or must not go to this URL."""
        if not self.callback_dispatcher.signing_keys:
            raise Problem("callback_url_refused", "No secret is configured to sign callbacks with.")
        await self.egress_policy.resolve(self.egress_policy.check(url))

    def reload_hooks(self) -> list[ReloadHook]:
        """Say what knows a part of the configuration, and how it learns another one."""
        return [
            lambda new: self.catalog.reconfigure(new.workflows, new.providers),
            lambda new: self.limiter.reconfigure(new.limits),
            lambda new: self.execution_context.reconfigure(new.retry_policy, new.breaker_config),
            lambda new: self.execution_context.poll_schedule.reconfigure(*factories.polling_intervals(new.settings)),
            lambda new: self.egress_policy.reconfigure(new.callback_allowlist),
            lambda new: self.callback_dispatcher.reconfigure(new.signing_keys, new.settings.callbacks.schedule),
            lambda new: self.background_tasks.reconfigure(new.settings.store.retention),
            lambda new: self.passthrough.reconfigure(new.passthrough_rules, new.providers),
            lambda new: logs.set_level(new.settings.logs.level),
        ]


def build_components(settings: Settings, clock: Clock, log: FilteringBoundLogger) -> Components:
    """Build everything, in a running loop, and open nothing. Raises SettingsError where something can not be built."""
    metrics = Metrics()
    snapshot = build_snapshot(settings, clock, metrics)
    metrics.config_loaded(clock.now())
    limiter = factories.limiter(settings, snapshot.limits, clock=clock, metrics=metrics, log=log)
    store = factory.create_store(settings.store.url, clock, settings.store.password)
    catalog = Catalog(snapshot.workflows, snapshot.providers)
    public_url = settings.server.public_url
    poll_hints = PollHints(public_url, store, clock=clock, metrics=metrics, log=log) if public_url else None
    poll_schedule = PollSchedule(*factories.polling_intervals(settings))
    circuits = CircuitRegistry(snapshot.breaker_config, clock.monotonic, metrics)
    execution_context = ExecutionContext(
        limiter, snapshot.retry_policy, poll_schedule, circuits, clock, metrics, poll_hints
    )
    executor = RunExecutor(execution_context)
    own_addresses: list[tuple[str, int]] = []
    egress_policy = EgressPolicy(settings.callbacks.allow, own_addresses=lambda: own_addresses)
    webhook_sender = factories.webhook_sender(egress_policy, clock)
    callback_dispatcher = CallbackDispatcher(
        store, webhook_sender, snapshot.signing_keys, settings.callbacks.schedule, clock, metrics, log
    )
    durable_runs = DurableRuns(
        executor,
        store,
        clock,
        log,
        owner="rep_" + clock.token(8).hex(),
        lease=settings.store.lease,
        background_limit=BackgroundLimit(settings.server.max_queued, settings.server.max_queued_per_workflow),
        first_delay=callback_dispatcher.first_delay,
        callback_renderers={"promptlayer": results.callback_payload},
    )
    recovery = Recovery(durable_runs, store, catalog, clock, log)
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
        poll_hints=poll_hints,
        egress_policy=egress_policy,
        callback_dispatcher=callback_dispatcher,
        durable_runs=durable_runs,
        background_tasks=BackgroundTasks(
            durable_runs, store, recovery, callback_dispatcher, clock, log, settings.store.retention
        ),
        passthrough=Passthrough(
            snapshot.passthrough_rules, snapshot.providers, limits=limiter, clock=clock, metrics=metrics
        ),
        own_addresses=own_addresses,
    )
