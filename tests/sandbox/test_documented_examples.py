"""The documented examples of both providers: every request and its response."""

from __future__ import annotations

import pytest

from gateway.json import strict_json
from providers.contract import JsonValue
from tests.sandbox.clients import KEYS, Client, PromptLayerClient, PromptStudioClient, request
from tests.support.clock import ManualClock

RUN_LATEST = b"""{"input_variables": {"user_message": "I need help with billing"},
  "metadata": {"environment": "production"}, "return_all_outputs": false}"""
RUN_LABEL = b"""{"workflow_label_name": "production", "input_variables": {"user_message": "Hello"}}"""
ASYNC_CALLBACK = b"""{"input_variables": {"user_message": "Hello"},
  "callback_url": "https://example.com/promptlayer/workflow-callback"}"""

STARTED: JsonValue = {
    "success": True,
    "message": "Workflow execution started",
    "warning": None,
    "workflow_version_execution_id": 98765,
}
ACCEPTED: JsonValue = {
    "success": True,
    "message": "Workflow execution accepted",
    "warning": None,
    "workflow_version_execution_id": 98765,
}

FIVE_KEYS = {"status", "value", "error_message", "raw_error_message", "is_output_node"}


@pytest.mark.parametrize(
    ("body", "status", "answer"),
    [(RUN_LATEST, 201, STARTED), (RUN_LABEL, 201, STARTED), (ASYNC_CALLBACK, 202, ACCEPTED)],
    ids=["runLatest", "runLabel", "asyncCallback"],
)
async def test_each_example_of_run_workflow_has_its_example_answer(
    promptlayer: PromptLayerClient, body: bytes, status: int, answer: JsonValue
) -> None:
    got = await promptlayer.post("/workflows/support-reply/run", body)
    assert (status, answer) == (got.status, got.json)
    assert "application/json" == got.headers["Content-Type"]


async def test_the_example_of_prompt_studio_has_its_example_answer(client: Client) -> None:
    """The request is the documented curl command with its header and body."""
    got = await request(
        client,
        "POST",
        "/v1/workflows/dep_answer/run",
        {"Content-Type": "application/json", "API_KEY": KEYS.prompt_studio},
        b'{ "input": {"prompt": "what is the fastest car in the world?"} }',
    )
    example = b"""{
  "result": {
    "completion": "The current record holder for the fastest car in the world is the Bugatti Chiron Super Sport 300+, which reached a top speed of 304.77 mph (490.48 km/h) in 2019."
  }
}"""  # noqa: E501 - quoted as it stands
    assert (200, strict_json.read(example)) == (got.status, got.json)


async def test_prompt_studio_documents_empty_objects_for_404_and_500(prompt_studio: PromptStudioClient) -> None:
    missing, failed = await prompt_studio.run("dep_missing"), await prompt_studio.run("dep_fail")
    assert (404, {}) == (missing.status, missing.json)
    assert (500, {}) == (failed.status, failed.json)


@pytest.mark.parametrize(
    ("key", "name", "body", "status"),
    [
        ("pl_wrong", "echo", b"{}", 401),
        (KEYS.promptlayer, "missing", b"{}", 404),
        (KEYS.promptlayer, "echo", b'{"workflow_label_name": "a", "workflow_version_number": 1}', 400),
        (KEYS.promptlayer, "throttled", b"{}", 429),
        (KEYS.promptlayer, "error-500", b"{}", 500),
    ],
)
async def test_refusals_of_promptlayer_are_its_error_response(
    client: Client, key: str, name: str, body: bytes, status: int
) -> None:
    got = await PromptLayerClient(client, key).post(f"/workflows/{name}/run", body)
    assert status == got.status
    assert "application/json" == got.headers["Content-Type"]
    assert isinstance(got.json, dict)
    assert {"success": False, "message": str} == got.json | {"message": type(got.json["message"])}


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"input_variables": 3}', ["body", "input_variables"]),
        (b'{"input_variables": null}', ["body", "input_variables"]),
        (b'{"metadata": {"a": 1}}', ["body", "metadata", "a"]),
        (b'{"workflow_version_number": "1"}', ["body", "workflow_version_number"]),
        (b'{"workflow_label_name": 1}', ["body", "workflow_label_name"]),
        (b'{"return_all_outputs": "true"}', ["body", "return_all_outputs"]),
        (b'{"callback_url": "ftp://example.com"}', ["body", "callback_url"]),
        (b"[]", ["body"]),
        (b"{", ["body"]),
        (b"", ["body"]),
    ],
)
async def test_a_body_of_the_wrong_shape_is_a_list_of_details(
    promptlayer: PromptLayerClient, body: bytes, where: list[str]
) -> None:
    got = await promptlayer.post("/workflows/echo/run", body)
    assert 422 == got.status
    assert isinstance(got.json, dict)
    assert {"detail"} == set(got.json)
    assert isinstance(got.json["detail"], list)
    (detail,) = got.json["detail"]
    assert isinstance(detail, dict)
    assert {"loc": where, "msg": str, "type": str} == detail | {k: type(detail[k]) for k in ("msg", "type")}


@pytest.mark.parametrize("name", ["support-triage", "team/summarise", "fail", "partial", "no-output"])
async def test_results_have_five_keys_per_node_running_and_done(
    promptlayer: PromptLayerClient, clock: ManualClock, name: str
) -> None:
    """Documentation: "body schema is the same for both status codes"."""
    run = await promptlayer.run(name, input_variables={"message": "x", "text": "y"})
    for _ in range(2):
        got = await promptlayer.results(run.id)
        assert isinstance(got.json, dict)
        assert [FIVE_KEYS] * len(got.json) == [set(node) for node in got.json.values() if isinstance(node, dict)]
        assert got.json
        clock.advance(1)
