"""Wait queues under random steps: every slot and charge is accounted for (R33, R90)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import RunError
from gateway.limits.admission import Admission
from gateway.limits.config import ClientLimitsConfig, RateLimit, ResourceLimitsConfig
from tests.limits.harness import LimiterHarness
from tests.support.examples import examples
from tests.support.virtual_clock import run_ready_tasks

CLIENTS = {"a": ClientLimitsConfig(RateLimit(20), 5, 3), "b": ClientLimitsConfig(concurrency=2)}
WORKFLOWS = {"slow": ResourceLimitsConfig(RateLimit(4), 2, concurrency=1, max_wait=0.4)}
PROVIDERS = {
    "p": ResourceLimitsConfig(RateLimit(10), 3, concurrency=3, max_wait=0.6),
    "q": ResourceLimitsConfig(concurrency=1),
}

STEP = st.one_of(
    st.tuples(st.just("admit"), st.sampled_from("abc"), st.sampled_from(["w", "slow"]), st.floats(0.01, 1.5)),
    st.tuples(st.sampled_from(["release", "refund", "cancel", "again", "poll"]), st.integers(0, 9)),
    st.tuples(st.just("move"), st.integers(0, 9), st.sampled_from(["p", "q"]), st.floats(0.01, 1.5)),
    st.tuples(st.just("pass"), st.floats(0.0, 0.5)),
)


@dataclass
class AdmissionScenario:
    """Admissions and tasks of one scenario."""

    harness: LimiterHarness = field(default_factory=lambda: LimiterHarness(CLIENTS, WORKFLOWS, PROVIDERS))
    admissions: dict[Admission, str] = field(default_factory=dict)
    busy: dict[Admission, asyncio.Task[None]] = field(default_factory=dict)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start_task(self, work: Coroutine[object, object, None], admission: Admission | None = None) -> None:
        """Start a task; a run does one thing at a time."""
        if admission is not None and admission in self.busy and not self.busy[admission].done():
            work.close()
            return
        self.tasks.append(self.harness.start_task(work))
        if admission is not None:
            self.busy[admission] = self.tasks[-1]

    async def admit(self, client: str, workflow: str, deadline_in: float) -> None:
        """Request admission."""
        harness = self.harness
        # "slow" belongs to one provider, as the configuration requires.
        provider = "q" if workflow != "slow" and harness.clock.random() < 0.5 else "p"
        self.admissions[await harness.limiter.admit(client, workflow, provider, deadline=harness.now + deadline_in)] = (
            client
        )

    def assert_invariants(self) -> None:
        """No limit is exceeded, and every slot in use is held by an admission."""
        state = self.harness.limiter.snapshot()
        own = Counter(client for client in self.admissions.values())
        for client, in_flight in state.clients.items():
            assert own[client] <= in_flight <= (CLIENTS[client].concurrency or 0)
        placed = Counter(scope for admission in self.admissions for scope in admission.held_scopes)
        assert placed["provider"] == sum(state.providers.values())
        for name, limits in PROVIDERS.items():
            assert 0 <= state.providers[name] <= (limits.concurrency or 0)
        assert 0 <= state.workflows["slow"] <= 1


async def _run_steps(scenario: AdmissionScenario, steps: Iterable[tuple[object, ...]]) -> None:
    for step in steps:
        match step:
            case ("admit", str(client), str(workflow), float(within)):
                scenario.start_task(scenario.admit(client, workflow, within))
            case ("pass", float(seconds)):
                await scenario.harness.clock.run_for(seconds)
            case ("cancel", int(number)) if scenario.tasks:
                scenario.tasks[number % len(scenario.tasks)].cancel()
            case (str(what), int(number), *rest) if scenario.admissions:
                _apply_step(scenario, list(scenario.admissions)[number % len(scenario.admissions)], what, rest)
            case _:
                pass
        if step[0] != "cancel":  # a cancellation is concurrent with the next step
            await run_ready_tasks()
            scenario.assert_invariants()


def _apply_step(scenario: AdmissionScenario, admission: Admission, what: str, rest: list[object]) -> None:
    now = scenario.harness.now
    match what, rest:
        case "release" | "refund", _:
            getattr(admission, what)()
            del scenario.admissions[admission]
        case "again", _:
            scenario.start_task(admission.admit_retry(deadline=now + 1), admission)
        case "poll", _:
            scenario.start_task(admission.admit_poll(deadline=now + 1), admission)
        case "move", [str(provider), float(within)]:
            scenario.start_task(admission.move_to_fallback("w", provider, deadline=now + within), admission)


async def _run_scenario(steps: list[tuple[object, ...]]) -> None:
    scenario = AdmissionScenario()
    await _run_steps(scenario, steps)
    await scenario.harness.clock.run_for(3)
    results = await asyncio.gather(*scenario.tasks, return_exceptions=True)
    assert all(r is None or isinstance(r, RunError | asyncio.CancelledError) for r in results)
    for admission in scenario.admissions:
        admission.release()
    scenario.admissions.clear()
    scenario.assert_invariants()
    state = scenario.harness.limiter.snapshot()
    assert {0} == {*state.clients.values(), *state.workflows.values(), *state.providers.values()}
    assert {0} == set(state.waiting.values())
    await _assert_full_capacity(scenario.harness)


async def _assert_full_capacity(harness: LimiterHarness) -> None:
    """After an hour every rate has its whole burst and every slot is free."""
    await harness.clock.run_for(3600)
    admissions = [await harness.limiter.admit("b", "w", "p", deadline=harness.now + 1) for _ in range(2)]
    admissions.append(await harness.limiter.admit("a", "slow", "p", deadline=harness.now + 1))
    for admission in admissions:
        admission.release()
    assert '"rate";r=4;t=1' == admissions[-1].headers[1][1]


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(STEP, min_size=8, max_size=80))
def test_slots_are_conserved_whatever_happens(steps: list[tuple[object, ...]]) -> None:
    """R33, R90: after releases, cancellations, time-outs and moves, each slot is held by one admission at most."""
    asyncio.run(_run_scenario(steps))


async def test_no_timer_is_left_when_no_request_waits() -> None:
    harness = LimiterHarness(providers={"p": ResourceLimitsConfig(concurrency=1)})
    first = await harness.admit()
    waiting = harness.start_task(harness.admit())
    await run_ready_tasks()
    assert 1 == harness.limiter.snapshot().timers
    first.release()
    await waiting
    assert 0 == harness.limiter.snapshot().timers


async def test_a_poll_passes_a_start_that_waits_for_a_slot() -> None:
    """A poll needs no slot, so a start that waits for one does not delay it."""
    harness = LimiterHarness(providers={"p": ResourceLimitsConfig(RateLimit(100), 9, concurrency=1)})
    admission = await harness.admit()
    waiting = harness.start_task(harness.admit())
    await run_ready_tasks()
    _, took = await harness.run_and_time(admission.admit_poll(deadline=harness.now + 1))
    assert 0.0 == took
    waiting.cancel()


async def test_a_new_request_does_not_overtake_a_waiting_one_that_can_be_admitted() -> None:
    """A request may arrive after the rate allows the next one and before the timer fires."""
    harness = LimiterHarness(providers={"p": ResourceLimitsConfig(RateLimit(1), 1)})
    await harness.admit()
    waiting = harness.start_task(harness.admit("a"))
    await run_ready_tasks()
    harness.clock.advance(1.0)  # the timer has not fired yet
    newcomer = harness.start_task(harness.admit("b"))
    await run_ready_tasks()
    assert (True, False) == (waiting.done(), newcomer.done())
    newcomer.cancel()
