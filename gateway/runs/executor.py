"""Run executor: admits a run to the limits and executes it on its workflow or a fallback, within one deadline.

Invariants: a start that may have reached the provider is not sent again, unless the workflow is repeatable; the ending
of a run never claims more than is known.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

from gateway.byte_budget import BUDGET_EXHAUSTED, current_hold
from gateway.errors import (
    BudgetExhausted,
    CircuitOpen,
    DeadlineExceeded,
    Overloaded,
    ProviderSuspended,
    RateLimited,
    RunCancelled,
    RunError,
    StartExpired,
    StoreError,
)
from gateway.limits.admission import Admission
from gateway.runs import run_tracing
from gateway.runs.catalog import Workflow
from gateway.runs.interruption import Interruption
from gateway.runs.model import NULL_JOURNAL, Journal, RunRecord, RunSpec
from gateway.runs.workflow_attempt import ExecutionContext, WorkflowAttempt
from providers.declarations import accepts_release

_RETRY_DELAY = 1.0  # seconds until a background run asks an unavailable store or a suspended provider again
_REFUNDED = (CircuitOpen, ProviderSuspended, BudgetExhausted, StoreError, RunCancelled, StartExpired)
"""What may happen between the admission and the start."""
_OVERLOAD_RETRY_DELAY = 5.0  # seconds, at most, until a background run asks a full queue again


@dataclass(frozen=True, slots=True)
class RunExecutor:
    """Executes runs with a context that all workflows share."""

    context: ExecutionContext

    async def run(self, record: RunRecord, workflow: Workflow, journal: Journal = NULL_JOURNAL) -> None:
        """Execute a run on `workflow` or one of its fallbacks; the record then has its ending.

        Raises RunError if the run did not succeed.
        """
        tracer = self.context.tracer
        if tracer is not None and record.span is None:
            run_tracing.start_run(tracer, record, workflow.alias)
        try:
            while True:
                try:
                    if record.start_by < record.deadline:
                        return await self._try_in_time(record, workflow, journal)
                    return await self._try_with_fallbacks(record, workflow, journal)
                except (ProviderSuspended, StoreError) as error:
                    await self._wait_before_start(record, workflow, error, journal)
        except RunError as error:
            self._record_failure(error, record)
            raise
        except (asyncio.CancelledError, Exception) as error:
            self._record_interruption(error, record)
            raise
        finally:
            self._record_end(record, workflow)

    async def _try_in_time(self, record: RunRecord, workflow: Workflow, journal: Journal) -> None:
        """Execute a run that must be started by a time. Raises StartExpired at that time if no start was sent."""
        if record.must_not_start(self.context.clock):
            raise StartExpired
        interruption = Interruption()
        timer = asyncio.create_task(self._interrupt_in_time(record, interruption))
        try:
            with interruption:
                await self._try_with_fallbacks(record, workflow, journal)
        finally:
            timer.cancel()

    async def _interrupt_in_time(self, record: RunRecord, interruption: Interruption) -> None:
        clock = self.context.clock
        while (remaining := record.start_by - clock.monotonic()) > 0:
            await clock.sleep(remaining)  # a timer may fire early
        if not record.maybe_started:
            interruption.interrupt(StartExpired())

    async def follow(self, record: RunRecord, workflow: Workflow, journal: Journal = NULL_JOURNAL) -> None:
        """Poll a run that was started before to its end. Raises as `run`."""
        tracer = self.context.tracer
        if tracer is not None and record.span is None:
            run_tracing.start_run(tracer, record, workflow.alias, linked=True)
        try:
            await self._follow(record, workflow, journal)
        except RunError as error:
            self._record_failure(error, record)
            raise
        finally:
            self._record_end(record, workflow)
            if self.context.budgets is not None and record.reservation is None and record.finished_at is not None:
                self.context.budgets.settle_of_other(record.id, record.status)

    async def _follow(self, record: RunRecord, workflow: Workflow, journal: Journal) -> None:
        names = (workflow.alias, workflow.provider.name)
        guard = self.context.circuits.get(workflow.provider.name, workflow.catalog_key)
        async with self.context.limiter.admit_adopted(record.spec.client, *names) as admission:
            attempt = WorkflowAttempt(self.context, record, workflow, admission, guard, journal, client_waits=False)
            try:
                await attempt.follow(record.provider_run_id or "")
            finally:
                self._record_answer_size(workflow)

    async def _wait_before_start(
        self, record: RunRecord, workflow: Workflow, error: RunError, journal: Journal
    ) -> None:
        """Wait until an unavailable store or a suspended provider may be asked again.

        Only a background run of which nothing was sent waits. Raises `error` for another run, and if the deadline is
        too close.
        """
        clock, suspended = self.context.clock, isinstance(error, ProviderSuspended)
        if record.spec.synchronous or record.maybe_started or error.ending != "not_run":
            raise error
        if suspended:
            await journal.record_rejection()  # a start that was stored but not sent: it may wait for long
        while True:
            if clock.monotonic() + _RETRY_DELAY >= record.deadline:
                raise error
            until_start_by = max(0.0, record.start_by - clock.monotonic())
            await record.await_external(
                clock.sleep(min(_RETRY_DELAY, until_start_by)), clock, "breaker" if suspended else "store"
            )
            if not suspended or self._allows_start(workflow) or record.must_not_start(clock):
                return

    def _allows_start(self, first: Workflow) -> bool:
        """Return whether a circuit breaker of the workflow and its fallbacks allows a start now."""
        chain = (first, *first.fallbacks)
        guards = (self.context.circuits.get(each.provider.name, each.catalog_key) for each in chain)
        return any(guard.breaker.retry_after() == 0 for guard in guards)

    async def _try_with_fallbacks(self, record: RunRecord, first: Workflow, journal: Journal) -> None:
        """Execute a run on a workflow and, while its errors permit, on one fallback after the other."""
        workflow, admission = first, None
        fallbacks = iter(first.fallbacks)
        try:
            while True:
                try:
                    record.provider = workflow.provider.name
                    spec, unpriced = record.spec, workflow.prices is None
                    record.price = None if unpriced else workflow.price_of(spec.label, spec.version)
                    guard = self.context.circuits.get(record.provider, workflow.catalog_key)
                    guard.breaker.raise_if_open()  # before any limit is charged
                    admission = self._admit_at_once(record, workflow, admission) or await self._admit(
                        record, workflow, admission
                    )
                    record.limit_headers = admission.headers
                    if record.price or record.reservation is not None:
                        await self._reserve_price(record, workflow)
                    guard.retry_budget.record_run()
                    attempt = WorkflowAttempt(
                        self.context, record, workflow, admission, guard, journal, spec.synchronous
                    )
                    try:
                        return await attempt.run()
                    finally:
                        self._record_answer_size(workflow)
                except RunError as error:
                    if admission is not None and isinstance(error, _REFUNDED) and not record.attempts:
                        admission.refund()  # nothing was sent
                        admission = None
                    fallback = next((w for w in fallbacks if _supports_requested_version(w, record.spec)), None)
                    too_late = record.must_not_start(self.context.clock)
                    if fallback is None or too_late or not _may_fall_back(error, record, workflow):
                        raise
                    if not record.maybe_started:
                        await journal.record_rejection()  # a start that was stored but not sent: the fallback may wait
                    self.context.metrics.run_fell_back(first.alias, fallback.alias)
                    record.timeline.add(
                        self.context.clock.monotonic(), "fell_back", fallback.alias, fallback.provider.name
                    )
                    workflow = fallback
        except asyncio.CancelledError:
            if admission is not None and not record.attempts:
                admission.refund()  # nothing was sent
            raise
        finally:
            if admission is not None:
                admission.release()

    async def _reserve_price(self, record: RunRecord, workflow: Workflow) -> None:
        """Reserve the price of a start on its budgets. Raises BudgetExhausted, StoreError."""
        if self.context.budgets is not None:
            await self.context.budgets.reserve(record, workflow)

    def _admit_at_once(self, record: RunRecord, workflow: Workflow, held: Admission | None) -> Admission | None:
        """Admit a run that holds nothing yet without a wait; None if it must wait, for limits or for room.

        Raises Overloaded. Most runs are admitted so, without a coroutine.
        """
        spec, large = record.spec, self.context.answer_sizes.expected(workflow.alias)
        if held is not None or (large and not spec.synchronous):  # a background run waits for room
            return None
        admission = self.context.limiter.try_admit(
            spec.client,
            workflow.alias,
            record.provider,
            deadline=record.deadline,
            still_wanted=spec.client_connected,
            max_wait=None if spec.synchronous else math.inf,  # the deadline bounds it
            key_limits=spec.key_limits,
        )
        return self._with_room(admission, workflow) if large and admission is not None else admission

    async def _admit(self, record: RunRecord, workflow: Workflow, admission: Admission | None) -> Admission:
        if record.spec.synchronous:
            return await self._acquire_admission(record, workflow, admission)
        return await self._admit_until_deadline(record, workflow, admission)

    async def _admit_until_deadline(
        self, record: RunRecord, workflow: Workflow, admission: Admission | None
    ) -> Admission:
        """Admit a background run: wait in the queue, and ask again after a refusal, until the deadline."""
        clock = self.context.clock
        while (remaining := record.deadline - clock.monotonic()) > 0:
            try:
                return await self._acquire_admission(record, workflow, admission)
            except Overloaded as error:  # the queue is full, or too long at this moment
                delay = min(error.retry_after or 1.0, _OVERLOAD_RETRY_DELAY)
            except RateLimited as error:
                delay = error.retry_after or 1.0
                if delay >= remaining:
                    raise
            await record.await_external(clock.sleep(min(delay, remaining)), clock, "limit")
        raise DeadlineExceeded("The deadline passed while the run was queued.")

    async def _acquire_admission(self, record: RunRecord, workflow: Workflow, admission: Admission | None) -> Admission:
        spec, names, deadline = record.spec, (workflow.alias, workflow.provider.name), record.deadline
        limits, clock = self.context.limiter, self.context.clock
        if admission is not None:
            await record.await_external(admission.move_to_fallback(*names, deadline=deadline), clock, "limit")
            self._reserve_answer(workflow)
            return admission
        admit = limits.admit(
            spec.client,
            *names,
            deadline=deadline,
            still_wanted=spec.client_connected,
            max_wait=None if spec.synchronous else math.inf,  # the deadline bounds it
            key_limits=spec.key_limits,
        )
        return self._with_room(await record.await_external(admit, clock, "limit"), workflow)

    def _with_room(self, admission: Admission, workflow: Workflow) -> Admission:
        """Reserve room for the answer of an admitted run. Raises Overloaded; then the admission is given back."""
        try:
            self._reserve_answer(workflow)
        except Overloaded:
            admission.refund()
            raise
        return admission

    def _reserve_answer(self, workflow: Workflow) -> None:
        """Reserve the usual bytes of the workflow's answers. Raises Overloaded if there is no room for them."""
        expected = self.context.answer_sizes.expected(workflow.alias)
        if expected and (hold := current_hold.get()) is not None and not hold.reserve_answer(expected):
            raise Overloaded(BUDGET_EXHAUSTED, retry_after=1)

    def _record_answer_size(self, workflow: Workflow) -> None:
        hold = current_hold.get()
        if hold is not None and (size := hold.settle_answer()):
            self.context.answer_sizes.record(workflow.alias, size)

    def _record_failure(self, error: RunError, record: RunRecord) -> None:
        record.finish(error.ending, self.context.clock)
        if record.span is not None:
            record.span.error_type = error.code
        if record.status != "not_run":  # the same request would start a second run
            error.retry_after = None
        error.ending, error.run = record.ending, record.summary()
        if record.priced:
            error.headers = (*error.headers, *record.cost_headers())
        if not record.counted:
            self.context.metrics.run_error(record.provider, error.code)

    def _record_cost(self, record: RunRecord, alias: str) -> None:
        """Settle the budgets of a run that has ended, and count what it cost, unless it was counted before."""
        record.limit_headers = (*record.limit_headers, *record.cost_headers())
        if self.context.budgets is not None and record.reservation is not None:
            self.context.budgets.settle(record)
        if not record.counted:
            cost = record.cost()
            self.context.metrics.run_cost(
                record.spec.client, alias, record.provider, spent=cost.spent, unknown=cost.unknown
            )

    def _record_interruption(self, error: BaseException, record: RunRecord) -> None:
        """Count a run that a cancellation or a defect ends; another process continues a durable one."""
        if record.finished_at is None and not record.durable:
            cancelled = "draining" if record.spec.client_connected() else "client_closed_request"
            code = cancelled if isinstance(error, asyncio.CancelledError) else "internal"
            self.context.metrics.run_error(record.provider, code)

    def _record_end(self, record: RunRecord, workflow: Workflow) -> None:
        if record.finished_at is None and not record.durable:
            record.finish("not_run", self.context.clock)  # cancelled, or a defect of the gateway
        if record.span is not None:
            run_tracing.end_run(record.span, record)
        if record.finished_at is None:  # another process continues it
            return
        if record.price is not None or record.reservation is not None:
            self._record_cost(record, workflow.alias)
        spec, alias = record.spec, workflow.alias
        if record.followed:
            self.context.metrics.followed_run_ended(record.provider, record.status)
        if record.counted:
            return
        self.context.metrics.run_ended(spec.client, alias, record.provider, record.status, api=spec.api)
        self.context.metrics.observe_run_duration(
            alias, record.provider, record.duration, record.duration - record.external_wait
        )
        if spec.traceparent:
            self.context.metrics.run_traced(
                alias, record.provider, record.duration, spec.traceparent[3:35], self.context.clock.now()
            )


def _supports_requested_version(workflow: Workflow, spec: RunSpec) -> bool:
    """Return whether a fallback can honour the label or version of the request."""
    version_requested = spec.label is not None or spec.version is not None
    accepted = accepts_release(workflow.provider.adapter, spec.label, spec.version)
    return not version_requested or (accepted and not workflow.pinned)


def _may_fall_back(error: RunError, record: RunRecord, workflow: Workflow) -> bool:
    if not error.falls_back:
        return False
    if workflow.repeatable:
        return error.ending != "failed"
    return error.ending == "not_run" and not record.maybe_started
