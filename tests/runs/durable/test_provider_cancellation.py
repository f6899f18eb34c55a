"""Cancellation of started runs at a provider that can stop them: repeated safely, bounded, and ended by the polls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator, Sequence

import pytest

from gateway.api.operator_cancellations import OperatorCancellations
from gateway.errors import RunError
from gateway.runs.durable.provider_cancellation import StopState
from gateway.runs.model import RunRecord
from gateway.runs.record_rendering import client_timeline
from gateway.runs.timeline import decode_timeline
from gateway.store.records import Phase
from providers.contract import (
    Call,
    CancelSteps,
    Cause,
    Pause,
    ProviderFault,
    Reply,
    Step,
    ask,
    refusal,
)
from providers.promptlayer import PromptLayer
from tests.runs.durable.durable_harness import DurableRunsHarness
from tests.runs.executor_harness import ENDED, RUNNING, STARTED, ScriptedUpstream, ScriptStep, fault
from tests.support.clock import ManualClock
from tests.support.virtual_clock import VirtualClock, run_ready_tasks

ACCEPTED = Reply(202)
STOPPED = Reply(200, {"Answer": {"status": "FAILED", "error_message": "stopped", "is_output_node": True}})


class StoppableLayer(PromptLayer):
    """PromptLayer, if it could stop runs: 202 accepts the request, 409 says that it is too late."""

    can_cancel = True

    def cancel(self, provider_run_id: str) -> CancelSteps | None:
        """Ask for the end of a run."""
        return self._stop(provider_run_id)

    def _stop(self, provider_run_id: str) -> CancelSteps:
        return (yield from ask(Call("DELETE", f"/executions/{provider_run_id}", "cancel", safe=True), _read_stop))


def _read_stop(reply: Reply) -> bool:
    if reply.status not in {202, 409}:
        raise refusal(reply)
    return reply.status == 202


class StoppableUpstream(ScriptedUpstream):
    """Provider whose runs are in progress until a request to stop them is accepted. `stops`: replies to these."""

    def __init__(self, clock: ManualClock, stops: Sequence[ScriptStep]) -> None:
        super().__init__(clock, [RUNNING])
        self.stops = list(stops)
        self.stop_times: list[float] = []
        self.started, self.ended = STARTED, RUNNING
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, call: Call, deadline: float, traceparent: str = "") -> Reply:
        """See `Upstream.send`."""
        if call.method != "DELETE":
            if call.method == "POST":
                await self.gate.wait()
            self.script = [self.started if call.method == "POST" else self.ended]
            return await super().send(call, deadline, traceparent)
        self.stop_times.append(self.clock.monotonic())
        step = self.stops.pop(0) if len(self.stops) > 1 else self.stops[0]
        await asyncio.sleep(0)
        if isinstance(step, ProviderFault):
            raise step
        assert isinstance(step, Reply)
        if step.status == 202:
            self.ended = STOPPED
        return step


class Replica(DurableRunsHarness):
    """Replica with a workflow at a provider that can stop runs."""

    def __init__(
        self,
        *stops: ScriptStep,
        adapter: PromptLayer | None = None,
        predecessor: Replica | None = None,
        owner: str = "me",
    ) -> None:
        super().__init__(owner, predecessor=predecessor, clock=VirtualClock())
        assert isinstance(self.clock, VirtualClock)
        self.virtual_clock = self.clock
        upstream = StoppableUpstream(self.clock, stops or [ACCEPTED])
        self.upstream: StoppableUpstream = predecessor.upstream if predecessor else upstream
        workflow = self.harness.workflow(adapter or StoppableLayer(), name="layer")
        self.workflow = self.add_workflow(workflow, self.upstream)

    async def start(self) -> RunRecord:
        """Open the store, and start a run in the background that is in progress afterwards."""
        await self.open()
        run = await self.run_in_background(self.workflow)
        await run_ready_tasks()
        return run

    async def cancel(self, run: RunRecord) -> StopState | None:
        """Cancel a run as the API does; returns None if it has ended."""
        found = await self.cancellation.cancel("one", run.id)
        if found.phase is Phase.DONE:
            return None
        return await self.virtual_clock.run_until_done(self.cancellation.at_provider.stop(found))

    async def end_of(self, run: RunRecord) -> tuple[str, str | None]:
        """Let the run end; returns its status and error code."""
        await self.virtual_clock.run_for(60)
        document = await self.store.get_document(run.id)
        assert document is not None
        members = json.loads(document)
        return members["status"], members.get("error", {}).get("code")


async def test_a_run_in_progress_is_stopped_and_ends_as_its_polls_report() -> None:
    """One request to the provider, no second start, and never `not_run`: it was started."""
    replica = Replica()
    run = await replica.start()
    assert "stopping" == await replica.cancel(run)
    assert (1, "running") == (len(replica.upstream.stop_times), await replica.stored_status(run))
    assert ("failed", "run_failed") == await replica.end_of(run)
    assert (1, None) == (replica.upstream.starts, await replica.cancel(run))
    assert 1 == replica.harness.metric_value("runward_runs_total", outcome="failed")


async def test_a_run_whose_provider_ends_it_otherwise_keeps_that_end() -> None:
    """The provider accepts the request, and the run succeeds all the same."""
    replica = Replica()
    run = await replica.start()
    assert "stopping" == await replica.cancel(run)
    replica.upstream.ended = ENDED
    assert ("succeeded", None) == await replica.end_of(run)


async def test_requests_for_one_run_share_the_calls() -> None:
    """At once, and for a while after the provider has accepted one."""
    replica = Replica()
    run = await replica.start()
    states = await asyncio.gather(*(replica.cancel(run) for _ in range(20)))
    assert ({"stopping"}, 1) == (set(states), len(replica.upstream.stop_times))
    replica.upstream.ended = RUNNING  # the provider has not done what it accepted
    assert ("stopping", 1) == (await replica.cancel(run), len(replica.upstream.stop_times))
    await replica.virtual_clock.run_for(11)
    assert ("stopping", 2) == (await replica.cancel(run), len(replica.upstream.stop_times))
    assert 1 == replica.upstream.starts


async def test_any_replica_can_ask_the_provider() -> None:
    """It needs the provider's id of the run alone; the owner learns the end from its polls."""
    owner = Replica()
    run = await owner.start()
    other = Replica(predecessor=owner, owner="other")
    assert "stopping" == await other.cancel(run)
    assert (("failed", "run_failed"), 1) == (await owner.end_of(run), owner.upstream.starts)


