"""Attempt of a run on one workflow: drives the adapter's steps, which are calls, pauses and retries."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Iterable
from dataclasses import dataclass, field
from math import inf
from typing import TypeAlias, TypeVar, cast

from gateway.byte_budget import AnswerSizes, ByteBudget
from gateway.clock import Clock
from gateway.errors import (
    ClientDisconnected,
    DeadlineExceeded,
    InternalError,
    ProviderError,
    RunError,
    RunFailed,
    StartExpired,
    as_sentence,
)
from gateway.limits.admission import Admission
from gateway.limits.limiter import Limiter
from gateway.observability.metrics import Metrics
from gateway.observability.tracing.spans import Tracer
from gateway.problems import PROBLEMS
from gateway.runs.budgets.keeper import BudgetKeeper
from gateway.runs.catalog import Workflow
from gateway.runs.model import NULL_JOURNAL, Journal, RunRecord
from gateway.runs.polling.poll_timer import PollTimer
from gateway.runs.polling.provider_hints import ProviderHints
from gateway.runs.polling.schedule import PollSchedule
from gateway.runs.resilience.circuit_breaker import BreakerConfig, StartResult
from gateway.runs.resilience.registry import CircuitRegistry, WorkflowGuard
from gateway.runs.resilience.retry import RETRY_RULES, DispatchState, RetryLoop, RetryPolicy, classify_fault
from gateway.runs.run_tracing import send_traced
from gateway.runs.timeline import WaitCause
from providers.contract import Call, Cause, Outcome, Pause, ProviderFault, Reply, Run, Step, Steps

T = TypeVar("T")
_NO_REPLY = Reply(0)
STILL_RUNNING = "The deadline passed; the run continues at the provider."
# Of each start: CPython 3.11 takes 70 ns to find a member in its class.
_INCONCLUSIVE, _SUCCESS = StartResult.INCONCLUSIVE, StartResult.SUCCESS
_TIMER_TOLERANCE = 0.01  # seconds by which a timer may fire early


@dataclass(slots=True, eq=False)
class RepeatableFault:
    """A call failed, or the adapter refused its reply: the adapter waits for another reply, so it may be repeated."""

    fault: ProviderFault


@dataclass(slots=True, eq=False)
class FinalFault:
    """The adapter raised a fault and has ended: the call cannot be repeated."""

    fault: ProviderFault


NextStep: TypeAlias = Call | Pause | Outcome
"""The adapter's next step after it has accepted a reply."""

StepResult: TypeAlias = NextStep | RepeatableFault | FinalFault
"""Result of one call."""


@dataclass(slots=True)
class ExecutionContext:
    """Services that all runs share. Without `poll_hints` no provider is asked to call back. `tracer`: None if off.

    `budgets`: None if nothing is reserved, in tests.
    """

    limiter: Limiter
    retry_policy: RetryPolicy
    poll_schedule: PollSchedule
    circuits: CircuitRegistry
    clock: Clock
    metrics: Metrics
    poll_hints: ProviderHints | None = None
    byte_budget: ByteBudget = field(default_factory=ByteBudget)
    answer_sizes: AnswerSizes = field(default_factory=AnswerSizes)
    tracer: Tracer | None = None
    budgets: BudgetKeeper | None = None

    def reconfigure(self, retry_policy: RetryPolicy, breaker_config: BreakerConfig) -> None:
        """Apply another retry policy and other thresholds from the next call on."""
        self.retry_policy = retry_policy
        self.circuits.reconfigure(breaker_config)


