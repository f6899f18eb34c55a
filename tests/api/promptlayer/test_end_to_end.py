"""PromptLayer's API end to end, for workflows of both providers."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Protocol
from unittest.mock import ANY

import pytest

from tests.api.promptlayer.app_client import BODY, RESULTS, PromptLayerApp, error_locations, execution_id_of
from tests.support.configuration import PROVIDER_SECRETS
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.support.fake_upstream.responses import reply
from tests.support.process import metric_sum
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream

pytestmark = pytest.mark.shared_gateway

DONE = promptlayer_done({"Draft": node("d", is_output=False), "Answer": node("because")})
CHANNEL: dict[str, JsonValue] = {"channel_name_suffix": "a71d"}
STARTED = {"success": True, "message": "Workflow execution started", "warning": None}


class StartClient(Protocol):
    """Type of the fixture `start_client`."""

    async def __call__(self, *, client: str = "one", **overrides: JsonValue) -> PromptLayerApp:
        """Start a gateway; returns a client of it."""


@pytest.fixture
def start_client(gateway: StartGateway, session: aiohttp.ClientSession, upstream: FakeUpstream) -> StartClient:
    """Factory of clients; the providers succeed."""
    upstream.always("POST", LAYER_RUN, promptlayer_started(77))
    upstream.always("GET", LAYER_RESULTS, DONE)
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply({"completion": "because"}))

    async def start(*, client: str = "one", **overrides: JsonValue) -> PromptLayerApp:
        running = await gateway(None, PROVIDER_SECRETS, **overrides)
        return PromptLayerApp(session, running, client)

    return start


async def test_a_run_at_promptlayer(upstream: FakeUpstream, start_client: StartClient) -> None:
    """201 with an execution id, results in both formats, one start with the provider's key."""
    app = await start_client()
    started = await app.start_run("layer-test", {"metadata": {"team": "a"}})
    number = execution_id_of(started)
    assert STARTED | {"workflow_version_execution_id": number} == started.json
    assert (201, True) == (started.status, 0 < number < 2**53)
    assert "because" == await app.wait_for_results(started)
    every = await app.wait_for_results(started, all_nodes=True)
    assert ("because", False) == (every["Answer"]["value"], every["Draft"]["is_output_node"])
    [start] = upstream.requests("POST")
    sent = json.loads(start.body)
    assert ({"question": "why?"}, {"team": "a"}) == (sent["input_variables"], sent["metadata"])
    assert PROVIDER_SECRETS["PROMPTLAYER_API_KEY"] == start.header("X-API-KEY")


async def test_a_run_at_prompt_studio(upstream: FakeUpstream, start_client: StartClient) -> None:
    """The output is in one output node, as for PromptLayer's own runs."""
    app = await start_client()
    started = await app.start_run("studio")
    assert {"completion": "because"} == await app.wait_for_results(started)
    every = await app.wait_for_results(started, all_nodes=True)
    assert [({"completion": "because"}, True)] == [(n["value"], n["is_output_node"]) for n in every.values()]
    assert 1 == len(upstream.requests("POST", STUDIO_RUN))


async def test_the_gateways_own_api_and_metrics_know_it(start_client: StartClient) -> None:
    """The header has the run id of the gateway's API, and the metrics have the API."""
    app = await start_client()
    started = await app.start_run("layer-test", {"metadata": {"team": "a"}})
    await app.wait_for_results(started)
    shown = await app.get_run(started)
    assert ("succeeded", "layer", "because", {"team": "a"}) == tuple(
        shown[name] for name in ("status", "workflow", "output", "metadata")
    )
    assert started.headers["Location"] == f"/runs/{shown['id']}"
    samples = await app.gateway.metrics()
    assert 1 == metric_sum(samples, "runward_runs_total", api="promptlayer", outcome="succeeded", client="one")
    assert 1 == metric_sum(samples, "runward_requests_total", route="promptlayer_run", status="201")