async def test_a_disconnected_client_takes_the_answer_from_no_other() -> None:
    replica = Replica()
    run = await replica.start()
    found = await replica.cancellation.cancel("one", run.id)
    first, second = [asyncio.create_task(replica.cancellation.at_provider.stop(found)) for _ in range(2)]
    await asyncio.sleep(0)
    first.cancel()
    assert "stopping" == await second
    assert 1 == len(replica.upstream.stop_times)


@pytest.mark.parametrize(
    "failure", [fault(Cause.DISCONNECTED), fault(Cause.TIMEOUT), Reply(500), Reply(502), Reply(429, retry_after=1.0)]
)
async def test_a_request_without_an_answer_is_repeated(failure: ScriptStep) -> None:
    """It is safe to repeat, whatever the provider has made of it."""
    replica = Replica(failure, ACCEPTED)
    run = await replica.start()
    assert ("stopping", 2) == (await replica.cancel(run), len(replica.upstream.stop_times))
    assert 1 == replica.harness.metric_value("runward_retries_total", operation="cancel")


@pytest.mark.parametrize(
    ("failure", "requests"),
    [
        (fault(Cause.DISCONNECTED), 3),
        (Reply(503), 3),
        (Reply(503, retry_after=60.0), 1),
        (Reply(401), 2),
        (Reply(404), 2),
        (Reply(302), 2),
    ],
)
async def test_a_provider_that_does_not_accept_is_asked_a_few_times_only(failure: ScriptStep, requests: int) -> None:
    """Within 10 s; the run goes on, and the next request of the client asks again."""
    replica = Replica(failure)
    run = await replica.start()
    began = replica.clock.monotonic()
    assert ("not_stopped", requests) == (await replica.cancel(run), len(replica.upstream.stop_times))
    assert replica.clock.monotonic() - began <= 10
    assert "not_stopped" == await replica.cancel(run)
    assert 2 * requests == len(replica.upstream.stop_times)
    replica.upstream.stops = [ACCEPTED]
    assert "stopping" == await replica.cancel(run)
    assert ("failed", "run_failed") == await replica.end_of(run)


