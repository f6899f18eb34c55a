"""Callback dispatcher: bodies are read late, and a receiver that hangs delays only its own callbacks."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import cast

import structlog
from structlog.testing import LogCapture

from gateway.byte_budget import LARGE, ByteBudget
from gateway.observability.metrics import Metrics
from gateway.outbound.webhook.callback_url import receiver_host
from gateway.outbound.webhook.http1_connection import DeliveryFault
from gateway.outbound.webhook.sender import DeliveryResult, WebhookMessage, WebhookResponse, WebhookSender
from gateway.runs.callbacks.dispatcher import CallbackDispatcher
from gateway.store.contract import StoreUnavailable
from gateway.store.memory.store import MemoryStore
from gateway.store.records import FinalState, StoredRun
from tests.support.virtual_clock import VirtualClock

HANGS, ANSWERS = "https://hangs.example/hook", "https://answers.example/hook"
SCHEDULE = [0.0, 600.0, 600.0]


@dataclass
class Receivers:
    """Sender to receivers of which one hangs for fifteen seconds."""

    clock: VirtualClock
    delivered: list[tuple[str, float]] = field(default_factory=list)
    in_progress: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    bytes_in_progress: int = 0
    most_bytes: int = 0
    recovered: bool = False

    async def deliver(self, url: str, message: WebhookMessage, _client: str) -> DeliveryResult:
        host = receiver_host(url)
        self.in_progress[host] += 1
        self.bytes_in_progress += len(message.body)
        self.most[host] = max(self.most[host], self.in_progress[host])
        self.most_bytes = max(self.most_bytes, self.bytes_in_progress)
        hangs = url == HANGS and not self.recovered
        await self.clock.sleep(15.0 if hangs else 0.1)
        self.in_progress[host] -= 1
        self.bytes_in_progress -= len(message.body)
        if hangs:
            return DeliveryFault.TIMEOUT
        self.delivered.append((message.id, self.clock.monotonic()))
        return WebhookResponse(204)


class Harness:
    """A dispatcher on a memory store."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = MemoryStore(self.clock)
        self.receivers = Receivers(self.clock)
        quiet = structlog.make_filtering_bound_logger(0)
        log = structlog.wrap_logger(None, processors=[LogCapture()], wrapper_class=quiet)
        self.dispatcher = CallbackDispatcher(
            self.store,
            cast("WebhookSender", self.receivers),
            [b"k" * 32],
            SCHEDULE,
            self.clock,
            Metrics(),
            log,
        )

    async def add(self, run_id: str, client: str, url: str, size: int = 10) -> None:
        """Store a run that has ended, with a callback that is due now."""
        now = self.clock.now().timestamp()
        run = StoredRun(run_id, client, "w", "p", b"{}", now, now + 60, "me", now + 30, callback_url=url)
        await self.store.create_run(run, None)
        await self.store.finish(run_id, FinalState("me", "succeeded", b"{}", now, 1, callback=b"x" * size))

    async def run_for(self, seconds: float) -> None:
        """Dispatch for some time."""
        running = asyncio.create_task(self.dispatcher.run_forever())
        await self.clock.run_for(seconds)
        running.cancel()


async def test_a_hanging_receiver_does_not_delay_the_callbacks_of_another_client() -> None:
    """R53: nine hundred callbacks that hang are due before one of another client."""
    harness = Harness()
    await harness.store.open()
    for number in range(900):
        await harness.add(f"run_{number:03}", "one", HANGS)
    await harness.clock.run_for(1)
    await harness.add("run_other", "two", ANSWERS)
    began = harness.clock.monotonic()
    await harness.run_for(3)
    [(message, at)] = harness.receivers.delivered
    assert ("msg_run_other", True) == (message, at - began < 2)
    await harness.dispatcher.close()


