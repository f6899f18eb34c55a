"""What one run holds of limits that replicas share, from its admission until it leaves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from gateway.access.gate import Gate
from gateway.access.hold import Hold
from gateway.access.line import Waiter
from gateway.access.redis_lane import AskingWaiter, SharedLane
from gateway.access.redis_ledger import How, Part
from gateway.access.redis_server import ServerLost
from gateway.access.redis_state import SharedState
from gateway.problems import Problem


class SharedHold(Hold):
    """An `Admission` that the server counts; where that is lost, this process does."""

    __slots__ = ("_ledger", "_shared", "_slot")

    def __init__(
        self,
        state: SharedState,
        client: str,
        wanted: Callable[[], bool] | None = None,
        patience: float | None = None,
    ) -> None:
        """Hold nothing yet."""
        super().__init__(state, client, wanted, patience)
        self._shared = state
        self._ledger = state.ledger
        self._slot = state.ledger.new_slot()

    async def enter(self, workflow: str, provider: str, *, deadline: float) -> None:
        """See `Hold.enter`: one round trip, where anything is limited and nobody waits."""
        state = self._shared
        self._workflow, self._lane = state.workflow(workflow), state.lane(provider)
        parts = self._all()
        taken = await self._asked_at_once(deadline, parts) if parts else None
        if taken is None:
            await super().enter(workflow, provider, deadline=deadline)
            return
        blocker = None
        if taken:
            self._entered()
        else:
            now = state.monotonic()
            problem = self._refusal(now)
            if problem is not None:
                raise problem
            blocker = await self._lane.start(self._entrant(now, deadline))
        self._report_entered(blocker)

    async def move(self, workflow: str, provider: str, *, deadline: float) -> None:
        """See `Admission.move`."""
        state = self._shared
        self._leave()
        self._workflow, self._lane = state.workflow(workflow), state.lane(provider)
        parts = self._place_parts()
        taken = await self._asked_at_once(deadline, parts) if parts else None
        if taken is None:
            await super().move(workflow, provider, deadline=deadline)
            return
        blocker = None
        if not taken:
            blocker = await self._lane.start(self._mover(state.monotonic(), deadline))
        elif self._released:  # while it asked
            self._ledger.give_back(self._slot, self._place_parts())
            raise _left()
        self._placed = True
        self._report_shared(blocker)

    async def start_again(self, *, deadline: float) -> None:
        """See `Admission.start_again`."""
        if not await self._called(deadline, self._lane.start_again):
            await super().start_again(deadline=deadline)

    async def poll(self, *, deadline: float) -> None:
        """See `Admission.poll`."""
        if not await self._called(deadline, self._lane.poll):
            await super().poll(deadline=deadline)

    def release(self) -> None:
        """See `Admission.release`."""
        if self._released:
            return
        held = self._ledger.held(self._slot)
        if self._ledger.shared and held:
            self._released, self._placed = True, False
            self._ledger.leave(self._slot, held, self._lane.pump)
        else:
            super().release()
            self._ledger.let_go(self._slot, held)

    def refund(self) -> None:
        """See `Admission.refund`."""
        if self._released:
            return
        if not self._ledger.shared:
            super().refund()
            return
        charged = self._all() if self._placed else self._shared.parts(self._account)
        self._released, self._placed = True, False
        self._give_back((*_charges(charged), *self._ledger.held(self._slot)))

    async def _called(self, deadline: float, line: Callable[[Waiter], Awaitable[Gate]]) -> bool:
        """Make one more call in the provider's rate, perhaps after a wait; False where the server does not count it."""
        rate, now = self._shared.rate(self._lane.gate), self._state.monotonic()
        if not rate or not self._ledger.shared:
            return False
        blocker, taken = None, False
        if deadline > now and self._shared_lane.no_call_before(now):
            try:
                taken = await self._ask("take", rate)
            except ServerLost:
                return False
        if not taken:
            blocker = await line(self._caller(self._state.monotonic(), deadline))
        self._report(self._lane.gate, blocker)
        return True

    @property
    def _shared_lane(self) -> SharedLane:
        return cast("SharedLane", self._lane)

    def _all(self) -> tuple[Part, ...]:
        return self._shared.parts(self._account, self._workflow, self._lane.gate)

    def _place_parts(self) -> tuple[Part, ...]:
        return self._shared.parts(self._workflow, self._lane.gate)

    def _places(self) -> tuple[Part, ...]:
        return tuple(part for part in self._ledger.held(self._slot) if part.waited_for)

    async def _asked_at_once(self, deadline: float, parts: tuple[Part, ...]) -> bool | None:
        """Whether the server lets it in now, before nobody who waits here; None where there is no server."""
        if not self._ledger.shared:
            return None
        now = self._state.monotonic()
        how: How = "take" if deadline > now and self._shared_lane.nobody_before(self._workflow, now) else "look"
        try:
            return await self._ask(how, parts)
        except ServerLost:
            return None

    async def _ask(self, how: How, parts: tuple[Part, ...]) -> bool:
        return await self._ledger.ask(how, self._slot, parts)

    def _entered(self) -> None:
        self._placed = True
        if self._account is not None:
            self.headers = self._account.fields(self._state.monotonic())

    def _take(self, now: float) -> Problem | None:
        problem = super()._take(now)
        if problem is None:
            self._ledger.hold(self._slot, self._shared.parts(self._account))
        return problem

    def _place(self, now: float) -> None:
        super()._place(now)
        self._ledger.hold(self._slot, self._place_parts())

    def _displace(self) -> None:
        if not self._ledger.shared:
            super()._displace()
            return
        self._placed = False
        self._give_back((*_charges(self._place_parts()), *self._places()))

    def _leave(self) -> None:
        if not self._placed:
            return
        if self._ledger.shared:
            self._placed = False
            self._ledger.leave(self._slot, self._places(), self._lane.pump)
        else:
            self._ledger.let_go(self._slot, self._places())
            super()._leave()

    def _uncall(self) -> None:
        if self._ledger.shared:
            self._give_back(self._shared.rate(self._lane.gate))
        else:
            self._lane.uncall()

    def _give_back(self, parts: tuple[Part, ...]) -> None:
        self._ledger.give_back(self._slot, parts, self._lane.pump)

    def _entrant(self, now: float, deadline: float) -> Waiter:
        return self._asker(super()._entrant(now, deadline), self.refund, self._ask_to_enter)

    def _mover(self, now: float, deadline: float) -> Waiter:
        return self._asker(super()._mover(now, deadline), self._displace, self._ask_to_move)

    def _caller(self, now: float, deadline: float) -> Waiter:
        return self._asker(super()._caller(now, deadline), self._uncall, self._ask_to_call)

    def _asker(self, w: Waiter, undo: Callable[[], None], ask: Callable[[], Awaitable[bool | Problem]]) -> Waiter:
        return AskingWaiter(w.client, w.workflow, w.since, w.deadline, w.take, undo, w.wanted, w.patience, ask=ask)

    async def _ask_to_enter(self) -> bool | Problem:
        if await self._ask("wait", self._all()):
            self._entered()
            return True
        now = self._state.monotonic()
        if self._lane.gate.blocked(now) or self._workflow.blocked(now):
            return False  # its turn has not come; what its client may take counts then
        return self._refusal(now) or False

    async def _ask_to_move(self) -> bool | Problem:
        if not await self._ask("wait", self._place_parts()):
            return False
        if self._released:  # while it asked
            self._ledger.give_back(self._slot, self._place_parts())
            return _left()
        self._placed = True
        return True

    async def _ask_to_call(self) -> bool:
        return await self._ask("wait", self._shared.rate(self._lane.gate))


def _charges(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    return tuple(part for part in parts if part.kind != "slots")


def _left() -> Problem:
    return Problem("client_closed_request", extra={"outcome": "not_run"})
