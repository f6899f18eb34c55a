"""Registry of circuit breakers: one for each workflow, configured or not, in bounded memory and bounded metrics."""

from __future__ import annotations

from dataclasses import replace

from gateway.observability.metrics import Metrics
from gateway.runs.resilience.circuit_breaker import BreakerConfig, CircuitState, StartResult
from gateway.runs.resilience.registry import MAX_UNCONFIGURED, UNCONFIGURED_IDLE_SECONDS, CircuitRegistry
from providers.contract import Cause
from tests.runs.executor_harness import DONE, ExecutorHarness, ending_of_run, fault
from tests.support.clock import ManualClock
from tests.support.process import metric_sum, parse_metrics

CONFIG = BreakerConfig(cooldown=60.0, cooldown_max=60.0)


def new_registry() -> tuple[CircuitRegistry, ManualClock]:
    """Return a registry, and its clock."""
    clock = ManualClock()
    return CircuitRegistry(CONFIG, clock.monotonic, Metrics()), clock


def open_circuit(registry: CircuitRegistry, workflow: str) -> None:
    """Report failures until the circuit opens."""
    breaker = registry.get("layer", workflow).breaker
    while breaker.state is CircuitState.CLOSED:
        breaker.record(StartResult.FAILURE, breaker.start())


def is_open(registry: CircuitRegistry, workflow: str) -> bool:
    """Return whether starts are refused."""
    return registry.get("layer", workflow).breaker.retry_after() > 0


def states_shown(registry: CircuitRegistry) -> set[tuple[str, str]]:
    """Return the workflows and states of the metric that are 1."""
    samples = parse_metrics(registry.metrics.render().decode())
    return {
        (s.labels["workflow"], s.labels["state"]) for s in samples if s.name == "runward_circuit_state" and s.value == 1
    }


async def test_a_failing_unconfigured_workflow_closes_the_way_for_itself_only() -> None:
    harness = ExecutorHarness(breaker_config=CONFIG)
    bad = harness.studio(fault(Cause.UNREACHABLE), alias="studio/*")
    good = replace(harness.studio(DONE, alias="studio/*"), name="good")
    for _ in range(3):
        await harness.run(bad)
    assert ("circuit_open", "not_run", 0) == ending_of_run(await harness.run(bad))
    assert (None, "succeeded", 1) == ending_of_run(await harness.run(good))
    assert 1 == harness.metric_value("runward_circuit_state", workflow="studio/*", state="open")


def test_the_circuits_of_unconfigured_workflows_share_one_series() -> None:
    registry, clock = new_registry()
    for name in ("a", "b", "c"):
        registry.get("layer", f"layer/{name}")
    assert {("layer/*", "closed")} == states_shown(registry)
    open_circuit(registry, "layer/a")
    open_circuit(registry, "layer/b")
    assert {("layer/*", "open")} == states_shown(registry)
    clock.advance(60)
    for name, state in (("a", "open"), ("b", "closed")):
        breaker = registry.get("layer", f"layer/{name}").breaker
        breaker.record(StartResult.SUCCESS, breaker.start())
        assert {("layer/*", state)} == states_shown(registry)
    samples = parse_metrics(registry.metrics.render().decode())
    assert 3 == len([s for s in samples if s.name == "runward_circuit_state"])


def test_the_table_of_unconfigured_workflows_is_bounded_and_drops_the_least_recently_used() -> None:
    registry, _ = new_registry()
    open_circuit(registry, "layer/first")
    open_circuit(registry, "layer/second")
    for number in range(MAX_UNCONFIGURED - 2):
        registry.get("layer", f"layer/{number}")
    assert is_open(registry, "layer/first"), "used again"
    dropped = registry.get("layer", "layer/second").breaker
    for number in range(MAX_UNCONFIGURED):
        assert is_open(registry, "layer/first")
        registry.get("layer", f"layer/other-{number}")
    assert not is_open(registry, "layer/second")
    assert {("layer/*", "open")} == states_shown(registry)
    dropped.record(StartResult.SUCCESS, 0)  # a start that was in progress when its circuit was dropped
    assert is_open(registry, "layer/first")


def test_the_circuit_of_an_unconfigured_workflow_without_runs_is_dropped() -> None:
    registry, clock = new_registry()
    open_circuit(registry, "layer/abandoned")
    clock.advance(UNCONFIGURED_IDLE_SECONDS + 1)
    registry.get("layer", "layer/other")
    assert {("layer/*", "closed")} == states_shown(registry)


def test_a_change_of_the_thresholds_reaches_every_circuit() -> None:
    registry, _ = new_registry()
    open_circuit(registry, "layer/a")
    registry.reconfigure(BreakerConfig(cooldown=1.0, cooldown_max=1.0))
    assert 1.0 == registry.get("layer", "layer/a").breaker.retry_after()


def test_configured_workflows_have_a_circuit_and_a_series_each() -> None:
    registry, _ = new_registry()
    open_circuit(registry, "triage")
    registry.get("layer", "other")
    assert {("triage", "open"), ("other", "closed")} == states_shown(registry)
    samples = parse_metrics(registry.metrics.render().decode())
    assert 1 == metric_sum(samples, "runward_circuit_state", workflow="triage", state="open")
