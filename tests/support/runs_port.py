"""Operations ports in this process, each on a memory store that a test fills."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from structlog.testing import LogCapture

from gateway.api.admin.live_feed import LiveFeed
from gateway.api.admin.providers import ProviderAdminHandlers
from gateway.api.admin.routes import admin_routes
from gateway.api.docs.page import DocsHandlers
from gateway.app import access_factories
from gateway.app.components import build_components
from gateway.app.listeners import Listener
from gateway.app.routes import ops_server
from gateway.observability.level_control import LevelControl
from gateway.observability.metrics import Metrics
from gateway.settings import Settings
from gateway.store.history import HistoryEntry
from gateway.store.memory.store import MemoryStore
from gateway.store.records import FinalState, IdempotencyKey, Phase, StoredRun
from gateway.supervisor.accepting.turns import AcceptCounts
from gateway.supervisor.admin import SupervisorAdmin, collect_metrics, gateway_state
from gateway.supervisor.attention import SupervisorAttention
from gateway.supervisor.lazy_store import LazyStore
from gateway.supervisor.stop_abilities import StopAbilities
from gateway.supervisor.worker_handle import WorkerLauncher
from gateway.supervisor.worker_pool import WorkerPool
from gateway.supervisor.worker_runs import WorkerRunCanceller, WorkerRunStarter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from gateway.clock import Clock
    from gateway.http.server import Server
    from gateway.observability.logger_protocol import Logger

OWNER = "owner-of-tests"


def run_id(number: int) -> str:
    """Return the id of the run with this number."""
    return f"run_{number:032x}"


@dataclass
class RunsPort:
    """A port, and the store whose runs it serves."""

    url: str
    store: MemoryStore
    clock: Clock

    async def start(
        self,
        number: int,
        *,
        tags: Sequence[str] = (),
        key: str | None = None,
        details: dict[str, Any] | None = None,
        ago: float = 0.0,
        **changes: Any,
    ) -> str:
        """Store a durable run that was created `ago` seconds ago; returns its id."""
        run = replace(self._run(number, ago, details), **changes)
        await self.store.create_run(run, None if key is None else IdempotencyKey(run.client, key, b"\0" * 32), tags)
        return run.id

    async def end(self, number: int, status: str = "succeeded", events: bytes = b"", **details: Any) -> None:
        """End a durable run now."""
        state = FinalState(OWNER, status, b'{"output":"SECRET"}', self.clock.now().timestamp(), 1, "98765")
        state.details, state.events = orjson.dumps({"metadata": {}, "duration_ms": 5, **details}), events
        assert await self.store.finish(run_id(number), state)

    async def record(
        self,
        number: int,
        *,
        tags: Sequence[str] = (),
        details: dict[str, Any] | None = None,
        timeline: bytes = b"",
        ago: float = 0.0,
        **changes: Any,
    ) -> str:
        """Record a run that was not durable and has ended now; returns its id."""
        ended = {"phase": Phase.DONE, "status": "succeeded", "durable": False, "order": b"", "owner": ""}
        fields = {**ended, "finished_at": self.clock.now().timestamp(), **changes}
        run = replace(self._run(number, ago, details), **fields)
        await self.store.add_history([HistoryEntry(run, tuple(tags), timeline)])
        return run.id

    async def act(self, number: int, **activity: Any) -> None:
        """Set the activity of a durable run."""
        await self.store.set_activities(OWNER, [(run_id(number), orjson.dumps(activity))])

    def _run(self, number: int, ago: float, details: dict[str, Any] | None) -> StoredRun:
        created_at = self.clock.now().timestamp() - ago
        return StoredRun(
            id=run_id(number),
            client="checkout",
            workflow="triage",
            provider="studio",
            order=b'{"input":{"secret":"SECRET"}}',
            created_at=created_at,
            deadline_at=created_at + 120,
            owner=OWNER,
            leased_until_at=created_at + 1e6,
            details=orjson.dumps({"metadata": {}, "api": "run", **(details or {})}),
        )


@asynccontextmanager
async def runs_port(
    clock: Clock, *, supervised: bool = False, config: dict[str, Any] | None = None
) -> AsyncIterator[RunsPort]:
    """Serve the operations port of a gateway of one process, or that of a supervisor without workers."""
    settings = Settings.model_validate({"store": {"url": "memory://"}, **(config or {})})
    if supervised:
        store = MemoryStore(clock)
        server = _supervisor_server(settings, clock, LazyStore(store))
    else:
        components = build_components(settings, clock, _silent_logger())
        assert isinstance(components.store.inner, MemoryStore)
        store, server = components.store.inner, ops_server(components, DocsHandlers.load())
    await store.open()
    listener = await Listener.open(server, "127.0.0.1", 0)
    try:
        yield RunsPort(listener.url, store, clock)
    finally:
        await listener.close()


def _silent_logger() -> Logger:
    """Return a logger without output: a command in this process writes to the same streams."""
    logger: Logger = structlog.wrap_logger(None, processors=[LogCapture()])
    return logger


def _supervisor_server(settings: Settings, clock: Clock, store: LazyStore) -> Server:
    log = _silent_logger()
    with AcceptCounts.create(1) as counts:
        launcher = WorkerLauncher(["true"], (), counts, ("127.0.0.1", 1), "memory://")
        level = LevelControl("info", clock, log)
        pool = WorkerPool(1, launcher.launch, counts, Metrics(), clock, log, level)
    providers = ProviderAdminHandlers(
        store, lambda: StopAbilities(settings).by_provider, lambda: collect_metrics(pool), clock, log
    )
    attention = SupervisorAttention.build(settings, pool, store, clock, log)
    state = gateway_state(settings, pool)
    feed = LiveFeed(store, pool.latest_metrics, attention.monitor, clock, log)
    authenticator = access_factories.ops_authenticator(settings, access_factories.ops_keys(settings), store, clock, log)
    admin = SupervisorAdmin(
        pool,
        admin_routes(
            store,
            clock,
            log,
            providers,
            attention.monitor,
            authenticator=authenticator,
            state=state,
            feed=feed,
            run_starter=WorkerRunStarter(pool),
            run_canceller=WorkerRunCanceller(pool),
            callback_tester=attention.callback_tester(clock),
        ),
    )
    audit = access_factories.audit_recorder(store, clock, log, pool.metrics)
    return admin.build_server(authenticator, audit, header_timeout=5.0, idle_timeout=5.0, max_header=16_384)
