"""The waiting lines under anything that may happen to a run: every slot and charge is accounted for (R33, R90)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.hold import Hold
from gateway.access.lane import Lane
from gateway.access.limits import ClientLimits, Rate, SharedLimits
from gateway.problems import Problem
from tests.access.virtual_clock import settle
from tests.access.worlds import World

CLIENTS = {"a": ClientLimits(Rate(20), 5, 3), "b": ClientLimits(concurrency=2)}
WORKFLOWS = {"slow": SharedLimits(Rate(4), 2, concurrency=1, max_wait=0.4)}
PROVIDERS = {"p": SharedLimits(Rate(10), 3, concurrency=3, max_wait=0.6), "q": SharedLimits(concurrency=1)}

STEP = st.one_of(
    st.tuples(st.just("admit"), st.sampled_from("abc"), st.sampled_from(["w", "slow"]), st.floats(0.01, 1.5)),
    st.tuples(st.sampled_from(["release", "refund", "cancel", "again", "poll"]), st.integers(0, 9)),
    st.tuples(st.just("move"), st.integers(0, 9), st.sampled_from(["p", "q"]), st.floats(0.01, 1.5)),
    st.tuples(st.just("pass"), st.floats(0.0, 0.5)),
)


@dataclass
class Scene:
    """Runs that come and go in one world."""

    world: World = field(default_factory=lambda: World(CLIENTS, WORKFLOWS, PROVIDERS))
    held: dict[Hold, str] = field(default_factory=dict)
    busy: dict[Hold, asyncio.Task[None]] = field(default_factory=dict)
    work: list[asyncio.Task[None]] = field(default_factory=list)

    def begin(self, work: Coroutine[object, object, None], hold: Hold | None = None) -> None:
        """Do it on the side; a run does one thing at a time."""
        if hold is not None and hold in self.busy and not self.busy[hold].done():
            work.close()
            return
        self.work.append(self.world.begin(work))
        if hold is not None:
            self.busy[hold] = self.work[-1]

    async def admit(self, client: str, workflow: str, within: float) -> None:
        """Come in."""
        world = self.world
        # "slow" belongs to one provider, as the contract wants it.
        provider = "q" if workflow != "slow" and world.clock.random() < 0.5 else "p"
        self.held[await world.limits.admit(client, workflow, provider, deadline=world.now + within)] = client

    def check(self) -> None:
        """Nothing is used above its limit, and nothing by nobody."""
        state = self.world.limits._state
        own = Counter(client for client in self.held.values())
        for client, account in state.accounts.items():
            assert own[client] <= account.in_flight <= CLIENTS[client].concurrency  # type: ignore[operator]
        placed = Counter(id(hold._lane) for hold in self.held if hold._placed)
        for name, limits in PROVIDERS.items():
            lane = state.lane(name)
            assert placed[id(lane)] == lane.gate.in_flight <= (limits.concurrency or 0)
        slow = state.workflow("slow")
        assert sum(hold._workflow is slow and hold._placed for hold in self.held) == slow.in_flight <= 1


async def _play(scene: Scene, steps: Iterable[tuple[object, ...]]) -> None:
    for step in steps:
        match step:
            case ("admit", str(client), str(workflow), float(within)):
                scene.begin(scene.admit(client, workflow, within))
            case ("pass", float(seconds)):
                await scene.world.clock.run_for(seconds)
            case ("cancel", int(number)) if scene.work:
                scene.work[number % len(scene.work)].cancel()
            case (str(what), int(number), *rest) if scene.held:
                _act(scene, list(scene.held)[number % len(scene.held)], what, rest)
            case _:
                pass
        if step[0] != "cancel":  # a cancellation meets whatever comes next in the same moment
            await settle()
            scene.check()


def _act(scene: Scene, hold: Hold, what: str, rest: list[object]) -> None:
    now = scene.world.now
    match what, rest:
        case "release" | "refund", _:
            getattr(hold, what)()
            del scene.held[hold]
        case "again", _:
            scene.begin(hold.start_again(deadline=now + 1), hold)
        case "poll", _:
            scene.begin(hold.poll(deadline=now + 1), hold)
        case "move", [str(provider), float(within)]:
            scene.begin(hold.move("w", provider, deadline=now + within), hold)


async def _scene(steps: list[tuple[object, ...]]) -> None:
    scene = Scene()
    await _play(scene, steps)
    await scene.world.clock.run_for(3)
    results = await asyncio.gather(*scene.work, return_exceptions=True)
    assert all(r is None or isinstance(r, Problem | asyncio.CancelledError) for r in results)
    for hold in scene.held:
        hold.release()
    scene.held.clear()
    scene.check()
    state = scene.world.limits._state
    assert [0, 0] == [state.accounts[name].in_flight for name in CLIENTS]
    assert [0, 0] == [scene.world.limits.waiting(name) for name in PROVIDERS]
    await _all_of_it_is_there(scene.world)


async def _all_of_it_is_there(world: World) -> None:
    """An hour later every bucket gives its whole burst and every gate all its slots."""
    await world.clock.run_for(3600)
    holds = [await world.limits.admit("b", "w", "p", deadline=world.now + 1) for _ in range(2)]
    holds.append(await world.limits.admit("a", "slow", "p", deadline=world.now + 1))
    for hold in holds:
        hold.release()
    assert '"rate";r=4;t=1' == holds[-1].headers[1][1]


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, min_size=8, max_size=80))
def test_slots_are_conserved_whatever_happens(steps: list[tuple[object, ...]]) -> None:
    """R33, R90: whoever leaves, is cancelled, timed out or moved, a slot is used by its holder and by no other."""
    asyncio.run(_scene(steps))


async def test_no_timer_is_left_when_nobody_waits() -> None:
    world = World(providers={"p": SharedLimits(concurrency=1)})
    first = await world.admit()
    waiting = world.begin(world.admit())
    await settle()
    lane: Lane = world.limits._state.lane("p")
    assert lane._alarm._task is not None  # the timer of the wait
    first.release()
    await waiting
    assert lane._alarm._task is None


async def test_whoever_is_blocked_less_than_those_before_passes_at_once() -> None:
    """A poll needs no slot, and a start that waits for one does not hold it up."""
    world = World(providers={"p": SharedLimits(Rate(100), 9, concurrency=1)})
    admission = await world.admit()
    waiting = world.begin(world.admit())
    await settle()
    _, took = await world.finish(admission.poll(deadline=world.now + 1))
    assert 0.0 == took
    waiting.cancel()


async def test_a_newcomer_does_not_overtake_whose_turn_has_come() -> None:
    """Between the moment that opens the gate and the timer that tells it, another may ask."""
    world = World(providers={"p": SharedLimits(Rate(1), 1)})
    await world.admit()
    waiting = world.begin(world.admit("a"))
    await settle()
    world.clock.advance(1.0)  # the timer has not rung yet
    newcomer = world.begin(world.admit("b"))
    await settle()
    assert (True, False) == (waiting.done(), newcomer.done())
    newcomer.cancel()
