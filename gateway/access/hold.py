"""What one run holds of the limits, from its admission until it leaves."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from gateway.access.gate import Gate
from gateway.access.limits import Fields
from gateway.access.line import Waiter
from gateway.access.state import State
from gateway.problems import Problem


class Hold:
    """An `Admission` in this process's memory."""

    __slots__ = (
        "_account",
        "_client",
        "_lane",
        "_patience",
        "_placed",
        "_released",
        "_state",
        "_wanted",
        "_workflow",
        "headers",
    )

    def __init__(
        self, state: State, client: str, wanted: Callable[[], bool] | None = None, patience: float | None = None
    ) -> None:
        """Hold nothing yet."""
        self._state = state
        self._client = client
        self._account = state.accounts.get(client)
        self._wanted = wanted
        self._patience = patience
        self._placed = False  # whether it has its slots of workflow and provider
        self._released = False
        self.headers: Fields = ()

    async def enter(self, workflow: str, provider: str, *, deadline: float) -> None:
        """Take all that a request needs, now or at its turn. Raises as `Limits.admit`."""
        state = self._state
        self._workflow, self._lane = state.workflow(workflow), state.lane(provider)
        now = state.monotonic()
        blocker = None
        if deadline > now and self._lane.open(self._workflow, now):
            problem = self._take(now)
        else:
            problem = self._refusal(now)
            if problem is None:
                blocker = await self._lane.start(self._entrant(now, deadline))
        if problem is not None:
            raise problem
        self._report_entered(blocker)

    def follow(self, workflow: str, provider: str) -> None:
        """See `Limits.follow`."""
        self._account = None
        self._workflow, self._lane = self._state.workflow(workflow), self._state.lane(provider)

    async def move(self, workflow: str, provider: str, *, deadline: float) -> None:
        """See `Admission.move`."""
        self._leave()
        self._workflow, self._lane = self._state.workflow(workflow), self._state.lane(provider)
        now = self._state.monotonic()
        blocker = None
        if deadline > now and self._lane.open(self._workflow, now):
            self._place(now)
        else:
            blocker = await self._lane.start(self._mover(now, deadline))
        self._report_shared(blocker)

    async def start_again(self, *, deadline: float) -> None:
        """See `Admission.start_again`."""
        lane, now = self._lane, self._state.monotonic()
        blocker = None
        if deadline > now and lane.open_for_call(now):
            lane.call(now)
        else:
            blocker = await lane.start_again(self._caller(now, deadline))
        self._report(lane.gate, blocker)

    async def poll(self, *, deadline: float) -> None:
        """See `Admission.poll`."""
        lane, now = self._lane, self._state.monotonic()
        blocker = None
        if deadline > now and lane.open_for_call(now):
            lane.call(now)
        else:
            blocker = await lane.poll(self._caller(now, deadline))
        self._report(lane.gate, blocker)

    def release(self) -> None:
        """See `Admission.release`."""
        if self._released:
            return
        self._released = True
        if self._account is not None:
            self._account.free()
        self._leave()

    def refund(self) -> None:
        """See `Admission.refund`."""
        if self._released:
            return
        if self._account is not None:
            self._account.refund()
        if self._placed:
            self._workflow.bucket.refund()
            self._lane.gate.bucket.refund()
        self.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _refusal(self, now: float) -> Problem | None:
        problem = None if self._account is None else self._account.refusal(now)
        if problem is not None and self._state.decided is not None:
            self._state.decided("client", "refused")
        return problem

    def _take(self, now: float) -> Problem | None:
        """Every bucket that a request needs, or none; the lane and the workflow are open."""
        account = self._account
        if account is not None:
            problem = self._refusal(now)
            if problem is not None:
                return problem
            account.take(now)
            self.headers = account.fields(now)
        self._place(now)
        return None

    def _place(self, now: float) -> None:
        self._workflow.take(now)
        self._lane.gate.take(now)
        self._placed = True

    def _displace(self) -> None:
        self._workflow.bucket.refund()
        self._lane.gate.bucket.refund()
        self._leave()

    def _leave(self) -> None:
        if self._placed:
            self._placed = False
            self._workflow.free()
            self._lane.free()

    def _waiter(
        self, now: float, deadline: float, take: Callable[[float], Problem | None], undo: Callable[[], None]
    ) -> Waiter:
        return Waiter(self._client, self._workflow, now, deadline, take, undo, self._is_wanted, self._patience)

    def _entrant(self, now: float, deadline: float) -> Waiter:
        return self._waiter(now, deadline, self._take, self.refund)

    def _mover(self, now: float, deadline: float) -> Waiter:
        return self._waiter(now, deadline, self._place, self._displace)

    def _caller(self, now: float, deadline: float) -> Waiter:
        return self._waiter(now, deadline, self._lane.call, self._lane.uncall)

    def _is_wanted(self) -> bool:
        return not self._released and (self._wanted is None or self._wanted())

    def _report_entered(self, blocker: Gate | None) -> None:
        if self._state.decided is not None and self._account is not None:
            self._state.decided("client", "admitted")
        self._report_shared(blocker)

    def _report_shared(self, blocker: Gate | None) -> None:
        self._report(self._workflow, blocker)
        self._report(self._lane.gate, blocker)

    def _report(self, gate: Gate, blocker: Gate | None) -> None:
        if self._state.decided is not None and gate.limited:
            self._state.decided(gate.scope, "waited" if gate is blocker else "admitted")
