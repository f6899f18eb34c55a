"""Contract of the adapter, and runs through a gateway against a fake Dify."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from runward_dify.adapter import Dify, DifyOptions

from providers.contract import ProviderFault, Reply, Run
from providers.testing import AdapterContract, FakeProvider, GatewayProcess, calls, drive, reply

KEY = "app-0123456789abcdef"
RUN_ID = "fb47b2e6-5e43-4f90-be01-d5c5a088d156"
TASK_ID = "c3800678-a077-43df-a102-53f23ed20b88"
VERSION = "7c3e33d4-2a8b-4e5f-9b1a-d3c6e8f12345"
START = "POST /v1/workflows/run"


class TestContract(AdapterContract):
    """The contract of every adapter."""

    factory = Dify
    one_workflow = True
    run_id = f"{RUN_ID}:{TASK_ID}"


def finished(status: str = "succeeded", **members: Any) -> dict[str, Any]:
    """Response to a blocking run."""
    data = {"id": RUN_ID, "workflow_id": VERSION, "status": status, "outputs": {"text": "hi"}, "error": None, **members}
    return {"workflow_run_id": RUN_ID, "task_id": TASK_ID, "data": data}


def config(url: str, *passthrough: str) -> dict[str, Any]:
    """Configuration of a gateway with one Dify app."""
    provider = {"adapter": "dify", "base_url": url, "api_key": {"env": "DIFY_KEY"}, "options": {"user": "ops"}}
    return {
        "providers": {"app": provider},
        "workflows": {
            "triage": {"provider": "app", "timeout": "5s"},
            "pinned": {"provider": "app", "version": VERSION, "timeout": "5s"},
        },
        "polling": {"first": "20ms", "max": "50ms"},
        "retries": {"backoff": "10ms"},
        "clients": {"tests": {"passthrough": {"app": list(passthrough)}}},
    }


def gateway_for(provider: FakeProvider, *passthrough: str) -> GatewayProcess:
    """Gateway process in front of the fake Dify."""
    return GatewayProcess(config(provider.url, *passthrough), {"DIFY_KEY": KEY})


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    """Fake Dify; each test scripts its replies."""
    with FakeProvider({}) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(provider: FakeProvider) -> Iterator[GatewayProcess]:
    """Gateway that may pass a poll and the app's parameters through."""
    with gateway_for(provider, "GET /v1/workflows/run/*", "GET /v1/parameters") as running:
        yield running


def test_a_run_is_one_blocking_request(provider: FakeProvider, gateway: GatewayProcess) -> None:
    provider.script(START, reply(200, finished()))
    before = len(provider.received(START))
    response = gateway.run("triage", {"query": "hello"})
    assert (200, {"text": "hi"}) == (response.status, response.document["output"])
    assert RUN_ID == response.document["provider_run_id"]
    [request] = provider.received(START)[before:]
    assert {"inputs": {"query": "hello"}, "response_mode": "blocking", "user": "ops"} == request.json
    assert f"Bearer {KEY}" == request.headers["authorization"]


def test_a_pinned_version_is_part_of_the_path(provider: FakeProvider, gateway: GatewayProcess) -> None:
    provider.script(f"POST /v1/workflows/{VERSION}/run", reply(200, finished()))
    assert 200 == gateway.run("pinned", {}).status


def test_a_run_that_is_not_finished_is_polled(provider: FakeProvider, gateway: GatewayProcess) -> None:
    provider.script(START, reply(200, finished("running", outputs=None)))
    states = [{"status": "paused"}, {"status": "partial-succeeded", "outputs": {"text": "late"}}]
    provider.script(f"GET /v1/workflows/run/{RUN_ID}", *(reply(200, state) for state in states))
    document = gateway.run("triage", {}).document
    assert ({"text": "late"}, "Some nodes of the workflow failed.") == (document["output"], document["warning"])


@pytest.mark.parametrize(
    ("answers", "status", "outcome", "starts"),
    [
        ([reply(200, finished("failed", error="node 3: boom"))], 502, "failed", 1),
        ([reply(200, finished("stopped", error=None))], 502, "failed", 1),
        ([reply(400, {"status": 400, "code": "invalid_param", "message": "q is required"})], 422, "not_run", 1),
        ([reply(401, {"code": "unauthorized"})], 502, "not_run", 1),
        ([reply(500, {"code": "internal_server_error"})], 502, "unknown", 1),
        ([reply(504, b"<html>")], 502, "unknown", 1),
        ([reply(200, b"", drop=True)], 502, "unknown", 1),
        ([reply(200, {"data": {}})], 502, "unknown", 1),
        ([reply(429, {"code": "too_many_requests"}), reply(200, finished())], 200, "succeeded", 2),
        ([reply(503, {}, headers={"Retry-After": "0"}), reply(200, finished())], 200, "succeeded", 2),
    ],
)
def test_each_fault_has_its_outcome(
    provider: FakeProvider, gateway: GatewayProcess, answers: list[Any], status: int, outcome: str, starts: int
) -> None:
    """A start that may have been accepted is not repeated."""
    provider.script(START, *answers)
    before = len(provider.received(START))
    response = gateway.run("triage", {})
    assert (status, outcome) == (response.status, response.outcome)
    assert starts == len(provider.received(START)) - before