async def test_results_are_202_while_it_goes_on(upstream: FakeUpstream, start_client: StartClient) -> None:
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    app = await start_client()
    started = await app.start_run()
    await wait_until(lambda: upstream.requests("GET"))
    for every in (True, False):
        status, found = await app.get_results(execution_id_of(started), all_nodes=every)
        assert (202, ["RUNNING"]) == (status, [n["status"] for n in found.values()])
    upstream.always("GET", LAYER_RESULTS, DONE)
    assert "because" == await app.wait_for_results(started)


@pytest.mark.parametrize("every", [True, False])
async def test_a_run_that_failed(upstream: FakeUpstream, start_client: StartClient, *, every: bool) -> None:
    """200 with a failed output node in both formats, its error as PromptLayer sent it; one start."""
    raw = "no\nTraceback (most recent call last): " + "x" * 300
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node(None, "FAILED", error=raw)}))
    app = await start_client()
    started = await app.start_run()
    [failed] = (await app.wait_for_results(started, all_nodes=every)).values()
    assert ("FAILED", True) == (failed["status"], failed["is_output_node"])
    assert (raw, raw) == (failed["error_message"], failed["raw_error_message"])
    shown: Any = await app.get_run(started)
    assert ("no", None) == (shown["outputs"]["Answer"]["error"], shown.get("raw_errors"))
    assert 1 == len(upstream.requests("POST"))


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        (reply(404, {"message": "Workflow label not found."}), 404, "Workflow label not found. Nothing was run."),
        (reply(422, {"message": "no such input"}), 422, "no such input. Nothing was run."),
        (reply(500, {}), 409, "Whether the workflow ran is not known."),
        (faults.rst_after_request, 409, "Whether the workflow ran is not known."),
    ],
    ids=["404", "422", "500", "cut"],
)
async def test_a_start_that_is_refused_is_answered_so(
    upstream: FakeUpstream, start_client: StartClient, answer: Any, status: int, says: str
) -> None:
    """As at PromptLayer, except that no status is repeated by an SDK if the run may have been started."""
    upstream.always("POST", LAYER_RUN, answer)
    app = await start_client()
    refused = await app.start_run()
    assert (status, False) == (refused.status, refused.json["success"])
    assert str(refused.json["message"]).endswith(says)
    assert refused.json["message"] == refused.json["error"]
    assert (status == 409) == ("Runward-Run-Id" in refused.headers)
    if status == 409:
        assert "unknown" == (await app.get_run(refused))["status"]
    assert 1 == len(upstream.requests("POST"))


async def test_an_execution_id_belongs_to_one_client(start_client: StartClient) -> None:
    """Execution ids of other clients are answered like unknown ones."""
    app = await start_client()
    started = await app.start_run()
    await app.wait_for_results(started)
    other_result = await app.as_other_client().get_results(execution_id_of(started))
    never = await app.get_results(1)
    for status, body in (other_result, never):
        assert (404, "not_found", False) == (status, body["code"], body["success"])
    assert other_result[1]["message"] == never[1]["message"]


async def test_a_channel_starts_once(upstream: FakeUpstream, start_client: StartClient) -> None:
    """Requests with the same channel_name_suffix, even concurrent ones, are one run per client."""
    app = await start_client()
    first = await app.start_run("layer", CHANNEL)
    again = await asyncio.gather(*(app.start_run("layer", CHANNEL) for _ in range(5)))
    await app.wait_for_results(first)
    again += [await app.start_run("layer", CHANNEL)]
    assert [(201, first.body)] * 6 == [(answered.status, answered.body) for answered in again]
    assert {"true"} == {answered.headers["Idempotent-Replayed"] for answered in again}
    assert 1 == len(upstream.requests("POST"))
    assert execution_id_of(first) != execution_id_of(await app.as_other_client().start_run("layer", CHANNEL))
    await wait_until(lambda: 2 == len(upstream.requests("POST")))


