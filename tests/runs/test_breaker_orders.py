"""The circuit breaker under any order of events, late ones too, beside a plain account of what it may do."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.runs.breaker import Breaker, State, Tolerance
from tests.manual_clock import ManualClock

USUAL = Tolerance()


class BreakerMachine(RuleBasedStateMachine):
    """Starts that are asked for and end in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.changes: list[State] = []
        self.breaker = Breaker(USUAL, self.clock.monotonic, self.changes.append)
        self.probe: int | None = None  # the number of the one that is out
        self.blocked_until = 0.0
        self.cooldown = USUAL.cooldown
        self.number = 0
        self.out: list[tuple[int, int]] = []  # starts that have not ended: their numbers and eras
        self.current: set[int] = set()  # starts allowed while closed, of this closed time
        self.good: list[float] = []
        self.bad: list[float] = []

    @rule(count=st.integers(1, 3))
    def starts_are_asked_for(self, count: int) -> None:
        """As many more are out, if they may be made."""
        for _ in range(count):
            asked = self._ask()
            if asked is not None:
                self.out.append(asked)

    @rule()
    def a_few_starts_fail(self) -> None:
        """Enough to open a quiet circuit, one after the other."""
        for _ in range(USUAL.failures):
            asked = self._ask()
            if asked is not None:
                self._fails(*asked)

    def _ask(self) -> tuple[int, int] | None:
        """Closed: always. Open: never before its time. Half-open: never."""
        before = self.breaker.state
        era = self.breaker.allow()
        self.number += 1
        if before is State.CLOSED:
            assert era is not None
            self.current.add(self.number)
        elif before is State.HALF_OPEN:
            assert era is None, "a second probe was let out"
        else:
            assert (era is not None) == (self.clock.monotonic() >= self.blocked_until)
        if era is None:
            return None
        if before is not State.CLOSED:
            self.probe = self.number
        return self.number, era

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0, 1000), how=st.sampled_from(["succeeded", "failed", "given up"]))
    def a_start_ends(self, which: int, how: str) -> None:
        """Any of those that are out, stragglers of an earlier time too."""
        number, era = self.out.pop(which % len(self.out))
        if how == "failed":
            self._fails(number, era)
        elif how == "succeeded":
            self._succeeds(number, era)
        else:
            self.breaker.gave_up(era)
            self.probe = None if number == self.probe else self.probe

    @rule(seconds=st.one_of(st.none(), st.floats(0, 4), st.floats(0, 400)))
    def time_passes(self, seconds: float | None) -> None:
        """A little, or a lot, or exactly what is told as Retry-After."""
        self.clock.advance(self.breaker.retry_after() if seconds is None else seconds)

    @invariant()
    def the_state_is_the_accounts(self) -> None:
        """Half-open means that a probe is out; what is left of the cool-down is told exactly."""
        assert (self.probe is not None) == (self.breaker.state is State.HALF_OPEN)
        assert self.changes[-1:] in ([], [self.breaker.state])
        if self.breaker.state is State.OPEN:
            assert max(0.0, self.blocked_until - self.clock.monotonic()) == self.breaker.retry_after()

    def _succeeds(self, number: int, era: int) -> None:
        """A good probe closes the circuit; a straggler's success counts for nothing."""
        self.breaker.succeeded(era)
        if number == self.probe:
            self._closes()
            self.good = [self.clock.monotonic()]
        elif number in self.current:
            self.good.append(self.clock.monotonic())

    def _fails(self, number: int, era: int) -> None:
        """A failed probe opens it for longer; enough failures of this closed time open it."""
        self.breaker.failed(era)
        if number == self.probe:
            self.cooldown = min(self.cooldown * 6, 300)
            self._opens()
        elif number in self.current:
            self.bad.append(self.clock.monotonic())
            self._judge()

    def _judge(self) -> None:
        """After a failure while closed: it opened where it had to, and did not where it must not."""
        is_open = self.breaker.state is State.OPEN
        surely, perhaps = USUAL.window * 0.9 - 1e-6, USUAL.window + 1e-6
        if self._recent(self.bad, perhaps) < 3 or self._share(surely, perhaps) < 0.8:
            assert not is_open
        if self._recent(self.bad, surely) >= 3 and self._share(perhaps, surely) >= 0.8:
            assert is_open
        if is_open:
            self._opens()

    def _share(self, good_since: float, bad_since: float) -> float:
        bad = self._recent(self.bad, bad_since)
        return bad / (bad + self._recent(self.good, good_since))

    def _recent(self, moments: list[float], seconds: float) -> int:
        return sum(moment > self.clock.monotonic() - seconds for moment in moments)

    def _opens(self) -> None:
        self.probe = None
        self.current.clear()
        self.blocked_until = self.clock.monotonic() + self.cooldown

    def _closes(self) -> None:
        self.probe = None
        self.cooldown = USUAL.cooldown
        self.good, self.bad = [], []
        self.current.clear()


def test_no_order_of_events_breaks_its_rules() -> None:
    """R23: never two probes at once, nothing before its time, longer after each failed probe, closed by a good one."""
    run_state_machine_as_test(BreakerMachine, settings=settings(max_examples=150, stateful_step_count=60))