def test_polls_and_other_reads_are_passed_through(provider: FakeProvider, gateway: GatewayProcess) -> None:
    provider.script("GET /v1/parameters", reply(200, {"opening_statement": "Hello!"}))
    provider.script("GET /v1/workflows/run/7", reply(200, {"status": "running"}))
    assert {"opening_statement": "Hello!"} == gateway.request("GET", "/v1/parameters").document
    assert {"status": "running"} == gateway.request("GET", "/v1/workflows/run/7").document


def test_no_start_can_be_passed_through(provider: FakeProvider) -> None:
    starts = ("POST /v1/chat-messages", "POST /v1/workflows/run", "POST /v*", "PUT /v1/completion-*")
    with pytest.raises(RuntimeError) as raised, gateway_for(provider, "GET /v1/parameters", *starts):
        pass
    found = re.findall(r"clients\.tests\.passthrough\.app\[(\d)\]: would start runs", str(raised.value))
    assert ["1", "2", "3", "4"] == found


def test_an_unknown_option_is_an_error_of_the_configuration(provider: FakeProvider) -> None:
    settings = config(provider.url)
    settings["providers"]["app"]["options"] = {"usr": "CANARY"}
    with (
        pytest.raises(RuntimeError, match=r"providers\.app\.options\.usr: ") as raised,
        GatewayProcess(settings, {"DIFY_KEY": KEY}),
    ):
        pass
    assert "CANARY" not in str(raised.value)


def test_a_label_is_refused(provider: FakeProvider) -> None:
    settings = config(provider.url)
    settings["workflows"]["triage"]["label"] = "production"
    with pytest.raises(RuntimeError, match=r"workflows\.triage\.label: "), GatewayProcess(settings, {"DIFY_KEY": KEY}):
        pass


def test_a_run_can_be_followed_after_a_crash() -> None:
    steps, outcome = drive(
        Dify(None, DifyOptions()).follow(RUN_ID), [Reply(200, {"status": "succeeded", "outputs": {"a": 1}})]
    )
    assert [f"/v1/workflows/run/{RUN_ID}"] == [call.path for call in calls(steps)]
    assert outcome is not None
    assert ({"a": 1}, RUN_ID) == (outcome.output, outcome.provider_run_id)


def test_the_input_is_sent_under_its_own_name() -> None:
    steps, _ = drive(Dify(None, DifyOptions(user="u")).steps(Run("any", input={"a": [1]})), [])
    assert [{"inputs": {"a": [1]}, "response_mode": "blocking", "user": "u"}] == [call.json for call in calls(steps)]


def test_a_run_that_is_not_finished_is_stopped(provider: FakeProvider, gateway: GatewayProcess) -> None:
    """Dify is asked once, the polls report its end, and the id of the run is then Dify's alone."""
    stop = f"POST /v1/workflows/tasks/{TASK_ID}/stop"
    provider.script(START, reply(200, finished("paused", outputs=None)))
    provider.script(f"GET /v1/workflows/run/{RUN_ID}", reply(200, {"status": "paused"}))
    provider.script(stop, reply(200, {"result": "success"}))
    before = len(provider.received(START))
    body = {"workflow": "triage", "input": {}}
    run_id = gateway.request("POST", "/run", body, Prefer="respond-async").document["id"]
    for _ in range(500):
        if gateway.request("GET", f"/runs/{run_id}?wait=0").document["provider_run_id"] is not None:
            break
    for _ in range(2):
        cancelled = gateway.request("POST", f"/runs/{run_id}/cancel")
        assert (202, "stopping") == (cancelled.status, cancelled.document["cancel"]["state"])
        assert f"{RUN_ID}:{TASK_ID}" == cancelled.document["provider_run_id"]
    [request] = provider.received(stop)
    assert {"user": "ops"} == request.json
    provider.script(f"GET /v1/workflows/run/{RUN_ID}", reply(200, {"status": "stopped", "error": None}))
    ended = gateway.request("GET", f"/runs/{run_id}?wait=20").document
    assert ("failed", RUN_ID) == (ended["status"], ended["provider_run_id"])
    assert 409 == gateway.request("POST", f"/runs/{run_id}/cancel").status
    assert 1 == len(provider.received(START)) - before


@pytest.mark.parametrize("task_id", [None, "", 7, "..", "a:b"])
def test_a_run_whose_task_is_not_known_is_polled_and_not_stopped(task_id: Any) -> None:
    dify = Dify(None, DifyOptions())
    started = {**finished("running", outputs=None), "task_id": task_id}
    steps, outcome = drive(dify.steps(Run("any")), [Reply(200, started), Reply(200, finished()["data"])])
    assert f"/v1/workflows/run/{RUN_ID}" == calls(steps)[1].path
    assert outcome is not None
    assert (RUN_ID, None) == (outcome.provider_run_id, dify.cancel(RUN_ID))


def test_a_stop_that_is_not_confirmed_is_a_fault() -> None:
    for answer in (Reply(404, {"code": "not_found"}), Reply(200, {}), Reply(200, {"result": "failure"})):
        steps = Dify(None, DifyOptions()).cancel(f"{RUN_ID}:{TASK_ID}")
        assert steps is not None
        taken, accepted = drive(steps, [answer])
        assert isinstance(taken[-1], ProviderFault)
        assert accepted is None
