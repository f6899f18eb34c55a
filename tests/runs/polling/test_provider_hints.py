"""Poll hints: a hint wakes the poller of its run at once; forged, repeated and late hints have no effect."""

from __future__ import annotations

import asyncio

import structlog
from structlog.testing import LogCapture

from gateway.observability.metrics import Metrics
from gateway.runs.polling.provider_hints import ProviderHints, load_secret
from gateway.store.contract import StoreUnavailable
from gateway.store.memory.store import MemoryStore
from tests.observability.test_metrics import value
from tests.support.virtual_clock import VirtualClock, run_ready_tasks

RUN = "run_0123456789abcdef0123456789abcdef"


class FailingNotifications(MemoryStore):
    """Store without notifications once `unavailable`, and with early wake-ups if `spurious_wakeups`."""

    unavailable = False
    spurious_wakeups = False

    async def notify(self, name: str) -> None:
        if self.unavailable:
            raise StoreUnavailable
        await super().notify(name)

    async def wait_for_change(self, run_ids: object, seconds: float) -> None:
        if self.unavailable:
            raise StoreUnavailable
        await super().wait_for_change(run_ids, min(seconds, 0.5) if self.spurious_wakeups else seconds)  # type: ignore[arg-type]  # as it came


class HintsReplica:
    """Poll hints of a replica; several share a store."""

    def __init__(self, clock: VirtualClock, store: MemoryStore, secret: bytes) -> None:
        self.metrics = Metrics()
        self.log = LogCapture()
        log = structlog.wrap_logger(None, processors=[self.log], wrapper_class=structlog.make_filtering_bound_logger(0))
        self.hints = ProviderHints(
            "https://runward.example.com", secret, store, clock=clock, metrics=self.metrics, log=log
        )

    def token(self, run_id: str = RUN) -> str:
        return self.hints.notify_url(run_id).rpartition("/")[2]

    def hint_counts(self) -> dict[str, float]:
        results = ("genuine", "forged", "surplus", "not_told")
        return {r: n for r in results if (n := value(self.metrics, "runward_hints_total", result=r))}


async def start_replicas(count: int = 1) -> tuple[VirtualClock, FailingNotifications, list[HintsReplica]]:
    clock = VirtualClock()
    store = FailingNotifications(clock)
    await store.open()
    made = [HintsReplica(clock, store, await load_secret(store, clock)) for _ in range(count)]
    return clock, store, made


async def test_a_hint_received_by_one_replica_wakes_another() -> None:
    """Secret and store are shared; the wait ends early."""
    clock, _, (front, worker) = await start_replicas(2)
    waiting = asyncio.create_task(worker.hints.wait_for_hint(RUN, 60))
    await clock.run_for(5)
    assert not waiting.done()
    await front.hints.receive(worker.token())
    assert await asyncio.wait_for(waiting, 5)
    assert ({"genuine": 1}, 1) == (front.hint_counts(), value(worker.metrics, "runward_hints_used_total"))


async def test_without_a_hint_the_wait_has_its_full_length() -> None:
    clock, _, (one,) = await start_replicas()
    started = clock.monotonic()
    assert not await clock.run_until_done(one.hints.wait_for_hint(RUN, 7))
    assert 7 == clock.monotonic() - started
    assert 0 == value(one.metrics, "runward_hints_used_total")


async def test_a_hint_for_another_run_and_a_forged_hint_wake_no_waiter() -> None:
    """A forged hint does not reach the store."""
    clock, store, (one,) = await start_replicas()
    waiting = asyncio.create_task(one.hints.wait_for_hint(RUN, 60))
    await run_ready_tasks()
    await one.hints.receive(one.token("run_other"))
    store.unavailable = True
    for token in ("", ".", RUN, one.token() + "x", one.token("run_x").replace("run_x", RUN), "é\udcff." * 1000):
        await one.hints.receive(token)
    await clock.run_for(30)
    assert not waiting.done()
    assert {"genuine": 1, "forged": 6} == one.hint_counts()
    waiting.cancel()


async def test_a_hint_received_shortly_before_the_wait_counts() -> None:
    """A run may end before its start is stored."""
    clock, _, (one,) = await start_replicas()
    await one.hints.receive(one.token())
    assert await clock.run_until_done(one.hints.wait_for_hint(RUN, 60))


async def test_a_store_that_wakes_for_no_reason_is_no_hint() -> None:
    """Spurious wake-ups occur while the subscription is down: the wait continues."""
    clock, store, (one,) = await start_replicas()
    store.spurious_wakeups = True
    started = clock.monotonic()
    assert not await clock.run_until_done(one.hints.wait_for_hint(RUN, 7))
    assert 7 == clock.monotonic() - started


async def test_a_waiter_for_the_run_itself_is_not_woken() -> None:
    clock, store, (one,) = await start_replicas()
    waiting = asyncio.create_task(store.wait_for_change([RUN], 60))
    await run_ready_tasks()
    await one.hints.receive(one.token())
    await clock.run_for(1)
    assert not waiting.done()
    waiting.cancel()


async def test_where_the_store_fails_a_hint_is_lost_and_the_wait_is_not() -> None:
    """The run is polled on schedule, and the provider gets the usual response."""
    clock, store, (one,) = await start_replicas()
    store.unavailable = True
    started = clock.monotonic()
    assert not await clock.run_until_done(one.hints.wait_for_hint(RUN, 7))
    assert 7 == clock.monotonic() - started
    await one.hints.receive(one.token())
    assert {"not_told": 1} == one.hint_counts()


async def test_a_flood_of_genuine_hints_does_not_reach_the_store() -> None:
    clock, _, (one,) = await start_replicas()
    for _ in range(1500):
        await one.hints.receive(one.token())
    assert {"genuine": 1000, "surplus": 500} == one.hint_counts()
    clock.advance(1)
    await one.hints.receive(one.token())
    assert 1001 == one.hint_counts()["genuine"]


async def test_no_token_is_logged_and_nothing_above_debug() -> None:
    """Readers of the log could use the token."""
    _, _, (one,) = await start_replicas()
    await one.hints.receive(one.token())
    await one.hints.receive("forged")
    assert ["debug", "debug"] == [entry["log_level"] for entry in one.log.entries]
    assert one.token()[-20:] not in str(one.log.entries)


async def test_the_notify_url_is_the_same_after_a_restart() -> None:
    """Hints for runs in progress are valid after a restart."""
    clock, store, (one,) = await start_replicas()
    assert one.token() != HintsReplica(clock, store, b"another secret").token()
    after = HintsReplica(clock, store, await load_secret(store, clock))
    assert one.hints.notify_url(RUN) == after.hints.notify_url(RUN)
    assert one.hints.notify_url(RUN).startswith("https://runward.example.com/hints/run_")
