"""Callback dispatcher: delivers due callbacks of the outbox at least once, signed and concurrently.

A callback whose schedule is exhausted is given up (dead letter); an operator can replay it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.byte_budget import ByteBudget, Hold
from gateway.clock import Clock
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.observability.metrics import Metrics
from gateway.observability.tracing.spans import Tracer
from gateway.outbound.webhook.http1_connection import DeliveryFault
from gateway.outbound.webhook.sender import DeliveryResult, WebhookResponse, WebhookSender
from gateway.runs.callbacks.delivery_queue import DeliveryQueue
from gateway.runs.callbacks.retry_schedule import Abandoned, Delivered, RetryAt, next_attempt, with_jitter
from gateway.runs.callbacks.traced_delivery import deliver_traced
from gateway.runs.callbacks.webhook_message import message_id, sign_message
from gateway.runs.timeline import encode_event
from gateway.store.contract import Store, StoreUnavailable
from gateway.store.records import PENDING, Delivery

DELIVERED, GAVE_UP = "delivered", "gave_up"
CALLBACK_STATES = (PENDING, DELIVERED, GAVE_UP)
"""States of a callback."""

_POLL_INTERVAL = 0.5  # seconds
_SHORT_POLL_INTERVAL = 0.05  # after a full batch: there may be more
_BATCH = 500  # callbacks taken at once
_QUEUE_SECONDS = 5.0  # in the queue; then a callback is due again, behind those of other clients and receivers
_CLAIM_SECONDS = 20.0  # seconds, longer than a delivery: after a crash the callback is due again
_MAX_CLOCK_DIFFERENCE = 30.0  # seconds between replicas; more is a clock that was set back
_HUNG_SECONDS = 3.0  # a receiver without a response for this long is one that hangs


@dataclass(slots=True)
class CallbackDispatcher:
    """Takes due callbacks from the store and delivers them. `schedule`: seconds before each attempt.

    A callback that is due waits in a queue, and its body is read from the store when its turn comes. `keep_timelines`
    returns whether attempts are added to the timelines of runs. `tracer`: None if tracing is off.
    """

    store: Store
    sender: WebhookSender
    signing_keys: Sequence[bytes]
    schedule: Sequence[float]
    clock: Clock
    metrics: Metrics
    log: Logger
    keep_timelines: Callable[[], bool] = lambda: True
    queue: DeliveryQueue = field(default_factory=DeliveryQueue)
    byte_budget: ByteBudget = field(default_factory=ByteBudget)
    tracer: Tracer | None = None
    _loading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def first_delay(self) -> float:
        """Return the seconds from the end of a run to the first attempt."""
        return with_jitter(self.schedule[0], self.clock)

    async def run_forever(self) -> None:
        """Deliver due callbacks in a loop."""
        while True:
            more = False
            try:
                more = await self.dispatch_due()
            except StoreUnavailable:
                self.log.warning("store_unavailable")
            except Exception as error:  # noqa: BLE001 - a defect must not end the loop
                self.log.error("internal_error", **json_logging.describe_exception(error))
            await self.clock.sleep(_SHORT_POLL_INTERVAL if more else _POLL_INTERVAL)

    async def dispatch_due(self) -> bool:
        """Take due callbacks, and start deliveries. Returns True if more may be due. Raises StoreUnavailable.

        Without a signing key nothing is delivered: receivers could not verify it.
        """
        if not self.signing_keys:
            return False
        now, until = self.clock.now().timestamp(), self.clock.monotonic() + _QUEUE_SECONDS
        due = await self.store.take_due_callbacks(
            now_at=now, until_at=now + _QUEUE_SECONDS, limit=_BATCH, latest_at=now + _MAX_CLOCK_DIFFERENCE
        )
        for delivery in due:
            self.queue.add(delivery, until=until)
        self._start_deliveries()
        return len(due) == _BATCH

    def reconfigure(self, signing_keys: Sequence[bytes], schedule: Sequence[float]) -> None:
        """Apply other keys and another schedule from the next attempt on."""
        self.signing_keys, self.schedule = signing_keys, schedule

    async def close(self) -> None:
        """Cancel the deliveries in progress; they are due again for the next process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start_deliveries(self) -> None:
        while (delivery := self.queue.start_next(self.clock.monotonic())) is not None:
            task = asyncio.create_task(self._deliver_next(delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver_next(self, delivery: Delivery) -> None:
        """Deliver a callback, and start those for which there is a place then."""
        hung = False
        try:
            with Hold(self.byte_budget) as hold:
                body = await self._load_within_budget(delivery, hold)
                if body is not None:
                    started = self.clock.monotonic()
                    result = await self._deliver(delivery, body)
                    hung = isinstance(result, DeliveryFault) and self.clock.monotonic() - started >= _HUNG_SECONDS
        finally:
            self.queue.finish(delivery, hung=hung)
        self._start_deliveries()

    async def _load_within_budget(self, delivery: Delivery, hold: Hold) -> bytes | None:
        """Read the body once the byte budget has room: one at a time, since the sizes are not known before.

        It is held twice, as body and as request.
        """
        async with self._loading:
            await hold.wait_for_room()
            body = await self._load(delivery)
            if body is not None:
                hold.add(2 * len(body))
        return body

    async def _load(self, delivery: Delivery) -> bytes | None:
        """Read the body of a callback; None if it is no longer this process's to deliver, or cannot be read now."""
        try:
            body = await self.store.load_callback(delivery, until_at=self.clock.now().timestamp() + _CLAIM_SECONDS)
        except StoreUnavailable:  # it is due again
            self.log.warning("not_read", run_id=delivery.run_id, phase="callback")
            return None
        if body is None:
            self.log.info("callback_settled", run_id=delivery.run_id)
        return body

    async def _deliver(self, delivery: Delivery, body: bytes) -> DeliveryResult:
        started = self.clock.now().timestamp()
        message = sign_message(message_id(delivery), body, self.signing_keys, self.clock.now())
        if self.tracer is None:
            result = await self.sender.deliver(delivery.url, message, delivery.client)
        else:
            result = await deliver_traced(self.tracer, self.store, self.sender, delivery, message)
        self.metrics.callback_attempted(_result_label(result))
        seconds = round(self.clock.now().timestamp() - started, 3)
        result_text = str(result.status) if isinstance(result, WebhookResponse) else result.value
        attempt = encode_event(started, "callback_attempted", delivery.attempts + 1, result_text, seconds)
        decision = next_attempt(delivery.attempts + 1, result, self.schedule, self.clock)
        try:
            await self._record_attempt(delivery, decision, attempt if self.keep_timelines() else b"")
        except StoreUnavailable:  # it is due again: at least once
            self.log.warning("not_written", run_id=delivery.run_id, phase="callback")
        except KeyError:  # another replica or an operator has settled it
            self.log.info("callback_settled", run_id=delivery.run_id)
        return result

    async def _record_attempt(
        self, delivery: Delivery, decision: Delivered | Abandoned | RetryAt, events: bytes
    ) -> None:
        run_id, revision = delivery.run_id, delivery.revision
        if isinstance(decision, RetryAt):
            await self.store.postpone_callback(run_id, due_at=decision.due_at, revision=revision, events=events)
            return
        state = DELIVERED if isinstance(decision, Delivered) else GAVE_UP
        await self.store.settle_callback(run_id, state, revision=revision, events=events)
        if state == GAVE_UP:
            self.metrics.callback_given_up()
            self.log.warning("callback_given_up", run_id=delivery.run_id, client=delivery.client)


def _result_label(result: DeliveryResult) -> str:
    return f"{result.status // 100}xx" if isinstance(result, WebhookResponse) else result.value
