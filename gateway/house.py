"""The rooms beneath the faces: every object is built here, once, and handed what it needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from gateway import configured, logs
from gateway.access.limits import Limits
from gateway.api.promptlayer import results
from gateway.clock import Clock
from gateway.metrics import Metrics
from gateway.plan import Plan, draw
from gateway.problems import Problem
from gateway.reload import Swap
from gateway.runs.backlog import Backlog
from gateway.runs.callbacks import Callbacks
from gateway.runs.catalog import Catalog
from gateway.runs.desk import Desk
from gateway.runs.engine import Engine
from gateway.runs.guards import Guards
from gateway.runs.hints import Hints
from gateway.runs.leg import Means
from gateway.runs.office import BackOffice
from gateway.runs.passthrough import Passthrough
from gateway.runs.polling import Schedule
from gateway.runs.recovery import Recovery
from gateway.settings import Settings
from gateway.store import by_url
from gateway.store.contract import Store
from gateway.upstream.egress import Egress

_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class House:
    """What the faces work with. `ports` are the process's own, once they are open."""

    settings: Settings
    plan: Plan
    clock: Clock
    log: FilteringBoundLogger
    metrics: Metrics
    catalog: Catalog
    limits: Limits
    means: Means
    engine: Engine
    store: Store
    hints: Hints | None
    egress: Egress
    callbacks: Callbacks
    desk: Desk
    office: BackOffice
    passthrough: Passthrough
    ports: list[tuple[str, int]] = field(default_factory=list)

    async def open(self) -> None:
        """Open what outlives the process. Raises StoreUnavailable."""
        await self.store.open()
        self.metrics.store_weakness(lambda: self.store.weakness)
        if self.hints is not None:
            await self.hints.open()

    async def secret(self) -> bytes:
        """Read what the faces seal with: the same for every replica on this store. Raises StoreUnavailable."""
        return await self.store.secret("faces", self.clock.token(_SECRET_BYTES))

    async def check_callback(self, url: str) -> None:
        """Raise Problem where a callback could not be signed, or must not go to this URL."""
        if not self.callbacks.keys:
            raise Problem("callback_url_refused", "No secret is configured to sign callbacks with.")
        await self.egress.resolve(self.egress.check(url))

    def swaps(self) -> list[Swap]:
        """Say what knows a part of the configuration, and how it learns another one."""
        return [
            lambda new: self.catalog.reconfigure(new.workflows, new.providers),
            lambda new: self.limits.reconfigure(
                clients=new.client_limits, workflows=new.workflow_limits, providers=new.provider_limits
            ),
            lambda new: self.means.reconfigure(new.policy, new.tolerance),
            lambda new: self.means.schedule.reconfigure(*configured.polling(new.settings)),
            lambda new: self.egress.reconfigure(new.allowance),
            lambda new: self.callbacks.reconfigure(new.signing_keys, new.settings.callbacks.schedule),
            lambda new: self.office.reconfigure(new.settings.store.retention),
            lambda new: self.passthrough.reconfigure(new.passages, new.providers),
            lambda new: logs.set_level(new.settings.logs.level),
        ]


def build(settings: Settings, clock: Clock, log: FilteringBoundLogger) -> House:
    """Build everything, in a running loop, and open nothing. Raises SettingsError where something can not be built."""
    metrics = Metrics()
    plan = draw(settings, clock, metrics)
    metrics.configured(clock.now())
    limits = configured.limiter(
        settings,
        clients=plan.client_limits,
        workflows=plan.workflow_limits,
        providers=plan.provider_limits,
        clock=clock,
        metrics=metrics,
        log=log,
    )
    store = by_url.store(settings.store.url, clock, settings.store.password)
    catalog = Catalog(plan.workflows, plan.providers)
    url = settings.server.public_url
    hints = Hints(url, store, clock=clock, metrics=metrics, log=log) if url else None
    schedule = Schedule(*configured.polling(settings))
    guards = Guards(plan.tolerance, clock.monotonic, metrics)
    means = Means(limits, plan.policy, schedule, guards, clock, metrics, hints)
    engine = Engine(means)
    ports: list[tuple[str, int]] = []
    egress = Egress(settings.callbacks.allow, own=lambda: ports)
    courier = configured.courier(egress, clock)
    callbacks = Callbacks(store, courier, plan.signing_keys, settings.callbacks.schedule, clock, metrics, log)
    desk = Desk(
        engine,
        store,
        clock,
        log,
        owner="rep_" + clock.token(8).hex(),
        lease=settings.store.lease,
        backlog=Backlog(settings.server.max_queued, settings.server.max_queued_per_workflow),
        first_delay=callbacks.first_delay,
        payloads={"promptlayer": results.payload},
    )
    recovery = Recovery(desk, store, catalog, clock, log)
    return House(
        settings=settings,
        plan=plan,
        clock=clock,
        log=log,
        metrics=metrics,
        catalog=catalog,
        limits=limits,
        means=means,
        engine=engine,
        store=store,
        hints=hints,
        egress=egress,
        callbacks=callbacks,
        desk=desk,
        office=BackOffice(desk, store, recovery, callbacks, clock, log, settings.store.retention),
        passthrough=Passthrough(plan.passages, plan.providers, limits=limits, clock=clock, metrics=metrics),
        ports=ports,
    )
