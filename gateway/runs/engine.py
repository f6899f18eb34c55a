"""Brings a run to its end: through the limits, on one workflow after the other, within one deadline.

What holds on every line: a start that may have reached the provider is not sent again (unless the workflow is
declared repeatable), and a run's ending never claims more than is known.
"""

from __future__ import annotations

import math
from collections.abc import Coroutine
from dataclasses import dataclass

from gateway.access.limits import Admission
from gateway.problems import Problem
from gateway.runs.catalog import Workflow
from gateway.runs.guards import Guard, circuit_open
from gateway.runs.leg import Leg, Means, ending_of
from gateway.runs.record import Order, RunRecord

# Another workflow would meet the same: the client's own limit, its own input, its own deadline.
_STAYS = {"rate_limited", "rejected_by_provider", "deadline_exceeded", "client_closed_request"}
_COME_BACK = 5.0  # seconds until a run that found no place in line tries again


@dataclass(frozen=True, slots=True)
class Engine:
    """Runs orders, by `means` that hold for every workflow."""

    means: Means

    async def run(self, record: RunRecord, workflow: Workflow) -> None:
        """Bring `record` to its end, on `workflow` or one of its fallbacks.

        Raises Problem where the run did not succeed; the record then says how it ended too.
        """
        await self._to_its_end(record, workflow, self._along_the_fallbacks(record, workflow))

    async def follow(self, record: RunRecord, workflow: Workflow) -> None:
        """Bring a run to its end that was started before, likewise."""
        await self._to_its_end(record, workflow, self._follow(record, workflow))

    async def _to_its_end(self, record: RunRecord, workflow: Workflow, way: Coroutine[object, object, None]) -> None:
        try:
            await way
        except Problem as problem:
            self._end_badly(problem, record)
            raise
        finally:
            if record.finished_at is not None or record.journal is None:  # else whoever adopts it goes on with it
                self._account(record, workflow.alias)

    async def _follow(self, record: RunRecord, workflow: Workflow) -> None:
        names = (workflow.alias, workflow.provider.name)
        guard = self.means.guards.of(workflow.provider.name, workflow.alias)
        async with self.means.limits.follow(record.order.client, *names) as admission:
            await Leg(self.means, record, workflow, admission, guard).follow(record.provider_run_id or "")

    async def _along_the_fallbacks(self, record: RunRecord, first: Workflow) -> None:
        admission: Admission | None = None
        chain = [first, *(w for w in first.fallbacks if _can_take(w, record.order))]
        try:
            for position, workflow in enumerate(chain):
                record.provider = workflow.provider.name
                try:
                    guard = self._guard(workflow)
                    admission = await self._admit(record, workflow, admission)
                    record.limit_headers = admission.headers
                    guard.budget.count_run()
                    await Leg(self.means, record, workflow, admission, guard).travel()
                except Problem as problem:
                    if problem.code == "circuit_open" and admission is not None and not record.attempts:
                        admission.refund()  # it opened while this run waited: a refusal costs nothing
                        admission = None
                    if position + 1 == len(chain) or not _may_hand_on(problem, record, workflow):
                        raise
                    self.means.metrics.fell_back(first.alias, chain[position + 1].alias)
                else:
                    return
        finally:
            if admission is not None:
                admission.release()

    def _guard(self, workflow: Workflow) -> Guard:
        """Find the guard, and do not even ask the limits where its circuit is open."""
        guard = self.means.guards.of(workflow.provider.name, workflow.alias)
        if guard.breaker.retry_after() > 0:
            raise circuit_open(guard.breaker)
        return guard

    async def _admit(self, record: RunRecord, workflow: Workflow, admission: Admission | None) -> Admission:
        if record.order.waits:
            return await self._enter(record, workflow, admission)
        return await self._enter_in_time(record, workflow, admission)

    async def _enter_in_time(self, record: RunRecord, workflow: Workflow, admission: Admission | None) -> Admission:
        """Nobody waits at the door: keep the place in line, and come back where there is none, until the deadline."""
        clock = self.means.clock
        while (left := record.deadline - clock.monotonic()) > 0:
            try:
                return await self._enter(record, workflow, admission)
            except Problem as problem:
                wait = problem.retry_after or 1.0
                if problem.code == "overloaded":  # the line is full, or too long as it stands: others may leave it
                    wait = min(wait, _COME_BACK)
                elif problem.code != "rate_limited" or wait >= left:
                    raise
            await record.waiting(clock.sleep(min(wait, left)), clock)
        raise Problem("deadline_exceeded", "The deadline passed before the turn came.")

    async def _enter(self, record: RunRecord, workflow: Workflow, admission: Admission | None) -> Admission:
        order, names, deadline = record.order, (workflow.alias, workflow.provider.name), record.deadline
        limits, clock = self.means.limits, self.means.clock
        if admission is None:
            patience = None if order.waits else math.inf  # the deadline ends it
            entry = limits.admit(order.client, *names, deadline=deadline, wanted=order.wanted, patience=patience)
            return await record.waiting(entry, clock)
        await record.waiting(admission.move(*names, deadline=deadline), clock)
        return admission

    def _end_badly(self, problem: Problem, record: RunRecord) -> None:
        record.code = problem.code
        record.close(ending_of(problem), self.means.clock)
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

    def _account(self, record: RunRecord, alias: str) -> None:
        if record.finished_at is None:  # cancelled, or our own mistake
            record.close("not_run", self.means.clock)
        order = record.order
        self.means.metrics.run_ended(order.client, alias, record.provider, record.status, face=order.face)
        self.means.metrics.run_took(alias, record.provider, record.duration, record.duration - record.waited)


def _can_take(workflow: Workflow, order: Order) -> bool:
    """Whether a fallback can honour the label or version that the client asked for."""
    asked = order.label is not None or order.version is not None
    return not asked or (workflow.provider.adapter.versions and not workflow.pinned)


def _may_hand_on(problem: Problem, record: RunRecord, workflow: Workflow) -> bool:
    if problem.code in _STAYS:
        return False
    if workflow.repeatable:
        return ending_of(problem) != "failed"
    return ending_of(problem) == "not_run" and not record.maybe_started
