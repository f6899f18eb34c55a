"""Recovery of callbacks that were given up: bounds, receivers, and callbacks that have changed meanwhile."""

from __future__ import annotations

from gateway.runs.callbacks.recovery import MAX_CALLBACKS, plan_recovery, recover
from gateway.store.records import Phase, RunOverview


class Callbacks:
    """Given-up callbacks of runs, each of which ended at the second that is its number."""

    def __init__(self, count: int) -> None:
        self.hosts = {f"run_{number:06}": f"https://r{number % 2}.example/hook" for number in range(count)}
        self.redelivered: list[str] = []
        self.settled: set[str] = set()

    async def list_by_callback_state(self, state: str, *, limit: int, after: str = "") -> list[str]:
        assert "gave_up" == state
        return [run_id for run_id in self.hosts if run_id > after][:limit]

    async def get_overview(self, run_id: str) -> RunOverview | None:
        if run_id in self.settled:
            return None
        ended_at = float(run_id.removeprefix("run_"))
        return RunOverview(
            run_id,
            "one",
            "studio",
            "p",
            0.0,
            Phase.DONE,
            "succeeded",
            1,
            None,
            ended_at,
            self.hosts[run_id],
            "gave_up",
            None,
        )

    async def redeliver_callback(self, run_id: str, *, now_at: float) -> bool:
        assert now_at
        self.redelivered.append(run_id)
        return run_id not in self.settled


async def test_what_ended_before_and_other_receivers_are_left_out() -> None:
    store = Callbacks(10)
    planned = await plan_recovery(store, 4.0)
    assert (6, {"r0.example": 3, "r1.example": 3}, False) == (len(planned.run_ids), planned.hosts, planned.more)
    assert ["run_000005", "run_000007", "run_000009"] == (await plan_recovery(store, 4.0, "r1.example")).run_ids
    assert [] == store.redelivered


async def test_a_plan_is_bounded_and_says_that_there_are_more() -> None:
    store = Callbacks(MAX_CALLBACKS + 1)
    planned = await plan_recovery(store, 0.0)
    assert (MAX_CALLBACKS, True) == (len(planned.run_ids), planned.more)
    assert not (await plan_recovery(store, 1.0)).more


async def test_only_callbacks_that_became_due_are_counted() -> None:
    store = Callbacks(3)
    planned = await plan_recovery(store, 0.0)
    store.settled.add("run_000001")
    assert 2 == await recover(store, planned, 1.0)
    assert 3 == len(store.redelivered)
    assert 2 == len((await plan_recovery(store, 0.0)).run_ids)