@dataclass(slots=True)
class WorkflowAttempt:
    """Attempt of a run on one workflow. `poll_timer` exists once the provider has reported that the run is in progress.

    `client_waits`: the run must end by its deadline; otherwise a started run is polled on after it. `repairs` name what
    was not valid JSON in the provider's responses. `resends`: how often the call in progress was made before.
    """

    context: ExecutionContext
    record: RunRecord
    workflow: Workflow
    admission: Admission
    guard: WorkflowGuard
    journal: Journal
    client_waits: bool
    poll_timer: PollTimer | None = None
    repairs: dict[str, None] = field(default_factory=dict)
    resends: int = 0

    def run(self) -> Coroutine[object, object, None]:
        """Start the run and drive it to its end; the record then has the outcome. Raises RunError."""
        self.record.provider_run_id = None  # the id of another workflow's run has no meaning here
        return self._drive(None)

    def follow(self, provider_run_id: str) -> Coroutine[object, object, None]:
        """Drive a run that was started before to its end. Raises RunError."""
        self.poll_timer = self._new_poll_timer(self.record.started_monotonic)
        return self._drive(provider_run_id)

    async def _drive(self, provider_run_id: str | None) -> None:
        """Take the adapter's steps, from the start or, with a `provider_run_id`, of a run that was started before."""
        if not self.record.followed:
            self.record.status = "running"
        steps: Steps | None = None
        labels, in_progress = (self.workflow.provider.name,), self.context.metrics.in_progress
        in_progress[labels] += 1
        try:
            adapter = self.workflow.provider.adapter
            if provider_run_id is None:
                steps = adapter.steps(self._build_provider_run())
            else:
                steps = adapter.follow(provider_run_id)
            if steps is None:
                raise InternalError("This provider cannot be asked about a run.")
            step = _accepted(next(steps))
            while not isinstance(step, Outcome):
                if isinstance(step, Pause):
                    step = await self._wait_for_poll(step, steps)
                    continue
                call, self.resends = step, 0
                result = await (self._send_and_read(call, steps) if call.safe else self._start_once(call, steps))
                if isinstance(result, (RepeatableFault, FinalFault)):
                    step = await self._repeat_call(call, steps, result)
                else:
                    step = result
            self._apply_outcome(step)
        except RunError:
            raise
        except Exception as error:  # a defect of the adapter or of the gateway: the run may go on at the provider
            raise InternalError from error
        finally:
            in_progress[labels] -= 1
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

    async def _repeat_call(self, call: Call, steps: Steps, result: StepResult) -> NextStep:
        """Repeat a failed call as the retry table says; returns the adapter's next step. Raises ProviderError."""
        if isinstance(result, RepeatableFault) and call.optional:
            return _accepted(_next_step(steps, _NO_REPLY))
        too_late = not call.safe and self.record.must_not_start(self.context.clock)
        if isinstance(result, RepeatableFault) and not too_late:
            result = await self._retry(call, steps, result.fault)
        while isinstance(result, RepeatableFault) and call.safe and await self._follow_on():
            result = await self._retry(call, steps, result.fault)
        if isinstance(result, (RepeatableFault, FinalFault)):
            raise self._error_from_fault(result.fault, call) from None
        return result

    async def _start_once(self, call: Call, steps: Steps) -> StepResult:
        """Send the start request once and report its result to the circuit breaker exactly once."""
        record, breaker = self.record, self.guard.breaker
        if not record.spec.client_connected():
            raise ClientDisconnected
        if record.start_by < inf:
            self._require_in_time()
        if record.reservation is not None:
            await self._extend_reservation()
        if self.journal is not NULL_JOURNAL:  # it would only cost a coroutine
            await self.journal.record_dispatch()
        if record.start_by < inf:  # the store may have taken long
            self._require_in_time()
        start_result, generation = _INCONCLUSIVE, breaker.start()
        try:
            record.attempts += 1
            maybe_started_before, record.maybe_started = record.maybe_started, True  # until the result says otherwise
            price = record.price or 0
            record.maybe_paid += price
            result = await self._send_and_read(call, steps)
            if not isinstance(result, (RepeatableFault, FinalFault)):
                start_result = _SUCCESS
                return result
            dispatched = RETRY_RULES[result.fault.cause].dispatched
            if dispatched in {DispatchState.NO, DispatchState.REJECTED}:
                record.maybe_started = maybe_started_before
                record.maybe_paid -= price
            start_result = self._start_result(result.fault)
        finally:
            breaker.record(start_result, generation)
        if not record.maybe_started:
            await self.journal.record_rejection()
        return result

    async def _extend_reservation(self) -> None:
        """Reserve the price of another start, if an earlier one may have been executed (of a repeatable run)."""
        budgets = self.context.budgets
        if budgets is not None and budgets.must_extend(self.record):
            await budgets.reserve(self.record, self.workflow)

    def _require_in_time(self) -> None:
        if self.record.must_not_start(self.context.clock):
            raise StartExpired

    def _start_result(self, fault: ProviderFault) -> StartResult:
        """Judge the provider by a fault; inconclusive if the gateway lacked resources or the client gave less time."""
        record = self.record
        timed_out = fault.cause is Cause.TIMEOUT or self.context.clock.monotonic() >= record.deadline - _TIMER_TOLERANCE
        if fault.cause is Cause.EXHAUSTED or (timed_out and record.spec.timeout < self.workflow.timeout):
            return _INCONCLUSIVE
        return StartResult.FAILURE if RETRY_RULES[fault.cause].trips_breaker else _SUCCESS

    async def _send_and_read(self, call: Call, steps: Steps) -> StepResult:
        """Make a call once, and let the adapter read the reply."""
        record, provider, monotonic = self.record, self.workflow.provider, self.context.clock.monotonic
        sent_at, deadline = monotonic(), record.deadline
        if call.safe:  # a poll without a reply can be repeated, so it need not use the run's whole time
            deadline = min(deadline, sent_at + self.context.poll_schedule.timeout)
        # Faults lose their traceback: its frames refer to the fault and to the run's input, a reference cycle each.
        try:
            if record.span is None:
                reply = await provider.upstream.send(call, deadline, record.spec.traceparent)
            else:
                reply = await send_traced(provider, call, deadline, record.span, self.resends)
        except ProviderFault as fault:
            cause, dispatched = fault.cause, RETRY_RULES[fault.cause].dispatched
            sent = "no" if dispatched is DispatchState.NO else "maybe" if dispatched is DispatchState.MAYBE else "yes"
            record.timeline.add_call(
                sent_at, monotonic() - sent_at, (call.operation, None, cause.value, sent), reused=None
            )
            if call.safe and fault.cause is Cause.UNREACHABLE and monotonic() >= record.deadline - _TIMER_TOLERANCE:
                return RepeatableFault(ProviderFault(Cause.TIMEOUT))  # the deadline ended the attempt to connect
            return RepeatableFault(fault.with_traceback(None))
        finally:
            seconds = monotonic() - sent_at
            record.external_wait += seconds
        record.timeline.add_call(
            sent_at, seconds, (call.operation, reply.status, None, "yes"), reused=reply.connection_reused
        )
        if reply.repairs:
            self.repairs |= dict.fromkeys(reply.repairs)
        try:
            step = steps.send(reply)
        except StopIteration as end:
            return cast("Outcome", end.value)
        except ProviderFault as fault:
            return FinalFault(fault.with_traceback(None))
        if isinstance(step, ProviderFault):
            self.context.metrics.reply_refused(provider.name, call.operation, step.cause.value)
            return RepeatableFault(step)
        return step

    async def _retry(self, call: Call, steps: Steps, first_fault: ProviderFault) -> StepResult:
        context, record = self.context, self.record

        async def attempt() -> StepResult:
            if call.safe:
                await self._admit_poll()
            else:
                await self._await_external(self.admission.admit_retry(deadline=record.deadline), "limit")
            self.resends += 1
            result = await (self._send_and_read(call, steps) if call.safe else self._start_once(call, steps))
            if isinstance(result, RepeatableFault):
                raise result.fault
            return result

        retry = RetryLoop(
            context.retry_policy,
            context.clock,
            call=call,
            repeatable=self.workflow.repeatable,
            started=record.maybe_started,
            deadline=record.deadline,
            max_poll_interval=context.poll_schedule.max_interval,
            permit_retry=self.guard.permit_retry,
            sleep=lambda seconds: self._await_external(context.clock.sleep(seconds), "backoff"),
        )
        try:
            return await retry.run(attempt, first_fault, on_retry=lambda fault: self._count_retry(call, fault))
        except ProviderFault as fault:
            return RepeatableFault(fault.with_traceback(None))

    async def _wait_for_poll(self, pause: Pause, steps: Steps) -> NextStep:
        context, record = self.context, self.record
        if record.provider_run_id != pause.provider_run_id:
            record.provider_run_id = pause.provider_run_id
            await self.journal.record_provider_run_id()
        if pause.nodes:
            record.nodes = pause.nodes
        if self.poll_timer is None:
            self.poll_timer = self._new_poll_timer(context.clock.monotonic())
            self.poll_timer.hint_promised = pause.will_notify
        await self.poll_timer.wait_until_next_poll()
        if context.clock.monotonic() >= record.deadline and not await self._follow_on():
            raise DeadlineExceeded(STILL_RUNNING, ending="unknown")
        await self._admit_poll()
        return _accepted(_next_step(steps, _NO_REPLY))

    async def _admit_poll(self) -> None:
        """Wait until the provider's rate allows a poll. Raises DeadlineExceeded."""
        try:
            await self._await_external(self.admission.admit_poll(deadline=self.record.deadline), "limit")
        except DeadlineExceeded:
            if not await self._follow_on():
                raise
            await self._await_external(self.admission.admit_poll(deadline=self.record.deadline), "limit")

    async def _follow_on(self) -> bool:
        """Extend the deadline of a started run whose client does not wait, once; returns whether it was extended.

        The run no longer occupies a slot of its limits: it may never end.
        """
        context, record, workflow = self.context, self.record, self.workflow
        seconds = context.poll_schedule.follow_for
        if self.client_waits or record.followed or record.provider_run_id is None or seconds <= 0:
            return False
        record.followed, record.status = True, "unknown"
        record.timeline.add(context.clock.monotonic(), "deadline_passed")
        record.deadline += seconds
        self.admission.release()
        self.admission = context.limiter.admit_adopted(record.spec.client, workflow.alias, workflow.provider.name)
        await self.journal.record_deadline()
        return True

    def _new_poll_timer(self, started: float) -> PollTimer:
        context = self.context
        estimate = context.poll_schedule.estimate_for(self.workflow.provider.name, self.workflow.alias)
        return PollTimer(self.record, estimate, context.clock, context.poll_hints, started=started)

    async def _await_external(self, awaitable: Awaitable[T], cause: WaitCause) -> T:
        return await self.record.await_external(awaitable, self.context.clock, cause)

    def _count_retry(self, call: Call, fault: ProviderFault) -> None:
        self.context.metrics.call_retried(self.workflow.provider.name, call.operation, fault.cause.value)

    def _error_from_fault(self, fault: ProviderFault, call: Call) -> ProviderError:
        code, ending, falls_back = classify_fault(fault, call, started=self.record.maybe_started)
        detail = as_sentence(f"{PROBLEMS[code].title}: {fault.detail}") if fault.detail else ""
        retry_after = fault.retry_after
        if retry_after is None and fault.cause is Cause.THROTTLED:
            retry_after = self.context.retry_policy.backoff_max
        return ProviderError(code, detail, ending=ending, falls_back=falls_back, retry_after=retry_after)

    def _apply_outcome(self, outcome: Outcome) -> None:
        record = self.record
        if self.poll_timer is not None:
            self.poll_timer.record_end()
        record.output = outcome.output
        record.outputs = outcome.outputs
        record.raw_errors = outcome.raw_errors
        record.warning = _warning(outcome.warning, self.repairs) if self.repairs else outcome.warning
        if outcome.provider_run_id is not None:
            record.provider_run_id = outcome.provider_run_id
        if not outcome.succeeded:
            detail = as_sentence(f"The run failed at the provider: {outcome.error}") if outcome.error else ""
            raise RunFailed(detail, outputs=outcome.outputs, shows_outputs=record.spec.return_all_outputs)
        record.finish("succeeded", self.context.clock)


def _warning(warning: str | None, repairs: Iterable[str]) -> str | None:
    """Join the provider's warning and the repairs of its responses."""
    report = f"The provider's response is not strict JSON: {', '.join(repairs)}."
    return f"{as_sentence(warning)} {report}" if warning else report


def _next_step(steps: Steps, reply: Reply) -> Step | Outcome:
    try:
        return steps.send(reply)
    except StopIteration as end:
        return cast("Outcome", end.value)


def _accepted(step: Step | Outcome) -> NextStep:
    """Return the step. Raises the fault of an adapter that refuses a reply where it had none: a defect."""
    if isinstance(step, ProviderFault):
        raise step
    return step
