"""History of the metrics: exact counts, interpolated percentiles, and a bounded size."""

from __future__ import annotations

import pytest
import structlog

from gateway.observability.metrics import Metrics
from gateway.observability.metrics_history import (
    CALLS,
    KEPT_SECONDS,
    RUNS,
    MetricsHistory,
    total_of,
)
from gateway.observability.percentiles import percentile
from tests.support.clock import ManualClock


class Recorder:
    """Metrics, their history, and the clock of both."""

    def __init__(self) -> None:
        self.metrics, self.clock = Metrics(), ManualClock()
        self.history = MetricsHistory(self.metrics.read, self.clock, structlog.get_logger())

    def end_runs(self, count: int, seconds: float = 0.3, outcome: str = "succeeded", workflow: str = "triage") -> None:
        for _ in range(count):
            self.metrics.run_ended("one", workflow, "studio", outcome)
            self.metrics.observe_run_duration(workflow, "studio", seconds, 0.0004)

    def sample(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock.advance(5)
            self.history.sample()


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([0, 0, 0], 0.5, None),
        ([10, 0, 0], 0.5, 0.5),
        ([10, 10, 0], 0.5, 1.0),
        ([10, 10, 0], 0.75, 2.0),
        ([10, 10, 0], 1.0, 3.0),
        ([0, 10, 0], 0.5, 2.0),
        ([0, 0, 10], 0.5, 3.0),
        ([5, 0, 5], 0.95, 3.0),
    ],
)
def test_percentiles_are_interpolated(counts: list[float], share: float, expected: float | None) -> None:
    assert expected == percentile((1.0, 3.0), counts, share)


def test_each_step_has_what_happened_in_it() -> None:
    recorder = Recorder()
    in_flight = [7]
    recorder.metrics.track_in_flight(lambda: in_flight[0])
    recorder.end_runs(3)
    recorder.sample()
    in_flight[0] = 2
    recorder.end_runs(1, outcome="unknown", seconds=20)
    recorder.sample()
    recorder.sample()
    first, second, third = recorder.history.steps(300, 5)
    assert [(3, 0, 0, 0), (0, 0, 1, 0), (0, 0, 0, 0)] == [tuple(each.outcomes) for each in (first, second, third)]
    assert [7, 2, 2] == [each.in_flight for each in (first, second, third)]
    assert 5 == second.at - first.at
    median, slow = first.duration(0.5), second.duration(0.5)
    assert median is not None
    assert slow is not None
    assert 0.25 < median < 0.5
    assert 10 < slow < 30
    assert third.duration(0.5) is None
    overhead = first.overhead_of(0.95)
    assert overhead is not None
    assert 0.00025 < overhead < 0.0005
    total = total_of([first, second, third])
    assert ([3, 0, 1, 0], 7) == (total.outcomes, total.in_flight)


def test_steps_end_with_the_newest_sample() -> None:
    """The first is shorter, so that nothing is missing after a start."""
    recorder = Recorder()
    for _ in range(10):
        recorder.end_runs(1)
        recorder.sample()
    steps = recorder.history.steps(900, 15)
    assert [1, 3, 3, 3] == [step.outcomes[0] for step in steps]
    assert recorder.clock.now().timestamp() == steps[-1].at
    assert 6 == sum(step.outcomes[0] for step in recorder.history.steps(30, 5))
    assert [10] == [step.outcomes[0] for step in recorder.history.steps(900, 60)]
    assert [] == Recorder().history.steps(900, 60)


def test_the_history_is_bounded() -> None:
    recorder = Recorder()
    recorder.sample(KEPT_SECONDS // 5 + 10)
    assert KEPT_SECONDS // 5 == len(recorder.history._samples)
    assert 72 == len(recorder.history.steps(KEPT_SECONDS, 300))
    assert 16 == len(recorder.history._copies)


def test_the_growth_is_of_a_quarter_of_an_hour() -> None:
    recorder = Recorder()
    recorder.metrics.call_ended("studio", "start", "ok", 0.1)
    recorder.sample()
    recorder.end_runs(4)
    recorder.end_runs(2, workflow="other", seconds=4)
    recorder.sample(12)
    growth = recorder.history.growth()
    assert (6, 0, 60.0) == (growth.count(RUNS), growth.count(CALLS), growth.seconds)
    assert 2 == growth.count(RUNS, lambda labels: labels[1] == "other")
    slow = growth.duration(0.95, lambda labels: labels[0] == "other")
    assert slow is not None
    assert 2.5 < slow < 5
    recorder.sample(12 * 15)
    assert 0 == recorder.history.growth().count(RUNS)
    assert 900 <= recorder.history.growth().seconds <= 960
    assert (0.0, 0) == ((empty := Recorder().history.growth()).seconds, empty.count(RUNS))


def test_many_tabs_read_the_metrics_once() -> None:
    recorder = Recorder()
    recorder.sample()
    before = recorder.history.growth()
    recorder.end_runs(1)
    assert before is recorder.history.growth()
    recorder.clock.advance(2)
    assert 1 == recorder.history.growth().count(RUNS)


def test_a_counter_that_falls_is_no_negative_number() -> None:
    """A worker that was killed may take some of its counts with it."""
    recorder = Recorder()
    recorder.end_runs(5)
    recorder.sample()
    recorder.metrics._runs.counts.clear()
    recorder.sample()
    assert [5, 0] == [step.outcomes[0] for step in recorder.history.steps(300, 5)]


async def test_it_samples_until_it_is_closed() -> None:
    recorder = Recorder()
    recorder.end_runs(9)  # before the start
    recorder.history.start()
    while not recorder.history.steps(300, 5):
        await recorder.clock.sleep(0)
    await recorder.history.close()
    assert 0 == recorder.history.steps(300, 5)[0].outcomes[0]
    taken = len(recorder.history._samples)
    await recorder.clock.sleep(0)
    assert taken == len(recorder.history._samples)
