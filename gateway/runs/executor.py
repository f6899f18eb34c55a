"""Brings a run to its end: through the limits, on one workflow after the other, within one deadline.

What holds on every line: a start that may have reached the provider is not sent again (unless the workflow is
declared repeatable), and a run's ending never claims more than is known.
"""

from __future__ import annotations

import math
from collections.abc import Coroutine
from dataclasses import dataclass

from gateway.limits.admission import Admission
from gateway.problems import Problem
from gateway.runs.attempt import ExecutionContext, WorkflowAttempt, ending_of
from gateway.runs.catalog import Workflow
from gateway.runs.model import RunRecord, RunSpec
from gateway.runs.resilience.registry import WorkflowGuard, circuit_open_problem

# Another workflow would meet the same: the client's own limit, its own input, its own deadline.
_NO_FALLBACK_CODES = {"rate_limited", "rejected_by_provider", "deadline_exceeded", "client_closed_request"}
_OVERLOAD_RETRY_DELAY = 5.0  # seconds until a run that found no place in line tries again


@dataclass(frozen=True, slots=True)
class RunExecutor:
    """Runs orders, by `means` that hold for every workflow."""

    context: ExecutionContext

    async def run(self, record: RunRecord, workflow: Workflow) -> None:
        """Bring `record` to its end, on `workflow` or one of its fallbacks.

        Raises Problem where the run did not succeed; the record then says how it ended too.
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
        except Problem as problem:
            self._record_failure(problem, record)
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
                except Problem as problem:
                    if problem.code == "circuit_open" and admission is not None and not record.attempts:
                        admission.refund()  # it opened while this run waited: a refusal costs nothing
                        admission = None
                    if position + 1 == len(chain) or not _may_fall_back(problem, record, workflow):
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
            raise circuit_open_problem(guard.breaker)
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
            except Problem as problem:
                delay = problem.retry_after or 1.0
                if problem.code == "overloaded":  # the line is full, or too long as it stands: others may leave it
                    delay = min(delay, _OVERLOAD_RETRY_DELAY)
                elif problem.code != "rate_limited" or delay >= remaining:
                    raise
            await record.await_external(clock.sleep(min(delay, remaining)), clock)
        raise Problem("deadline_exceeded", "The deadline passed before the turn came.")

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

    def _record_failure(self, problem: Problem, record: RunRecord) -> None:
        record.problem_code = problem.code
        record.finish(ending_of(problem), self.context.clock)
        if record.status != "not_run":  # to come back would be to run it again
            problem.retry_after = None
        known = {"provider_run_id": record.provider_run_id} if record.provider_run_id is not None else {}
        problem.extra = {
            **problem.extra,
            "run_id": record.id,
            "provider": record.provider,
            "attempts": record.attempts,
            "outcome": record.status,
            **known,
        }

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


def _may_fall_back(problem: Problem, record: RunRecord, workflow: Workflow) -> bool:
    if problem.code in _NO_FALLBACK_CODES:
        return False
    if workflow.repeatable:
        return ending_of(problem) != "failed"
    return ending_of(problem) == "not_run" and not record.maybe_started