async def test_a_provider_that_says_that_it_is_too_late() -> None:
    replica = Replica(Reply(409))
    run = await replica.start()
    assert ("too_late", 1) == (await replica.cancel(run), len(replica.upstream.stop_times))
    replica.upstream.ended = ENDED
    assert ("succeeded", None) == await replica.end_of(run)


async def test_a_provider_that_cannot_stop_runs_is_not_asked() -> None:
    replica = Replica(adapter=PromptLayer())
    run = await replica.start()
    assert ("too_late", 0) == (await replica.cancel(run), len(replica.upstream.stop_times))


async def test_a_run_that_the_adapter_cannot_stop_is_too_late() -> None:
    class NamesNoTask(StoppableLayer):
        def cancel(self, provider_run_id: str) -> None:
            """Return None: this run cannot be stopped."""

    replica = Replica(adapter=NamesNoTask())
    run = await replica.start()
    assert ("too_late", 0) == (await replica.cancel(run), len(replica.upstream.stop_times))


@pytest.mark.parametrize("told_by_another", [True, False])
async def test_a_run_is_stopped_once_its_start_is_acknowledged(*, told_by_another: bool) -> None:
    """Before that, the provider's id of the run is not known."""
    replica = Replica()
    replica.upstream.gate.clear()
    run = await replica.start()
    replica.store.shared = True  # notifications are sent
    canceller = Replica(predecessor=replica, owner="other") if told_by_another else replica
    assert ("not_yet", 0) == (await canceller.cancel(run), len(replica.upstream.stop_times))
    await replica.cancellation.stop_cancelled()
    replica.upstream.gate.set()
    await run_ready_tasks()
    assert 1 == len(replica.upstream.stop_times)
    assert "stopping" == await replica.cancel(run)
    assert (("failed", "run_failed"), 1) == (await replica.end_of(run), replica.upstream.starts)
    assert 1 == len(replica.upstream.stop_times)


@pytest.mark.parametrize("told_by_another", [True, False])
async def test_the_timeline_has_the_operator_who_asked_after_the_client(*, told_by_another: bool) -> None:
    """Once each, whichever replica they ask; the client is not told the name."""
    replica = Replica()
    replica.upstream.gate.clear()
    run = await replica.start()
    replica.store.shared = True  # notifications are sent
    canceller = Replica(predecessor=replica, owner="other") if told_by_another else replica
    for _ in range(2):
        await canceller.cancel(run)
        await replica.cancellation.stop_cancelled()
    operators = OperatorCancellations(canceller.cancellation)
    assert "not_yet" == (await operators.cancel(run.id, "omar")).state
    await replica.cancellation.stop_cancelled()
    assert "not_yet" == (await operators.cancel(run.id, "olga")).state
    await replica.cancellation.stop_cancelled()
    replica.upstream.gate.set()
    await run_ready_tasks()
    stopping = await operators.cancel(run.id, None)
    assert ("running", "stopping", True) == (stopping.status, stopping.state, "accepted" in stopping.detail)
    await replica.end_of(run)
    lines = await replica.store.get_timeline(run.id)
    assert lines is not None
    events = [each for each in decode_timeline(lines) if each["event"] == "cancel_requested"]
    assert [(None, None), ("operator", "omar")] == [(each.get("by"), each.get("actor")) for each in events]
    assert b"omar" not in client_timeline(run.id, lines)


