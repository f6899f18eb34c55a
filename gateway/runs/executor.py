"""Brings a run to its end: through the limits, on one workflow after the other, within one deadline.

What holds on every line: a start that may have reached the provider is not sent again (unless the workflow is
declared repeatable), and a run's ending never claims more than is known.
"""

from __future__ import annotations

import math
from collections.abc import Coroutine
from dataclasses import dataclass

from gateway.errors import CircuitOpen, DeadlineExceeded, Overloaded, RateLimited, RunError
from gateway.limits.contract import Admission
from gateway.runs.attempt import ExecutionContext, WorkflowAttempt
from gateway.runs.catalog import Workflow
from gateway.runs.model import RunRecord, RunSpec
from gateway.runs.resilience.registry import WorkflowGuard, circuit_open_error

_OVERLOAD_RETRY_DELAY = 5.0  # seconds until a run that found no place in line tries again


@dataclass(frozen=True, slots=True)
class RunExecutor:
    """Runs orders, by `means` that hold for every workflow."""

    context: ExecutionContext

    async def run(self, record: RunRecord, workflow: Workflow) -> None:
        """Bring `record` to its end, on `workflow` or one of its fallbacks.

        Raises RunError where the run did not succeed; the record then says how it ended too.
        """
        await self._run_to_end(record, workflow, self._try_with_fallbacks(record, workflow))

    async def follow(self, record: RunRecord, workflow: Workflow) -> None:
        """Bring a run to its end that was started before, likewise."""
        await self._run_to_end(record, workflow, self._follow(record, workflow))

    async def _run_to_end(
        self, record: RunRecord, workflow: Workflow, execution: Coroutine[object, object, None]
    ) -> None:
        try:
            await execution
        except RunError as error:
            self._record_failure(error, record)
            raise
        finally:
            if record.finished_at is not None or record.journal is None:  # else whoever adopts it goes on with it
                self._record_metrics(record, workflow.alias)

    async def _follow(self, record: RunRecord, workflow: Workflow) -> None:
        names = (workflow.alias, workflow.provider.name)
        guard = self.context.circuits.get(workflow.provider.name, workflow.alias)
        async with self.context.limiter.admit_adopted(record.spec.client, *names) as admission:
            await WorkflowAttempt(self.context, record, workflow, admission, guard).follow(record.provider_run_id or "")

    async def _try_with_fallbacks(self, record: RunRecord, first: Workflow) -> None:
        admission: Admission | None = None
        chain = [first, *(w for w in first.fallbacks if _supports_requested_version(w, record.spec))]
        try:
            for position, workflow in enumerate(chain):
                record.provider = workflow.provider.name
                try:
                    guard = self._guard_with_closed_circuit(workflow)
                    admission = await self._admit(record, workflow, admission)
                    record.limit_headers = admission.headers
                    guard.retry_budget.record_run()
                    await WorkflowAttempt(self.context, record, workflow, admission, guard).run()
                except RunError as error:
                    if isinstance(error, CircuitOpen) and admission is not None and not record.attempts:
                        admission.refund()  # it opened while this run waited: a refusal costs nothing
                        admission = None
                    if position + 1 == len(chain) or not _may_fall_back(error, record, workflow):
                        raise
                    self.context.metrics.run_fell_back(first.alias, chain[position + 1].alias)
                else:
                    return
        finally:
            if admission is not None:
                admission.release()

    def _guard_with_closed_circuit(self, workflow: Workflow) -> WorkflowGuard:
        """Find the guard, and do not even ask the limits where its circuit is open."""
        guard = self.context.circuits.get(workflow.provider.name, workflow.alias)
        if guard.breaker.retry_after() > 0:
            raise circuit_open_error(guard.breaker)
        return guard

    async def _admit(self, record: RunRecord, workflow: Workflow, admission: Admission | None) -> Admission:
        if record.spec.synchronous:
            return await self._acquire_admission(record, workflow, admission)
        return await self._admit_until_deadline(record, workflow, admission)

    async def _admit_until_deadline(
        self, record: RunRecord, workflow: Workflow, admission: Admission | None
    ) -> Admission:
        """Nobody waits at the door: keep the place in line, and come back where there is none, until the deadline."""
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
        raise DeadlineExceeded("The deadline passed before the turn came.")

    async def _acquire_admission(self, record: RunRecord, workflow: Workflow, admission: Admission | None) -> Admission:
        spec, names, deadline = record.spec, (workflow.alias, workflow.provider.name), record.deadline
        limits, clock = self.context.limiter, self.context.clock
        if admission is None:
            max_wait = None if spec.synchronous else math.inf  # the deadline ends it
            admit = limits.admit(
                spec.client, *names, deadline=deadline, still_wanted=spec.client_connected, max_wait=max_wait
            )
            return await record.await_external(admit, clock)
        await record.await_external(admission.move(*names, deadline=deadline), clock)
        return admission

    def _record_failure(self, error: RunError, record: RunRecord) -> None:
        record.finish(error.ending, self.context.clock)
        if record.status != "not_run":  # a repetition would run it again
            error.retry_after = None
        error.ending, error.run = record.ending, record.summary()

    def _record_metrics(self, record: RunRecord, alias: str) -> None:
        if record.finished_at is None:  # cancelled, or our own mistake
            record.finish("not_run", self.context.clock)
        spec = record.spec
        self.context.metrics.run_ended(spec.client, alias, record.provider, record.status, face=spec.api)
        self.context.metrics.observe_run_duration(
            alias, record.provider, record.duration, record.duration - record.external_wait
        )


def _supports_requested_version(workflow: Workflow, spec: RunSpec) -> bool:
    """Whether a fallback can honour the label or version that the client asked for."""
    version_requested = spec.label is not None or spec.version is not None
    return not version_requested or (workflow.provider.adapter.supports_versions and not workflow.pinned)


def _may_fall_back(error: RunError, record: RunRecord, workflow: Workflow) -> bool:
    if not error.falls_back:
        return False
    if workflow.repeatable:
        return error.ending != "failed"
    return error.ending == "not_run" and not record.maybe_started
