"""Run executor: admits a run to the limits and executes it on its workflow or a fallback, within one deadline.

Invariants: a start that may have reached the provider is not sent again, unless the workflow is repeatable; the ending
of a run never claims more than is known.
"""

from __future__ import annotations

import math
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import zip_longest
from types import TracebackType

from gateway.byte_budget import BUDGET_EXHAUSTED, current_hold
from gateway.errors import CircuitOpen, DeadlineExceeded, Overloaded, RateLimited, RunError, StoreError
from gateway.limits.admission import Admission
from gateway.runs.attempt import ExecutionContext, WorkflowAttempt
from gateway.runs.catalog import Workflow
from gateway.runs.model import NULL_JOURNAL, Journal, RunRecord, RunSpec
from gateway.runs.resilience.registry import WorkflowGuard
from providers.declarations import accepts_release

_STORE_RETRY_DELAY = 1.0  # seconds until a background run asks an unavailable store again
_OVERLOAD_RETRY_DELAY = 5.0  # seconds, at most, until a background run asks a full queue again


class _HeldAdmission(AbstractContextManager["_HeldAdmission"]):
    """The admission that a run holds, if any; released on exit."""

    __slots__ = ("admission",)

    def __init__(self) -> None:
        self.admission: Admission | None = None

    def refund(self) -> None:
        """Give back the slots and the charges."""
        if self.admission is not None:
            self.admission.refund()
            self.admission = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.admission is not None:
            self.admission.release()


@dataclass(frozen=True, slots=True)
class RunExecutor:
    """Executes runs with a context that all workflows share."""

    context: ExecutionContext

    async def run(self, record: RunRecord, workflow: Workflow, journal: Journal = NULL_JOURNAL) -> None:
        """Execute a run on `workflow` or one of its fallbacks; the record then has its ending.

        Raises RunError if the run did not succeed.
        """
        await self._run_to_end(record, workflow, self._wait_for_store(record, workflow, journal))

    async def follow(self, record: RunRecord, workflow: Workflow, journal: Journal = NULL_JOURNAL) -> None:
        """Poll a run that was started before to its end. Raises as `run`."""
        await self._run_to_end(record, workflow, self._follow(record, workflow, journal))

    async def _run_to_end(
        self, record: RunRecord, workflow: Workflow, execution: Coroutine[object, object, None]
    ) -> None:
        try:
            await execution
        except RunError as error:
            self._record_failure(error, record)
            raise
        finally:
            if record.finished_at is not None or not record.durable:  # else another process continues it
                self._record_metrics(record, workflow.alias)

    async def _follow(self, record: RunRecord, workflow: Workflow, journal: Journal) -> None:
        names = (workflow.alias, workflow.provider.name)
        guard = self.context.circuits.get(workflow.provider.name, workflow.catalog_key)
        async with self.context.limiter.admit_adopted(record.spec.client, *names) as admission:
            attempt = WorkflowAttempt(self.context, record, workflow, admission, guard, journal, client_waits=False)
            try:
                await attempt.follow(record.provider_run_id or "")
            finally:
                self._record_answer_size(workflow)

    async def _wait_for_store(self, record: RunRecord, first: Workflow, journal: Journal) -> None:
        """Execute a run; a background run of which nothing was sent waits for an unavailable store."""
        clock = self.context.clock
        while True:
            try:
                await self._try_with_fallbacks(record, first, journal)
            except StoreError as error:
                hopeless = record.spec.synchronous or record.maybe_started or error.ending != "not_run"
                if hopeless or clock.monotonic() + _STORE_RETRY_DELAY >= record.deadline:
                    raise
                await record.await_external(clock.sleep(_STORE_RETRY_DELAY), clock)
            else:
                return

    async def _try_with_fallbacks(self, record: RunRecord, first: Workflow, journal: Journal) -> None:
        chain = [first, *(w for w in first.fallbacks if _supports_requested_version(w, record.spec))]
        with _HeldAdmission() as held:
            for workflow, fallback in zip_longest(chain, chain[1:]):
                try:
                    record.provider = workflow.provider.name
                    guard = self._guard_with_closed_circuit(workflow)
                    held.admission = admission = await self._admit(record, workflow, held.admission)
                    record.limit_headers = admission.headers
                    guard.retry_budget.record_run()
                    attempt = WorkflowAttempt(
                        self.context, record, workflow, admission, guard, journal, client_waits=record.spec.synchronous
                    )
                    try:
                        await attempt.run()
                    finally:
                        self._record_answer_size(workflow)
                except RunError as error:
                    if isinstance(error, (CircuitOpen, StoreError)) and not record.attempts:
                        held.refund()  # nothing was sent: the circuit opened or the store failed while the run waited
                    if fallback is None or not _may_fall_back(error, record, workflow):
                        raise
                    self.context.metrics.run_fell_back(first.alias, fallback.alias)
                else:
                    return

    def _guard_with_closed_circuit(self, workflow: Workflow) -> WorkflowGuard:
        """Return the guard of the workflow. Raises CircuitOpen before any limit is charged."""
        guard = self.context.circuits.get(workflow.provider.name, workflow.catalog_key)
        guard.breaker.raise_if_open()
        return guard

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
            await record.await_external(clock.sleep(min(delay, remaining)), clock)
        raise DeadlineExceeded("The deadline passed while the run was queued.")

    async def _acquire_admission(self, record: RunRecord, workflow: Workflow, admission: Admission | None) -> Admission:
        spec, names, deadline = record.spec, (workflow.alias, workflow.provider.name), record.deadline
        limits, clock = self.context.limiter, self.context.clock
        if admission is not None:
            await record.await_external(admission.move_to_fallback(*names, deadline=deadline), clock)
            self._reserve_answer(workflow)
            return admission
        max_wait = None if spec.synchronous else math.inf  # the deadline bounds it
        admit = limits.admit(
            spec.client, *names, deadline=deadline, still_wanted=spec.client_connected, max_wait=max_wait
        )
        admission = await record.await_external(admit, clock)
        try:
            self._reserve_answer(workflow)
        except Overloaded:
            admission.refund()
            raise
        return admission

    def _reserve_answer(self, workflow: Workflow) -> None:
        """Reserve the usual bytes of the workflow's answers. Raises Overloaded if there is no room for them."""
        expected, hold = self.context.answer_sizes.expected(workflow.alias), current_hold.get()
        if expected and hold is not None and not hold.reserve_answer(expected):
            raise Overloaded(BUDGET_EXHAUSTED, retry_after=1)

    def _record_answer_size(self, workflow: Workflow) -> None:
        hold = current_hold.get()
        if hold is not None and (size := hold.settle_answer()):
            self.context.answer_sizes.record(workflow.alias, size)

    def _record_failure(self, error: RunError, record: RunRecord) -> None:
        record.finish(error.ending, self.context.clock)
        if record.status != "not_run":  # the same request would start a second run
            error.retry_after = None
        error.ending, error.run = record.ending, record.summary()

    def _record_metrics(self, record: RunRecord, alias: str) -> None:
        if record.finished_at is None:  # cancelled, or a defect of the gateway
            record.finish("not_run", self.context.clock)
        spec = record.spec
        if record.followed:
            self.context.metrics.followed_run_ended(record.provider, record.status)
        if record.counted:
            return
        self.context.metrics.run_ended(spec.client, alias, record.provider, record.status, api=spec.api)
        self.context.metrics.observe_run_duration(
            alias, record.provider, record.duration, record.duration - record.external_wait
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