async def test_a_channel_with_another_body_is_refused(upstream: FakeUpstream, start_client: StartClient) -> None:
    app = await start_client()
    channel: dict[str, JsonValue] = {"channel_name_suffix": "b82e"}
    await app.wait_for_results(await app.start_run("layer", channel))
    changes: list[dict[str, JsonValue]] = [
        {"input_variables": {}},
        {"return_all_outputs": True},
        {"metadata": {"a": "b"}},
    ]
    for more in changes:
        refused = await app.start_run("layer", {**channel, **more})
        assert (422, "idempotency_mismatch", False) == (*refused.summary[:2], refused.json["success"])
    assert 422 == (await app.start_run("studio", channel)).status
    assert 1 == len(upstream.received) - len(upstream.requests("GET"))


async def test_an_idempotency_key_works_here_too(upstream: FakeUpstream, start_client: StartClient) -> None:
    """Same bytes; another body, another workflow or `POST /run` is a mismatch."""
    app = await start_client()
    key = "order-7"
    first = await app.start_run(Idempotency_Key=key)
    await app.wait_for_results(first)
    again = await app.start_run(Idempotency_Key=key)
    assert (201, first.body, "true") == (again.status, again.body, again.headers["Idempotent-Replayed"])
    refused = [
        await app.start_run("layer", {"metadata": {"a": "b"}}, Idempotency_Key=key),
        await app.start_run("studio", Idempotency_Key=key),
    ]
    refused += [await app.request("POST", "/run", {"workflow": "layer"}, Idempotency_Key=key)]
    assert [(422, "idempotency_mismatch")] * 3 == [answered.summary[:2] for answered in refused]
    assert 1 == len(upstream.requests("POST"))


@pytest.mark.parametrize(
    "path",
    [
        "/workflows/team/triage%20%C3%BC/run",
        "/workflows/team%2Ftriage%20%C3%BC/run",
        "//workflows/team/triage%20%c3%bc/run",
    ],
)
async def test_names_are_found_however_they_are_written(
    upstream: FakeUpstream, start_client: StartClient, path: str
) -> None:
    """Slashes, spaces and letters, encoded or not, with or without a leading doubled slash."""
    upstream.always("POST", "/workflows/team%2Ftriage%20%C3%BC/run", promptlayer_started(77))
    workflow: JsonValue = {"provider": "promptlayer", "name": "team/triage ü", "timeout": "3s", "max_timeout": "3s"}
    app = await start_client(workflows={"triage": workflow})
    assert "because" == await app.wait_for_results(await app.request("POST", path, dict(BODY)))
    shown = await app.request("GET", path.removesuffix("/run"))
    number = shown.json["workflow_id"]
    assert {"id": number, "name": "triage"} == shown.json["workflow"]
    assert "because" == await app.wait_for_results(await app.start_run(str(number)))
    assert 2 == len(upstream.requests("POST"))


async def test_a_workflow_that_is_not_configured_has_its_name_for_an_id(
    upstream: FakeUpstream, start_client: StartClient
) -> None:
    upstream.always("POST", "/workflows/team%2Fother/run", promptlayer_started(77))
    app = await start_client(clients={"one": {"workflows": ["promptlayer/team/*"]}})
    shown = await app.request("GET", "//workflows/team/other")
    assert {"id": "team/other", "name": "team/other"} == shown.json["workflow"]
    started = await app.start_run(str(shown.json["workflow_id"]))
    assert "because" == await app.wait_for_results(started)
    assert "promptlayer/team/other" == (await app.get_run(started))["workflow"]


async def test_workflows_are_listed_a_page_at_a_time(start_client: StartClient) -> None:
    app = await start_client(clients={"two": {"workflows": ["studio"]}})
    first = (await app.request("GET", "/workflows?per_page=1")).json
    assert (2, 2, True, False, 2, None) == tuple(
        first[k] for k in ("pages", "total", "has_next", "has_prev", "next_num", "prev_num")
    )
    shown = {"id": ANY, "name": "layer", "latest_version_number": None, "release_labels": []}
    assert [shown] == first["items"]
    second = (await app.request("GET", "//workflows?per_page=1&page=2")).json
    assert (False, True, None, 1) == tuple(second[k] for k in ("has_next", "has_prev", "next_num", "prev_num"))
    theirs = (await app.as_other_client().request("GET", "/workflows")).json
    assert (1, 1, 30) == (theirs["total"], theirs["pages"], theirs["per_page"])