async def test_new_callbacks_of_other_clients_go_ahead_of_those_that_hang() -> None:
    """At any time, and also another receiver of the same client."""
    harness = Harness()
    await harness.store.open()
    for number in range(900):
        await harness.add(f"run_{number:03}", "one", HANGS)
    await harness.run_for(40)
    assert 1 == harness.receivers.in_progress["hangs.example"]
    await harness.add("run_other", "two", ANSWERS)
    await harness.add("run_same", "one", ANSWERS)
    began = harness.clock.monotonic()
    await harness.run_for(3)
    assert {"msg_run_other", "msg_run_same"} == {message for message, _ in harness.receivers.delivered}
    assert all(at - began < 2 for _, at in harness.receivers.delivered)
    await harness.dispatcher.close()


async def test_many_callbacks_to_a_receiver_that_answers_are_delivered_soon() -> None:
    harness = Harness()
    await harness.store.open()
    for number in range(2_000):
        await harness.add(f"run_{number:04}", "one", ANSWERS)
    await harness.run_for(15)
    assert 2_000 == len({message for message, _ in harness.receivers.delivered}) == len(harness.receivers.delivered)
    assert harness.receivers.most["answers.example"] <= 100


async def test_large_bodies_are_not_held_while_they_wait() -> None:
    """The bytes of all bodies in delivery are bounded."""
    harness = Harness()
    await harness.store.open()
    for number in range(100):
        await harness.add(f"run_{number:03}", "one", HANGS, size=9_000_000 if number < 10 else 900_000)
    await harness.run_for(14)
    assert 0 < harness.receivers.most_bytes <= 32 * 2**20
    await harness.dispatcher.close()


async def test_a_receiver_that_recovers_gets_everything() -> None:
    """Those that were not tried count no attempt."""
    harness = Harness()
    await harness.store.open()
    for number in range(300):
        await harness.add(f"run_{number:03}", "one", HANGS)
    await harness.run_for(16)
    harness.receivers.recovered = True
    await harness.run_for(800)
    assert {f"msg_run_{number:03}" for number in range(300)} == {m for m, _ in harness.receivers.delivered}


async def test_a_body_that_cannot_be_read_is_tried_again() -> None:
    harness = Harness()
    await harness.store.open()
    await harness.add("run_1", "one", ANSWERS)
    load, failures = harness.store.load_callback, [StoreUnavailable(), StoreUnavailable()]

    async def failing(*arguments: object, **options: object) -> bytes | None:
        if failures:
            raise failures.pop()
        return await load(*arguments, **options)  # type: ignore[arg-type]  # as they came

    harness.store.load_callback = failing  # type: ignore[method-assign]  # the store fails twice
    await harness.run_for(30)
    assert ["msg_run_1"] == [message for message, _ in harness.receivers.delivered]


async def test_a_clock_that_is_set_back_delays_no_callback() -> None:
    """Neither a new one nor a retry."""
    harness = Harness()
    await harness.store.open()
    await harness.add("run_retry", "one", HANGS)
    await harness.run_for(16)
    await harness.add("run_new", "two", ANSWERS)
    harness.receivers.recovered = True
    harness.clock.step_wall(-3600)
    await harness.run_for(5)
    assert {"msg_run_retry", "msg_run_new"} == {message for message, _ in harness.receivers.delivered}


async def test_bodies_of_deliveries_stay_within_the_byte_budget() -> None:
    """Each is held twice, as body and as request; all are delivered."""
    harness, size = Harness(), 4 * LARGE
    harness.dispatcher.byte_budget = ByteBudget(5 * 2 * size)
    await harness.store.open()
    for number in range(40):
        await harness.add(f"run_{number:03}", "one", ANSWERS, size)
    await harness.run_for(10)
    assert 40 == len(harness.receivers.delivered)
    assert 2 * size <= harness.receivers.most_bytes <= 6 * size
    assert (0, 0) == (harness.dispatcher.byte_budget.held, len(harness.dispatcher.byte_budget.claims))
    await harness.dispatcher.close()