async def test_a_start_that_is_refused_after_an_operator_asked_is_the_last_one() -> None:
    """The client reads that an operator cancelled the run."""
    replica = Replica()
    replica.upstream.gate.clear()
    run = await replica.start()
    assert "not_yet" == (await OperatorCancellations(replica.cancellation).cancel(run.id, "omar")).state
    replica.upstream.started = Reply(429)
    replica.upstream.gate.set()
    assert ("not_run", "cancelled") == await replica.end_of(run)
    document = await replica.store.get_document(run.id)
    assert document is not None
    assert ("An operator cancelled the run.", 1) == (json.loads(document)["error"]["detail"], replica.upstream.starts)


async def test_a_request_during_a_start_that_is_refused_stops_nothing() -> None:
    """The run ends as cancelled, and the provider has none to stop."""
    replica = Replica()
    replica.upstream.gate.clear()
    run = await replica.start()
    assert "not_yet" == await replica.cancel(run)
    replica.upstream.started = Reply(429)
    replica.upstream.gate.set()
    assert ("not_run", "cancelled") == await replica.end_of(run)
    assert (1, 0) == (replica.upstream.starts, len(replica.upstream.stop_times))


async def test_a_run_of_a_removed_provider_is_too_late() -> None:
    replica = Replica()
    run = await replica.start()
    replica.workflows.clear()
    assert ("too_late", 0) == (await replica.cancel(run), len(replica.upstream.stop_times))


def starts_a_run(_: str) -> CancelSteps:
    """Yield a call that is not safe."""
    yield Call("POST", "/start", "start", safe=False)
    return True


def waits(_: str) -> CancelSteps:
    """Yield a pause."""
    yield Pause("787")
    return True


def raises(_: str) -> CancelSteps:
    """Raise an unexpected exception."""
    yield Call("DELETE", "/executions/787", "cancel", safe=True)
    raise ZeroDivisionError


def raises_a_fault(_: str) -> Generator[Step, Reply, bool]:
    """Raise a fault, which ends the steps."""
    yield Call("DELETE", "/executions/787", "cancel", safe=True)
    raise ProviderFault(Cause.THROTTLED)


@pytest.mark.parametrize(
    ("make", "requests", "logged"),
    [(starts_a_run, 0, 1), (waits, 0, 1), (raises, 1, 1), (raises_a_fault, 1, 0)],
)
async def test_an_adapter_that_errs_starts_nothing(
    make: Callable[[str], CancelSteps], requests: int, logged: int
) -> None:
    """A call that is not safe is never sent, and a defect does not end the run."""

    class Misbehaving(StoppableLayer):
        def cancel(self, provider_run_id: str) -> CancelSteps:
            """Return the steps of the test."""
            return make(provider_run_id)

    replica = Replica(adapter=Misbehaving())
    run = await replica.start()
    assert ("not_stopped", requests) == (await replica.cancel(run), len(replica.upstream.stop_times))
    assert logged == len([e for e in replica.log.entries if e["event"] == "internal_error"])
    assert 1 == replica.upstream.starts
    replica.upstream.ended = ENDED
    assert ("succeeded", None) == await replica.end_of(run)


async def test_a_run_of_a_waiting_client_is_stopped() -> None:
    """Its client is told how the provider ended it."""
    replica = Replica()
    await replica.open()
    run = replica.new_run(replica.workflow)
    waiting = asyncio.create_task(replica.run_and_wait(replica.workflow, run))
    await run_ready_tasks()
    assert "stopping" == await replica.cancel(run)
    await replica.virtual_clock.run_for(60)
    response = await waiting
    assert not isinstance(response, RunError)
    assert (502, "run_failed", "failed") == (
        response.status,
        *(json.loads(response.body)[name] for name in ("code", "outcome")),
    )


async def test_a_run_that_is_polled_after_its_deadline_is_stopped() -> None:
    replica = Replica()
    await replica.open()
    run = replica.new_run(replica.workflow, timeout=10, synchronous=False)
    await replica.run_in_background(replica.workflow, run)
    await replica.virtual_clock.run_for(30)
    assert "unknown" == await replica.stored_status(run)
    assert "stopping" == await replica.cancel(run)
    await replica.virtual_clock.run_for(120)
    assert ("failed", "run_failed") == await replica.end_of(run)
