"""Cancellation of a started run at its provider: the calls of the adapter that ask the provider to stop the run.

They are safe to repeat, need the provider's id of the run alone, and change nothing that is stored: the run ends as its
polls report. So any replica makes them, and a crash costs no more than another request.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from gateway.byte_budget import Hold, current_hold
from gateway.clock import Clock
from gateway.errors import RunError
from gateway.limits.admission import Admission
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.runs.catalog import Catalog, Provider
from gateway.runs.resilience.retry import RetryLoop
from gateway.runs.workflow_attempt import ExecutionContext
from gateway.store.records import Phase, RunOverview
from providers.contract import Call, CancelSteps, ProviderFault
from providers.declarations import can_cancel, cancel_steps

StopState: TypeAlias = Literal["too_late", "not_yet", "stopping", "not_stopped"]
"""What a request to stop a started run could do.

`too_late`: the provider cannot stop it. `not_yet`: the provider has not acknowledged its start. `stopping`: the
provider has accepted the request. `not_stopped`: the provider has not answered so.
"""

_RunKey: TypeAlias = tuple[str, str]  # id of a run, and the provider's id of it

_TIME = 10.0  # seconds for all calls of one request
_QUIET_TIME = 10.0  # seconds after the provider has accepted a request, in which it is not repeated
_MAX_ACCEPTED = 10_000


@dataclass(frozen=True, slots=True)
class _End:
    """The steps have ended: the provider has accepted the request, or says that it is too late."""

    accepted: bool


@dataclass(frozen=True, slots=True)
class _FinalFault:
    """The adapter has ended with a fault: the call cannot be repeated."""

    fault: ProviderFault


@dataclass(slots=True)
class ProviderCancellation:
    """Asks providers to stop runs. Concurrent requests for one run share its calls."""

    context: ExecutionContext
    catalog: Catalog
    clock: Clock
    log: Logger
    _asking: dict[_RunKey, asyncio.Task[StopState]] = field(default_factory=dict)
    _later: set[asyncio.Task[StopState]] = field(default_factory=set)
    _accepted: dict[_RunKey, float] = field(default_factory=dict)  # when, the oldest first

    async def stop(self, run: RunOverview) -> StopState:
        """Ask the provider to stop a run that was started and has not ended; returns after 10 s at the latest."""
        workflow = self.catalog.find_stored(run.workflow, run.provider) or self.catalog.placeholder_for(run.provider)
        if workflow is None or not can_cancel(workflow.provider.adapter):
            return "too_late"
        if run.phase is not Phase.FOLLOWING or run.provider_run_id is None:
            return "not_yet"
        key = run.id, run.provider_run_id
        if self._accepted.get(key, -_QUIET_TIME) + _QUIET_TIME > self.clock.monotonic():
            return "stopping"
        task = self._asking.get(key)
        if task is None:
            admission = self.context.limiter.admit_adopted(run.client, workflow.alias, workflow.provider.name)
            task = asyncio.create_task(self._ask(run, key, workflow.provider, admission))
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(task)  # a client that disconnects does not take the answer from the others

    def stop_later(self, run: RunOverview) -> None:
        """Ask the provider to stop a run in the background, as `stop`."""
        task = asyncio.create_task(self.stop(run))
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _ask(self, run: RunOverview, key: _RunKey, provider: Provider, admission: Admission) -> StopState:
        state: StopState = "not_stopped"
        fault: str | None = None
        with Hold(self.context.byte_budget) as hold:
            current_hold.set(hold)
            try:
                steps = cancel_steps(provider.adapter, key[1])
                if steps is None:
                    return "too_late"
                accepted = await _Calls(self.context, provider, admission, steps).make()
                state = "stopping" if accepted else "too_late"
            except ProviderFault as error:
                fault = error.cause.value
            except RunError as error:
                fault = error.code
            except Exception as error:  # noqa: BLE001 - a defect of the adapter: the run goes on
                self.log.error("internal_error", run_id=run.id, **json_logging.describe_exception(error))
        if state == "stopping":
            self._note_accepted(key)
        self.log.info("cancel_sent", run_id=run.id, client=run.client, provider=provider.name, state=state, fault=fault)
        return state

    def _note_accepted(self, key: _RunKey) -> None:
        now = self.clock.monotonic()
        self._accepted.pop(key, None)
        self._accepted[key] = now
        while len(self._accepted) > _MAX_ACCEPTED or self._accepted[next(iter(self._accepted))] + _QUIET_TIME <= now:
            del self._accepted[next(iter(self._accepted))]


class _Calls:
    """The calls of one cancellation, within `_TIME`. They take of the provider's rate as polls do."""

    def __init__(self, context: ExecutionContext, provider: Provider, admission: Admission, steps: CancelSteps) -> None:
        self._context = context
        self._provider = provider
        self._admission = admission
        self._steps = steps
        self._deadline = context.clock.monotonic() + _TIME

    async def make(self) -> bool:
        """Take the adapter's steps; returns whether the provider has accepted the request.

        Raises ProviderFault, DeadlineExceeded, and TypeError for a step that is not a safe call.
        """
        try:
            step: object = _next(self._steps)
            while not isinstance(step, _End):
                if not isinstance(step, Call) or not step.safe:
                    raise TypeError("a cancellation consists of safe calls")
                step = await self._call(step)
        finally:
            self._steps.close()
        return step.accepted

    async def _call(self, call: Call) -> object:
        """Make a call, repeat it as a poll, and return the next step."""
        context = self._context
        retry = RetryLoop(
            context.retry_policy,
            context.clock,
            call=call,
            repeatable=False,
            started=False,
            deadline=self._deadline,
            max_polls=context.retry_policy.max_attempts,
            permit_retry=lambda: True,
            sleep=context.clock.sleep,
        )
        try:
            step = await self._call_once(call)
        except ProviderFault as fault:
            first = fault.with_traceback(None)
            step = await retry.run(lambda: self._call_once(call), first, on_retry=lambda f: self._count_retry(call, f))
        if isinstance(step, _FinalFault):
            raise step.fault
        return step

    async def _call_once(self, call: Call) -> object:
        context = self._context
        await self._admission.admit_poll(deadline=self._deadline)
        deadline = min(self._deadline, context.clock.monotonic() + context.poll_schedule.timeout)
        reply = await self._provider.upstream.send(call, deadline)
        try:
            step: object = self._steps.send(reply)
        except StopIteration as end:
            return _End(end.value is True)
        except ProviderFault as fault:
            return _FinalFault(fault)
        if isinstance(step, ProviderFault):
            context.metrics.reply_refused(self._provider.name, call.operation, step.cause.value)
            raise step
        return step

    def _count_retry(self, call: Call, fault: ProviderFault) -> None:
        self._context.metrics.call_retried(self._provider.name, call.operation, fault.cause.value)


def _next(steps: CancelSteps) -> object:
    """Return the first step, or the end of steps without one."""
    try:
        return next(steps)
    except StopIteration as end:
        return _End(end.value is True)
