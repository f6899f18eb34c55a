"""Injected faults at both providers, and their effect on the run count."""

from __future__ import annotations

import pytest

from gateway.sandbox import CallCounts, InjectedFault
from gateway.sandbox.default_workflows import FAULTS
from gateway.sandbox.faults import FaultInjector
from tests.sandbox.clients import PromptLayerClient, PromptStudioClient
from tests.support.clock import ManualClock

EXPECTED = {
    # name: status, Retry-After, content type, runs
    "flaky": (503, "0", "application/json", 0),
    "throttled": (429, "1", "application/json", 0),
    "error-500": (500, None, "application/json", 1),
    "hang": (504, None, "application/json", 1),
    "garbage": (200, None, "text/html; charset=utf-8", 1),
}


def test_every_fault_is_expected_here() -> None:
    assert set(FAULTS) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
async def test_a_fault_at_promptlayer(promptlayer: PromptLayerClient, calls: CallCounts, name: str) -> None:
    got = await promptlayer.run(name)
    count = calls.promptlayer.workflows[name]
    seen = got.status, got.headers.get("Retry-After"), got.headers["Content-Type"], count.runs
    assert (EXPECTED[name], 1) == (seen, count.starts)


@pytest.mark.parametrize("name", EXPECTED)
async def test_a_fault_at_prompt_studio(prompt_studio: PromptStudioClient, calls: CallCounts, name: str) -> None:
    deployment_id = f"dep_{name.replace('-', '_')}"
    got = await prompt_studio.run(deployment_id)
    count = calls.prompt_studio.workflows[deployment_id]
    seen = got.status, got.headers.get("Retry-After"), got.headers["Content-Type"], count.runs
    assert (EXPECTED[name], 1) == (seen, count.starts)
    assert got.json in ({}, None)


async def test_of_equal_flaky_starts_every_other_works(promptlayer: PromptLayerClient, calls: CallCounts) -> None:
    """Runs with other inputs in between have no effect, so every second attempt succeeds."""
    sent = [1, 2, 1, 2, 1, 1]
    got = [(await promptlayer.run("flaky", input_variables={"n": n})).status for n in sent]
    assert [503, 503, 201, 201, 503, 201] == got
    assert 3 == calls.promptlayer.runs


async def test_flaky_recovers_at_prompt_studio_too(prompt_studio: PromptStudioClient) -> None:
    assert [503, 200] == [(await prompt_studio.run("dep_flaky", a=1)).status for _ in range(2)]


def test_only_so_many_flaky_starts_are_remembered() -> None:
    """The oldest entry is dropped and fails again."""
    faults, fault = FaultInjector(ManualClock(), str.encode), InjectedFault(503, every_other=True)
    for n in range(1001):
        assert faults.select(fault, "flaky", b"%d" % n) is fault
    assert faults.select(fault, "flaky", b"0") is fault
    assert faults.select(fault, "flaky", b"1000") is None


def test_equal_inputs_of_two_workflows_are_two_starts() -> None:
    faults, fault = FaultInjector(ManualClock(), str.encode), InjectedFault(503, every_other=True)
    assert [fault, fault, None, None] == [faults.select(fault, name, b"{}") for name in "abab"]


@pytest.mark.parametrize(("given", "slept"), [({}, 60.0), ({"seconds": 5}, 5.0), ({"seconds": 3600}, 60.0)])
async def test_a_hang_has_an_end(
    promptlayer: PromptLayerClient, clock: ManualClock, given: dict[str, int], slept: float
) -> None:
    assert 504 == (await promptlayer.run("hang", input_variables=dict(given))).status
    assert [slept] == clock.slept


async def test_a_huge_answer_is_as_large_as_asked(
    promptlayer: PromptLayerClient, prompt_studio: PromptStudioClient
) -> None:
    run = await promptlayer.run("huge", input_variables={"bytes": 100_000})
    assert "x" * 100_000 == (await promptlayer.results(run.id, all_outputs="false")).json
    assert {"result": {"completion": "x" * 1000}} == (await prompt_studio.run("dep_huge", bytes=1000)).json


async def test_a_fault_does_not_hide_a_wrong_request(promptlayer: PromptLayerClient, calls: CallCounts) -> None:
    assert 404 == (await promptlayer.run("throttled", workflow_version_number=9)).status
    assert 0 == calls.promptlayer.runs
