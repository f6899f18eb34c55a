"""Takes an adapter's steps: calls, pauses and retries of one run on one workflow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar, cast

from gateway.clock import Clock
from gateway.limits.admission import Admission
from gateway.limits.limiter import Limiter
from gateway.observability.metrics import Metrics
from gateway.problems import PROBLEMS, Problem
from gateway.runs.catalog import Workflow
from gateway.runs.model import RunRecord
from gateway.runs.polling.hints import PollHints
from gateway.runs.polling.poller import PollTimer
from gateway.runs.polling.schedule import PollSchedule
from gateway.runs.resilience.circuit_breaker import BreakerConfig
from gateway.runs.resilience.registry import CircuitRegistry, WorkflowGuard, circuit_open_problem
from gateway.runs.resilience.retry import RETRY_RULES, Dispatched, Ending, RetryLoop, RetryPolicy, classify_fault
from providers.contract import Call, Cause, Outcome, Pause, ProviderFault, Reply, Run, Step, Steps

T = TypeVar("T")
_NO_REPLY = Reply(0)
_TIMER_TOLERANCE = 0.01  # seconds: a timer may ring that much early


@dataclass(slots=True)
class ExecutionContext:
    """What every run is driven with. Without `hints` no provider is asked to call back."""

    limiter: Limiter
    retry_policy: RetryPolicy
    poll_schedule: PollSchedule
    circuits: CircuitRegistry
    clock: Clock
    metrics: Metrics
    poll_hints: PollHints | None = None

    def reconfigure(self, retry_policy: RetryPolicy, breaker_config: BreakerConfig) -> None:
        """Retry, and judge providers, by these from the next call on."""
        self.retry_policy = retry_policy
        self.circuits.reconfigure(breaker_config)


@dataclass(slots=True)
class WorkflowAttempt:
    """A run on one workflow: the adapter's steps, taken.

    There is a `watch` once the run is known to go on at the provider. An adapter has `ended` when it raised a fault,
    instead of yielding it.
    """

    context: ExecutionContext
    record: RunRecord
    workflow: Workflow
    admission: Admission
    guard: WorkflowGuard
    poll_timer: PollTimer | None = None
    adapter_ended: bool = False

    async def run(self) -> None:
        """Start the run and take every step; the record has the outcome then, or a Problem is raised."""
        self.record.provider_run_id = None  # that of a workflow tried before says nothing here
        await self._drive(lambda: self.workflow.provider.adapter.steps(self._build_provider_run()))

    async def follow(self, provider_run_id: str) -> None:
        """Take up a run that was started before, likewise."""
        self.poll_timer = self._new_poll_timer()
        await self._drive(lambda: self.workflow.provider.adapter.follow(provider_run_id))

    async def _drive(self, start_steps: Callable[[], Steps | None]) -> None:
        self.record.status = "running"
        steps: Steps | None = None
        try:
            steps = start_steps()
            if steps is None:
                raise Problem("internal", "This provider can not be asked about a run.")
            step: Step | Outcome = next(steps)
            while not isinstance(step, Outcome):
                if isinstance(step, Call):
                    step = await self._call_with_retries(step, steps)
                elif isinstance(step, Pause):
                    step = await self._wait_for_poll(step, steps)
                else:
                    raise step
            self._apply_outcome(step)
        except Problem:
            raise
        except Exception as error:  # an adapter's, or ours: the run may go on without us
            raise Problem("internal") from error
        finally:
            if steps is not None:
                steps.close()

    def _build_provider_run(self) -> Run:
        spec, workflow, poll_hints = self.record.spec, self.workflow, self.context.poll_hints
        return Run(
            workflow=workflow.name,
            input=spec.input,
            metadata=spec.metadata,
            label=workflow.label or spec.label,
            version=workflow.version or spec.version,
            return_all_outputs=spec.return_all_outputs,
            notify_url=poll_hints.notify_url(self.record.id) if poll_hints else None,
        )

    async def _call_with_retries(self, call: Call, steps: Steps) -> Step | Outcome:
        try:
            return await self._call_once(call, steps)
        except ProviderFault as fault:
            first_fault = fault
        try:
            return await self._retry(call, steps, first_fault)
        except ProviderFault as fault:
            # Without its traceback: that leads to frames that hold the fault and the run's input, a circle each.
            raise self._problem_from_fault(fault.with_traceback(None), call) from None

    async def _call_once(self, call: Call, steps: Steps) -> Step | Outcome:
        try:
            return await (self._send_and_read(call, steps) if call.safe else self._start_once(call, steps))
        except ProviderFault as fault:
            if self.adapter_ended:  # no other reply could be read
                raise self._problem_from_fault(fault.with_traceback(None), call) from None
            raise

    async def _start_once(self, call: Call, steps: Steps) -> Step | Outcome:
        """Make a paid call, once. The breaker hears exactly one word about it."""
        record, breaker = self.record, self.guard.breaker
        if not record.spec.client_connected():
            raise Problem("client_closed_request")
        if record.journal is not None:
            await self._await_external(record.journal.record_dispatch(record))
        generation = breaker.allow_start()
        if generation is None:
            raise circuit_open_problem(breaker)
        record.attempts += 1
        maybe_started_before, record.maybe_started = record.maybe_started, True  # as long as nothing better is known
        record_result: Callable[[int], None] = breaker.record_inconclusive
        try:
            step = await self._send_and_read(call, steps)
            record_result = breaker.record_success
        except ProviderFault as fault:
            record.maybe_started = maybe_started_before or RETRY_RULES[fault.cause].dispatched not in {
                Dispatched.NO,
                Dispatched.REJECTED,
            }
            record_result = self._breaker_result(fault)
            if record.journal is not None and not record.maybe_started:
                await self._await_external(record.journal.record_rejection(record))
            raise
        finally:
            record_result(generation)
        return step

    def _breaker_result(self, fault: ProviderFault) -> Callable[[int], None]:
        """What a fault says about the provider: nothing, where we had no means or the client less time than usual."""
        breaker, record = self.guard.breaker, self.record
        timed_out = fault.cause is Cause.TIMEOUT or self.context.clock.monotonic() >= record.deadline - _TIMER_TOLERANCE
        if fault.cause is Cause.EXHAUSTED or (timed_out and record.spec.timeout < self.workflow.timeout):
            return breaker.record_inconclusive
        return breaker.record_failure if RETRY_RULES[fault.cause].trips_breaker else breaker.record_success

    async def _send_and_read(self, call: Call, steps: Steps) -> Step | Outcome:
        """Make a call, once, and let the adapter read the reply."""
        deadline = self.record.deadline
        if call.safe:  # an unanswered question can be asked again, so it need not use up the run's whole time
            deadline = min(deadline, self.context.clock.monotonic() + self.context.poll_schedule.timeout)
        traceparent = self.record.spec.traceparent
        reply = await self._await_external(self.workflow.provider.upstream.send(call, deadline, traceparent))
        try:
            step = _next_step(steps, reply)
        except ProviderFault:  # raised, not yielded
            self.adapter_ended = True
            raise
        if isinstance(step, ProviderFault):
            self.context.metrics.reply_refused(self.workflow.provider.name, call.operation, step.cause.value)
            raise step
        return step

    async def _retry(self, call: Call, steps: Steps, first_fault: ProviderFault) -> Step | Outcome:
        context, record, admission = self.context, self.record, self.admission

        async def attempt() -> Step | Outcome:
            turn = admission.admit_poll if call.safe else admission.admit_retry
            await self._await_external(turn(deadline=record.deadline))
            return await self._call_once(call, steps)

        retry = RetryLoop(
            context.retry_policy,
            context.clock,
            call=call,
            repeatable=self.workflow.repeatable,
            deadline=record.deadline,
            permit_retry=self.guard.permit_retry,
            sleep=lambda seconds: self._await_external(context.clock.sleep(seconds)),
        )
        return await retry.run(attempt, first_fault, on_retry=lambda fault: self._count_retry(call, fault))

    async def _wait_for_poll(self, pause: Pause, steps: Steps) -> Step | Outcome:
        context, record = self.context, self.record
        if record.provider_run_id != pause.provider_run_id:
            record.provider_run_id = pause.provider_run_id
            if record.journal is not None:
                await self._await_external(record.journal.record_provider_run_id(record))
        if self.poll_timer is None:
            self.poll_timer = self._new_poll_timer()
            self.poll_timer.hint_promised = pause.will_notify
        await self.poll_timer.wait_until_next_poll()
        if context.clock.monotonic() >= record.deadline:
            detail = "The run goes on at the provider; the time for waiting is over."
            raise Problem("deadline_exceeded", detail, extra={"outcome": "unknown"})
        await self._await_external(self.admission.admit_poll(deadline=record.deadline))
        return _next_step(steps, _NO_REPLY)

    def _new_poll_timer(self) -> PollTimer:
        context = self.context
        estimate = context.poll_schedule.estimate_for(self.workflow.provider.name, self.workflow.alias)
        return PollTimer(self.record, estimate, context.clock, context.poll_hints, started=context.clock.monotonic())

    async def _await_external(self, awaitable: Awaitable[T]) -> T:
        return await self.record.await_external(awaitable, self.context.clock)

    def _count_retry(self, call: Call, fault: ProviderFault) -> None:
        self.context.metrics.call_retried(self.workflow.provider.name, call.operation, fault.cause.value)

    def _problem_from_fault(self, fault: ProviderFault, call: Call) -> Problem:
        code, ending = classify_fault(fault, call, started=self.record.maybe_started)
        detail = f"{PROBLEMS[code].title}: {fault.detail}." if fault.detail else ""
        retry_after = fault.retry_after
        if retry_after is None and fault.cause is Cause.THROTTLED:
            retry_after = self.context.retry_policy.backoff_max
        return Problem(code, detail, retry_after=retry_after, extra={"outcome": ending})

    def _apply_outcome(self, outcome: Outcome) -> None:
        record = self.record
        if self.poll_timer is not None:
            self.poll_timer.record_end()
        record.output = outcome.output
        record.outputs = outcome.outputs
        record.warning = outcome.warning
        if outcome.provider_run_id is not None:
            record.provider_run_id = outcome.provider_run_id
        if not outcome.succeeded:
            detail = f"The run failed at the provider: {outcome.error}." if outcome.error else ""
            nodes = {"outputs": outcome.outputs} if record.spec.return_all_outputs else {}
            raise Problem("run_failed", detail, extra={"outcome": "failed", **nodes})
        record.finish("succeeded", self.context.clock)


def ending_of(problem: Problem) -> Ending:
    """How the run ended that met this problem, as far as the problem alone tells."""
    return cast("Ending", problem.extra.get("outcome", "not_run"))


def _next_step(steps: Steps, reply: Reply) -> Step | Outcome:
    try:
        return steps.send(reply)
    except StopIteration as end:
        return cast("Outcome", end.value)
