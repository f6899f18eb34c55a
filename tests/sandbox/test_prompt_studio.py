"""Emulator of Prompt Studio: run in both forms of its API."""

from __future__ import annotations

import pytest

from gateway.sandbox import DEFAULT_WORKFLOWS, CallCounts
from tests.sandbox.clients import KEYS, Client, PromptStudioClient, request
from tests.support.clock import ManualClock


async def test_the_two_dialects_differ_in_one_member(prompt_studio: PromptStudioClient) -> None:
    older = await prompt_studio.run("dep_echo", a=[1, {"b": None}])
    newer = await prompt_studio.run_instruction("dep_echo", a=[1, {"b": None}])
    assert (200, {"result": {"a": [1, {"b": None}]}}) == (older.status, older.json)
    assert (200, {"completion": {"a": [1, {"b": None}]}}) == (newer.status, newer.json)


async def test_triage_takes_a_short_delay(prompt_studio: PromptStudioClient, clock: ManualClock) -> None:
    got = await prompt_studio.run("dep_triage", message="My parcel was not delivered, this is urgent")
    reply = "Thank you for writing. Your parcel is on its way; here is how to follow it."
    expected = {"category": "shipping", "priority": "high", "reply": reply, "prompt_version": 1}
    assert ({"result": expected}, [0.6]) == (got.json, clock.slept)


@pytest.mark.parametrize(("seconds", "slept"), [(3.5, [3.5]), (1e9, [60.0]), (-1, []), ("5", [2.0]), (None, [2.0])])
async def test_slow_takes_the_requested_delay_within_bounds(
    prompt_studio: PromptStudioClient, clock: ManualClock, seconds: float | str | None, slept: list[float]
) -> None:
    assert 200 == (await prompt_studio.run("dep_slow", seconds=seconds)).status
    assert slept == clock.slept


async def test_echo_waits_for_nothing(prompt_studio: PromptStudioClient, clock: ManualClock) -> None:
    await prompt_studio.run("dep_echo")
    assert [] == clock.slept


async def test_a_result_may_be_empty(prompt_studio: PromptStudioClient) -> None:
    assert {"result": {}} == (await prompt_studio.run("dep_no_output")).json


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"input": 1}', b'{"input": null}', b'{"input": {"a": NaN}}']
)
async def test_a_body_without_an_input_object_is_refused(
    prompt_studio: PromptStudioClient, calls: CallCounts, body: bytes
) -> None:
    got = await prompt_studio.post("dep_echo", body)
    assert (400, {}) == (got.status, got.json)
    assert (1, 0) == (calls.prompt_studio.starts, calls.prompt_studio.runs)


async def test_each_dialect_wants_its_own_header(client: Client) -> None:
    """A key in the other dialect's header is ignored."""
    bearer, api_key = {"Authorization": f"Bearer {KEYS.prompt_studio}"}, {"API_KEY": KEYS.prompt_studio}
    for method, path, headers in (
        ("POST", "/v1/workflows/dep_echo/run", bearer),
        ("POST", "/api/v1/instructions/dep_echo/run", api_key),
        ("GET", "/api/v1/deployments", api_key),
        ("POST", "/v1/workflows/dep_echo/run", {"API_KEY": "ps_wrong"}),
        ("POST", "/v1/workflows/dep_echo/run", {"API_KEY": KEYS.promptlayer}),
        ("POST", "/v1/workflows/dep_echo/run", {}),
    ):
        got = await request(client, method, path, headers, b'{"input": {}}' if method == "POST" else None)
        assert (401, {}) == (got.status, got.json)


async def test_the_deployments_are_listed_with_their_schemas(prompt_studio: PromptStudioClient) -> None:
    got = await prompt_studio.deployments()
    assert isinstance(got.json, dict)
    listed = got.json["deployments"]
    assert isinstance(listed, list)
    found = {str(d["deployment_id"]): d for d in listed if isinstance(d, dict)}
    assert [d.id for d in DEFAULT_WORKFLOWS.deployments] == list(found)
    assert {
        "deployment_id": "dep_triage",
        "created_at": "2026-01-15T09:00:00Z",
        "recipe_id": "rec_triage",
        "recipe_name": "triage",
        "schemas": {
            "request_schema": {"type": "object", "properties": {"message": {"type": "string"}}},
            "response_schema": {"type": "object"},
        },
    } == found["dep_triage"]