async def test_filters_that_are_not_served_are_refused(start_client: StartClient) -> None:
    """An application that takes the first workflow of the list would run another one."""
    app = await start_client()
    for name in ("external_source", "external_id", "sort_by", "sort_order", "created_after", "name"):
        refused = await app.request("GET", f"/workflows?per_page=1&{name}=x")
        assert (422, [["query", name]]) == (refused.status, error_locations(refused))


@pytest.mark.parametrize(
    ("pinned", "asked", "status"),
    [
        ({"label": "prod"}, {"workflow_label_name": "prod"}, 201),
        ({"label": "prod"}, {}, 201),
        ({"label": "prod"}, {"workflow_label_name": "dev"}, 422),
        ({"label": "prod"}, {"workflow_version_number": 3}, 422),
        ({"version": 3}, {"workflow_version_number": 3}, 201),
        ({}, {"workflow_label_name": "dev"}, 201),
    ],
)
async def test_labels_and_versions(
    upstream: FakeUpstream,
    start_client: StartClient,
    pinned: dict[str, JsonValue],
    asked: dict[str, JsonValue],
    status: int,
) -> None:
    """The requested version is executed; a pinned workflow accepts its own version only."""
    app = await start_client(workflows={"layer": pinned})
    answered = await app.start_run("layer", asked)
    assert status == answered.status
    if status == 422:
        assert [["body", next(iter(asked))]] == error_locations(answered)
        assert [] == upstream.received
        return
    await app.wait_for_results(answered)
    [start] = upstream.requests("POST")
    wanted = {f"workflow_{'label_name' if k == 'label' else 'version_number'}": v for k, v in pinned.items()} | asked
    sent = json.loads(start.body)
    assert wanted == {k: sent[k] for k in wanted}


async def test_a_provider_without_versions_refuses_them(upstream: FakeUpstream, start_client: StartClient) -> None:
    answered = await (await start_client()).start_run("studio", {"workflow_label_name": "prod"})
    assert 422 == answered.status
    assert "does not support versions" in str(answered.json["message"])
    assert [] == upstream.received


async def test_a_client_that_has_gone_has_its_run_all_the_same(
    upstream: FakeUpstream, start_client: StartClient
) -> None:
    """A stored run continues after its client has disconnected."""
    app = await start_client()
    host, port = app.gateway.url.removeprefix("http://").split(":")
    for _ in range(5):
        reader, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps(dict(BODY))
        writer.write(
            f"POST /workflows/layer/run HTTP/1.1\r\nHost: a\r\nX-API-KEY: {app.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()
        del reader
    await wait_until(lambda: 5 == len(upstream.requests("POST")))


@pytest.mark.own_gateway
async def test_limits_make_it_wait_and_refuse_nothing(upstream: FakeUpstream, start_client: StartClient) -> None:
    """The SDKs would repeat a 429 up to four times."""
    app = await start_client(clients={"one": {"limits": {"rate": "2/s", "burst": 1}}})
    started = [await app.start_run() for _ in range(4)]
    assert [201] * 4 == [answered.status for answered in started]
    assert ["because"] * 4 == [await app.wait_for_results(answered) for answered in started]
    assert 4 == len(upstream.requests("POST"))


async def test_results_require_an_execution_id(start_client: StartClient) -> None:
    app = await start_client()
    for query in ("", "?workflow_version_execution_id=x", "?workflow_version_execution_id=0"):
        answered = await app.request("GET", RESULTS + query)
        assert 422 == answered.status
        assert [["query", "workflow_version_execution_id"]] == error_locations(answered)
