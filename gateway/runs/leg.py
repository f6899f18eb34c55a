"""Takes an adapter's steps: calls, pauses and retries of one run on one workflow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar, cast

from gateway.access.limits import Admission, Limits
from gateway.clock import Clock
from gateway.metrics import Metrics
from gateway.problems import PROBLEMS, Problem
from gateway.runs.breaker import Tolerance
from gateway.runs.catalog import Workflow
from gateway.runs.guards import Guard, Guards, circuit_open
from gateway.runs.hints import Hints
from gateway.runs.polling import Schedule
from gateway.runs.record import RunRecord
from gateway.runs.retry import RULES, Ending, Policy, Retry, Sent, verdict
from gateway.runs.watch import Watch
from providers.contract import Call, Cause, Outcome, Pause, ProviderFault, Reply, Run, Step, Steps

T = TypeVar("T")
_NOTHING = Reply(0)
_TIMER = 0.01  # seconds: a timer may ring that much early


@dataclass(slots=True)
class Means:
    """What every run is driven with. Without `hints` no provider is asked to call back."""

    limits: Limits
    policy: Policy
    schedule: Schedule
    guards: Guards
    clock: Clock
    metrics: Metrics
    hints: Hints | None = None

    def reconfigure(self, policy: Policy, tolerance: Tolerance) -> None:
        """Retry, and judge providers, by these from the next call on."""
        self.policy = policy
        self.guards.reconfigure(tolerance)


@dataclass(slots=True)
class Leg:
    """A run on one workflow: the adapter's steps, taken.

    There is a `watch` once the run is known to go on at the provider. An adapter has `ended` when it raised a fault,
    instead of yielding it.
    """

    means: Means
    record: RunRecord
    workflow: Workflow
    admission: Admission
    guard: Guard
    watch: Watch | None = None
    ended: bool = False

    async def travel(self) -> None:
        """Start the run and take every step; the record has the outcome then, or a Problem is raised."""
        self.record.provider_run_id = None  # that of a workflow tried before says nothing here
        await self._take(lambda: self.workflow.provider.adapter.steps(self._run()))

    async def follow(self, provider_run_id: str) -> None:
        """Take up a run that was started before, likewise."""
        self.watch = self._begin_to_watch()
        await self._take(lambda: self.workflow.provider.adapter.follow(provider_run_id))

    async def _take(self, begin: Callable[[], Steps | None]) -> None:
        self.record.status = "running"
        steps: Steps | None = None
        try:
            steps = begin()
            if steps is None:
                raise Problem("internal", "This provider can not be asked about a run.")
            step: Step | Outcome = next(steps)
            while not isinstance(step, Outcome):
                if isinstance(step, Call):
                    step = await self._perform(step, steps)
                elif isinstance(step, Pause):
                    step = await self._pause(step, steps)
                else:
                    raise step
            self._finish(step)
        except Problem:
            raise
        except Exception as mistake:  # an adapter's, or ours: the run may go on without us
            raise Problem("internal") from mistake
        finally:
            if steps is not None:
                steps.close()

    def _run(self) -> Run:
        order, workflow, hints = self.record.order, self.workflow, self.means.hints
        return Run(
            workflow=workflow.name,
            input=order.input,
            metadata=order.metadata,
            label=workflow.label or order.label,
            version=workflow.version or order.version,
            return_all_outputs=order.return_all_outputs,
            hint_url=hints.url(self.record.id) if hints else None,
        )

    async def _perform(self, call: Call, steps: Steps) -> Step | Outcome:
        try:
            return await self._once(call, steps)
        except ProviderFault as fault:
            first = fault
        try:
            return await self._again(call, steps, first)
        except ProviderFault as fault:
            # Without its traceback: that leads to frames that hold the fault and the run's input, a circle each.
            raise self._problem(fault.with_traceback(None), call) from None

    async def _once(self, call: Call, steps: Steps) -> Step | Outcome:
        try:
            return await (self._ask(call, steps) if call.safe else self._start(call, steps))
        except ProviderFault as fault:
            if self.ended:  # no other reply could be read
                raise self._problem(fault.with_traceback(None), call) from None
            raise

    async def _start(self, call: Call, steps: Steps) -> Step | Outcome:
        """Make a paid call, once. The breaker hears exactly one word about it."""
        record, breaker = self.record, self.guard.breaker
        if not record.order.wanted():
            raise Problem("client_closed_request")
        if record.journal is not None:
            await self._waiting(record.journal.sending(record))
        era = breaker.allow()
        if era is None:
            raise circuit_open(breaker)
        record.attempts += 1
        before, record.maybe_started = record.maybe_started, True  # as long as nothing better is known
        tell: Callable[[int], None] = breaker.gave_up
        try:
            step = await self._ask(call, steps)
            tell = breaker.succeeded
        except ProviderFault as fault:
            record.maybe_started = before or RULES[fault.cause].sent not in {Sent.NO, Sent.REJECTED}
            tell = self._word_about(fault)
            if record.journal is not None and not record.maybe_started:
                await self._waiting(record.journal.refused(record))
            raise
        finally:
            tell(era)
        return step

    def _word_about(self, fault: ProviderFault) -> Callable[[int], None]:
        """What a fault says about the provider: nothing, where we had no means or the client less time than usual."""
        breaker, record = self.guard.breaker, self.record
        late = fault.cause is Cause.TIMEOUT or self.means.clock.monotonic() >= record.deadline - _TIMER
        if fault.cause is Cause.EXHAUSTED or (late and record.order.timeout < self.workflow.timeout):
            return breaker.gave_up
        return breaker.failed if RULES[fault.cause].trips else breaker.succeeded

    async def _ask(self, call: Call, steps: Steps) -> Step | Outcome:
        """Make a call, once, and let the adapter read the reply."""
        deadline = self.record.deadline
        if call.safe:  # an unanswered question can be asked again, so it need not use up the run's whole time
            deadline = min(deadline, self.means.clock.monotonic() + self.means.schedule.timeout)
        trace = self.record.order.traceparent
        reply = await self._waiting(self.workflow.provider.upstream.send(call, deadline, trace))
        try:
            step = _advance(steps, reply)
        except ProviderFault:  # raised, not yielded
            self.ended = True
            raise
        if isinstance(step, ProviderFault):
            self.means.metrics.refused_reply(self.workflow.provider.name, call.operation, step.cause.value)
            raise step
        return step

    async def _again(self, call: Call, steps: Steps, first: ProviderFault) -> Step | Outcome:
        means, record, admission = self.means, self.record, self.admission

        async def attempt() -> Step | Outcome:
            turn = admission.poll if call.safe else admission.start_again
            await self._waiting(turn(deadline=record.deadline))
            return await self._once(call, steps)

        retry = Retry(
            means.policy,
            means.clock,
            call=call,
            repeatable=self.workflow.repeatable,
            deadline=record.deadline,
            permit=self.guard.permit_retry,
            sleep=lambda seconds: self._waiting(means.clock.sleep(seconds)),
        )
        return await retry.until_done(attempt, first, again=lambda fault: self._count_retry(call, fault))

    async def _pause(self, pause: Pause, steps: Steps) -> Step | Outcome:
        means, record = self.means, self.record
        if record.provider_run_id != pause.provider_run_id:
            record.provider_run_id = pause.provider_run_id
            if record.journal is not None:
                await self._waiting(record.journal.following(record))
        if self.watch is None:
            self.watch = self._begin_to_watch()
            self.watch.promised = pause.hinted
        await self.watch.rest()
        if means.clock.monotonic() >= record.deadline:
            detail = "The run goes on at the provider; the time for waiting is over."
            raise Problem("deadline_exceeded", detail, extra={"outcome": "unknown"})
        await self._waiting(self.admission.poll(deadline=record.deadline))
        return _advance(steps, _NOTHING)

    def _begin_to_watch(self) -> Watch:
        means = self.means
        rhythm = means.schedule.of(self.workflow.provider.name, self.workflow.alias)
        return Watch(self.record, rhythm, means.clock, means.hints, started=means.clock.monotonic())

    async def _waiting(self, patience: Awaitable[T]) -> T:
        return await self.record.waiting(patience, self.means.clock)

    def _count_retry(self, call: Call, fault: ProviderFault) -> None:
        self.means.metrics.retried(self.workflow.provider.name, call.operation, fault.cause.value)

    def _problem(self, fault: ProviderFault, call: Call) -> Problem:
        code, ending = verdict(fault, call, started=self.record.maybe_started)
        detail = f"{PROBLEMS[code].title}: {fault.detail}." if fault.detail else ""
        hint = fault.retry_after
        if hint is None and fault.cause is Cause.THROTTLED:
            hint = self.means.policy.backoff_max
        return Problem(code, detail, retry_after=hint, extra={"outcome": ending})

    def _finish(self, outcome: Outcome) -> None:
        record = self.record
        if self.watch is not None:
            self.watch.ended()
        record.output = outcome.output
        record.outputs = outcome.outputs
        record.warning = outcome.warning
        if outcome.provider_run_id is not None:
            record.provider_run_id = outcome.provider_run_id
        if not outcome.succeeded:
            detail = f"The run failed at the provider: {outcome.error}." if outcome.error else ""
            nodes = {"outputs": outcome.outputs} if record.order.return_all_outputs else {}
            raise Problem("run_failed", detail, extra={"outcome": "failed", **nodes})
        record.close("succeeded", self.means.clock)


def ending_of(problem: Problem) -> Ending:
    """How the run ended that met this problem, as far as the problem alone tells."""
    return cast("Ending", problem.extra.get("outcome", "not_run"))


def _advance(steps: Steps, reply: Reply) -> Step | Outcome:
    try:
        return steps.send(reply)
    except StopIteration as end:
        return cast("Outcome", end.value)
