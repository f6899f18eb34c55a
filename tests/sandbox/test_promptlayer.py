"""Emulator of PromptLayer: run and results."""

from __future__ import annotations

import pytest

from gateway.sandbox import CallCounts
from providers.contract import JsonValue
from tests.sandbox.clients import Client, PromptLayerClient, SandboxResponse
from tests.support.clock import ManualClock


def statuses(got: SandboxResponse) -> dict[str, JsonValue]:
    assert isinstance(got.json, dict)
    return {name: node["status"] for name, node in got.json.items() if isinstance(node, dict)}


def value(got: SandboxResponse, node: str) -> JsonValue:
    assert isinstance(got.json, dict)
    shown = got.json[node]
    assert isinstance(shown, dict)
    return shown["value"]


async def test_a_run_goes_from_queued_over_running_to_done(promptlayer: PromptLayerClient, clock: ManualClock) -> None:
    """202 until the last node has ended; nodes run in sequence, 0.6 seconds in total."""
    run = await promptlayer.run("support-triage", input_variables={"message": "I was charged twice"})
    first = await promptlayer.results(run.id)
    assert (202, {"Classify": "RUNNING", "Reply": "QUEUED"}) == (first.status, statuses(first))
    clock.advance(0.31)
    second = await promptlayer.results(run.id)
    assert (202, {"Classify": "SUCCESS", "Reply": "RUNNING"}) == (second.status, statuses(second))
    assert {"category": "billing", "priority": "high"} == value(second, "Classify")
    clock.advance(0.3)
    last = await promptlayer.results(run.id)
    assert (200, {"Classify": "SUCCESS", "Reply": "SUCCESS"}) == (last.status, statuses(last))


async def test_the_short_form_of_results_is_the_bare_value(promptlayer: PromptLayerClient) -> None:
    run = await promptlayer.run("echo", input_variables={"a": [1, None]})
    got = await promptlayer.results(run.id, all_outputs="false")
    assert (200, {"a": [1, None]}) == (got.status, got.json)


async def test_the_short_form_shows_the_nodes_where_no_output_succeeded(promptlayer: PromptLayerClient) -> None:
    for name in ("fail", "no-output"):
        run = await promptlayer.run(name)
        short, long = await promptlayer.results(run.id, all_outputs="false"), await promptlayer.results(run.id)
        assert (200, long.json) == (short.status, short.json)


async def test_a_failed_run_is_a_200_with_a_failed_output_node(promptlayer: PromptLayerClient) -> None:
    got = await promptlayer.results((await promptlayer.run("fail")).id)
    assert (200, {"Prepare": "SUCCESS", "Score": "FAILED"}) == (got.status, statuses(got))
    assert isinstance(got.json, dict)
    node = got.json["Score"]
    assert isinstance(node, dict)
    assert str(node["error_message"]).startswith("Code execution failed: Traceback")


async def test_one_of_two_outputs_may_fail(promptlayer: PromptLayerClient) -> None:
    run = await promptlayer.run("partial", input_variables={"a": 1})
    assert {"Score": "FAILED", "Echo": "SUCCESS"} == statuses(await promptlayer.results(run.id))
    assert {"a": 1} == (await promptlayer.results(run.id, all_outputs="false")).json


async def test_a_branch_that_is_not_taken_is_skipped(promptlayer: PromptLayerClient, clock: ManualClock) -> None:
    plain = await promptlayer.run("team/summarise", input_variables={"text": "One thing. Another."})
    asked = await promptlayer.run("team/summarise", input_variables={"text": "One thing.", "language": "fr"})
    clock.advance(1)
    assert {"Summary": "SUCCESS", "Translation": "SKIPPED"} == statuses(await promptlayer.results(plain.id))
    assert "[fr] One thing." == value(await promptlayer.results(asked.id), "Translation")


@pytest.mark.parametrize("path", ["team%2Fsummarise", "team/summarise", "3"])
async def test_a_workflow_goes_by_its_name_in_either_encoding_and_by_its_id(
    promptlayer: PromptLayerClient, path: str
) -> None:
    assert 201 == (await promptlayer.post(f"/workflows/{path}/run", b"{}")).status


@pytest.mark.parametrize(
    ("which", "version"),
    [({}, 3), ({"workflow_label_name": "production"}, 2), ({"workflow_version_number": 1}, 1)],
)
async def test_the_version_is_chosen_by_label_or_number_or_is_the_latest(
    promptlayer: PromptLayerClient, clock: ManualClock, which: dict[str, JsonValue], version: int
) -> None:
    run = await promptlayer.run("support-triage", input_variables={"message": ""}, **which)
    clock.advance(1)
    output = (await promptlayer.results(run.id, all_outputs="false")).json
    assert isinstance(output, dict)
    assert version == output["prompt_version"]


@pytest.mark.parametrize("which", [{"workflow_label_name": "beta"}, {"workflow_version_number": 4}])
async def test_an_unknown_label_or_version_is_not_found(
    promptlayer: PromptLayerClient, calls: CallCounts, which: dict[str, JsonValue]
) -> None:
    assert 404 == (await promptlayer.run("support-triage", **which)).status
    assert (1, 0) == (calls.promptlayer.starts, calls.promptlayer.runs)


@pytest.mark.parametrize(
    ("given", "warning"),
    [
        ({"message": "x"}, None),
        ({}, "Missing input variables: message"),
        ({"message": "x", "b": 1, "a": 2}, "Unused input variables: b, a"),
        ({"a": 1}, "Missing input variables: message; Unused input variables: a"),
    ],
)
async def test_missing_and_unused_input_variables_are_a_warning(
    promptlayer: PromptLayerClient, given: dict[str, JsonValue], warning: str | None
) -> None:
    got = await promptlayer.run("support-triage", input_variables=given)
    assert isinstance(got.json, dict)
    assert (201, warning) == (got.status, got.json["warning"])


async def test_fields_that_are_not_documented_are_ignored(promptlayer: PromptLayerClient) -> None:
    assert 201 == (await promptlayer.run("echo", channel_name_suffix="a71d", something=[1])).status


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("workflow_version_execution_id=1", 404),
        ("workflow_version_execution_id=" + "9" * 5000, 422),
        ("workflow_version_execution_id=%D9%A1", 422),
        ("workflow_version_execution_id=x", 422),
        ("", 422),
        ("workflow_version_execution_id=98765&return_all_outputs=maybe", 422),
    ],
)
async def test_results_are_asked_for_by_an_execution_id(
    promptlayer: PromptLayerClient, query: str, status: int
) -> None:
    await promptlayer.run("echo")
    assert status == (await promptlayer.get(f"/workflow-version-execution-results?{query}")).status


async def test_a_wrong_key_is_refused_everywhere_and_never_shown(client: Client) -> None:
    stranger = PromptLayerClient(client, "pl_canary")
    for got in (
        await stranger.run("echo"),
        await stranger.results(98765),
        await stranger.get("/workflows"),
        await stranger.get("/workflows/echo"),
    ):
        assert (401, {"success": False, "message": "Invalid API key"}) == (got.status, got.json)


async def test_polls_of_flaky_poll_fail_twice_and_then_answer(
    promptlayer: PromptLayerClient, calls: CallCounts
) -> None:
    run = await promptlayer.run("flaky-poll")
    assert [500, 500, 200] == [(await promptlayer.results(run.id)).status for _ in range(3)]
    assert 3 == calls.promptlayer.workflows["flaky-poll"].polls
