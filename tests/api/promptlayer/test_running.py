"""Apps that speak PromptLayer's API run workflows of both providers through a real gateway."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Protocol
from unittest.mock import ANY

import pytest

from tests.api.promptlayer.client import BODY, RESULTS, Client, number_of, places
from tests.configuration import SECRETS
from tests.durable.lives import until
from tests.faults import faults
from tests.faults.answers import reply
from tests.faults.provider_answers import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.process import total

if TYPE_CHECKING:
    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.faults.upstream import Upstream

DONE = promptlayer_done({"Draft": node("d", is_output=False), "Answer": node("because")})
CHANNEL: dict[str, JsonValue] = {"channel_name_suffix": "a71d"}
STARTED = {"success": True, "message": "Workflow execution started", "warning": None}


class Serve(Protocol):
    """The fixture `serve`."""

    async def __call__(self, *, client: str = "one", **overrides: JsonValue) -> Client:
        """Start a gateway, and talk to it."""


@pytest.fixture
def serve(gateway: StartGateway, session: aiohttp.ClientSession, upstream: Upstream) -> Serve:
    """A gateway whose providers are well."""
    upstream.always("POST", LAYER_RUN, promptlayer_started(77))
    upstream.always("GET", LAYER_RESULTS, DONE)
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply({"completion": "because"}))

    async def start(*, client: str = "one", **overrides: JsonValue) -> Client:
        running = await gateway(None, SECRETS, **overrides)
        return Client(session, running, client)

    return start


async def test_a_run_at_promptlayer(upstream: Upstream, serve: Serve) -> None:
    """201 with a number, its results in both forms, the provider's key on the server's side, one start."""
    app = await serve()
    started = await app.run("layer-test", {"metadata": {"team": "a"}})
    number = number_of(started)
    assert STARTED | {"workflow_version_execution_id": number} == started.json
    assert (201, True) == (started.status, 0 < number < 2**53)
    assert "because" == await app.ended(started)
    every = await app.ended(started, every=True)
    assert ("because", False) == (every["Answer"]["value"], every["Draft"]["is_output_node"])
    [start] = upstream.requests("POST")
    sent = json.loads(start.body)
    assert ({"question": "why?"}, {"team": "a"}) == (sent["input_variables"], sent["metadata"])
    assert SECRETS["PROMPTLAYER_API_KEY"] == start.header("X-API-KEY")


async def test_a_run_at_prompt_studio(upstream: Upstream, serve: Serve) -> None:
    """The app does not see the difference: its output stands in one output node."""
    app = await serve()
    started = await app.run("studio")
    assert {"completion": "because"} == await app.ended(started)
    every = await app.ended(started, every=True)
    assert [({"completion": "because"}, True)] == [(n["value"], n["is_output_node"]) for n in every.values()]
    assert 1 == len(upstream.requests("POST", STUDIO_RUN))


async def test_the_gateways_own_api_and_metrics_know_it(serve: Serve) -> None:
    """One run, whoever asks: the header has the id, and the metrics the face."""
    app = await serve()
    started = await app.run("layer-test", {"metadata": {"team": "a"}})
    await app.ended(started)
    shown = await app.shown(started)
    assert ("succeeded", "layer", "because", {"team": "a"}) == tuple(
        shown[name] for name in ("status", "workflow", "output", "metadata")
    )
    assert started.headers["Location"] == f"/runs/{shown['id']}"
    samples = await app.gateway.metrics()
    assert 1 == total(samples, "runward_runs_total", face="promptlayer", outcome="succeeded", client="one")
    assert 1 == total(samples, "runward_requests_total", route="promptlayer_run", status="201")


async def test_results_are_202_while_it_goes_on(upstream: Upstream, serve: Serve) -> None:
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    app = await serve()
    started = await app.run()
    await until(lambda: upstream.requests("GET"))
    for every in (True, False):
        status, found = await app.results(number_of(started), every=every)
        assert (202, ["RUNNING"]) == (status, [n["status"] for n in found.values()])
    upstream.always("GET", LAYER_RESULTS, DONE)
    assert "because" == await app.ended(started)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (promptlayer_started(77), "no"),
        (reply(422, {"message": "no such input"}), "Nothing was run."),
        (reply(500, {}), "Whether the workflow ran is not known."),
        (faults.rst_after_request, "Whether the workflow ran is not known."),
    ],
    ids=["failed", "not run", "500", "unknown"],
)
@pytest.mark.parametrize("every", [True, False])
async def test_a_run_that_did_not_succeed(
    upstream: Upstream, serve: Serve, answer: Any, says: str, *, every: bool
) -> None:
    """200 with a failed output node, in both forms, as the SDKs know it; one start."""
    upstream.always("POST", LAYER_RUN, answer)
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node(None, "FAILED", error="no")}))
    app = await serve()
    [failed] = (await app.ended(await app.run(), every=every)).values()
    assert ("FAILED", True) == (failed["status"], failed["is_output_node"])
    assert failed["error_message"].endswith(says)
    assert 1 == len(upstream.requests("POST"))


async def test_a_number_is_nobody_elses(serve: Serve) -> None:
    """Another client's number, and one that never was, look the same."""
    app = await serve()
    started = await app.run()
    await app.ended(started)
    stranger = await app.other().results(number_of(started))
    never = await app.results(1)
    for status, body in (stranger, never):
        assert (404, "not_found", False) == (status, body["code"], body["success"])
    assert stranger[1]["message"] == never[1]["message"]


async def test_a_channel_starts_once(upstream: Upstream, serve: Serve) -> None:
    """Sent again with its channel_name_suffix, even at the same time, it is the same run; another client's is not."""
    app = await serve()
    first = await app.run("layer", CHANNEL)
    again = await asyncio.gather(*(app.run("layer", CHANNEL) for _ in range(5)))
    await app.ended(first)
    again += [await app.run("layer", CHANNEL)]
    assert [(201, first.body)] * 6 == [(answered.status, answered.body) for answered in again]
    assert {"true"} == {answered.headers["Idempotent-Replayed"] for answered in again}
    assert 1 == len(upstream.requests("POST"))
    assert number_of(first) != number_of(await app.other().run("layer", CHANNEL))
    await until(lambda: 2 == len(upstream.requests("POST")))


async def test_a_channel_with_another_body_is_refused(upstream: Upstream, serve: Serve) -> None:
    app = await serve()
    await app.ended(await app.run("layer", CHANNEL))
    changes: list[dict[str, JsonValue]] = [
        {"input_variables": {}},
        {"return_all_outputs": True},
        {"metadata": {"a": "b"}},
    ]
    for more in changes:
        refused = await app.run("layer", {**CHANNEL, **more})
        assert (422, "idempotency_mismatch", False) == (*refused.summary[:2], refused.json["success"])
    assert 422 == (await app.run("studio", CHANNEL)).status
    assert 1 == len(upstream.log) - len(upstream.requests("GET"))


async def test_an_idempotency_key_works_here_too(upstream: Upstream, serve: Serve) -> None:
    """Byte for byte; another body, another workflow or `POST /run` is a mismatch."""
    app = await serve()
    key = "order-7"
    first = await app.run(Idempotency_Key=key)
    await app.ended(first)
    again = await app.run(Idempotency_Key=key)
    assert (201, first.body, "true") == (again.status, again.body, again.headers["Idempotent-Replayed"])
    refused = [
        await app.run("layer", {"metadata": {"a": "b"}}, Idempotency_Key=key),
        await app.run("studio", Idempotency_Key=key),
    ]
    refused += [await app.ask("POST", "/run", {"workflow": "layer"}, Idempotency_Key=key)]
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
async def test_names_are_found_however_they_are_written(upstream: Upstream, serve: Serve, path: str) -> None:
    """Slashes, spaces and letters, encoded or not, with a doubled slash in front or not."""
    upstream.always("POST", "/workflows/team%2Ftriage%20%C3%BC/run", promptlayer_started(77))
    workflow: JsonValue = {"provider": "promptlayer", "name": "team/triage ü", "timeout": "3s", "max_timeout": "3s"}
    app = await serve(workflows={"triage": workflow})
    assert "because" == await app.ended(await app.ask("POST", path, dict(BODY)))
    shown = await app.ask("GET", path.removesuffix("/run"))
    number = shown.json["workflow_id"]
    assert {"id": number, "name": "triage"} == shown.json["workflow"]
    assert "because" == await app.ended(await app.run(str(number)))
    assert 2 == len(upstream.requests("POST"))


async def test_a_workflow_that_is_not_configured_has_its_name_for_an_id(upstream: Upstream, serve: Serve) -> None:
    upstream.always("POST", "/workflows/team%2Fother/run", promptlayer_started(77))
    app = await serve(clients={"one": {"workflows": ["promptlayer/team/*"]}})
    shown = await app.ask("GET", "//workflows/team/other")
    assert {"id": "team/other", "name": "team/other"} == shown.json["workflow"]
    started = await app.run(str(shown.json["workflow_id"]))
    assert "because" == await app.ended(started)
    assert "promptlayer/team/other" == (await app.shown(started))["workflow"]


async def test_workflows_are_listed_a_page_at_a_time(serve: Serve) -> None:
    app = await serve(clients={"two": {"workflows": ["studio"]}})
    first = (await app.ask("GET", "/workflows?per_page=1")).json
    assert (2, 2, True, False, 2, None) == tuple(
        first[k] for k in ("pages", "total", "has_next", "has_prev", "next_num", "prev_num")
    )
    shown = {"id": ANY, "name": "layer", "latest_version_number": None, "release_labels": []}
    assert [shown] == first["items"]
    second = (await app.ask("GET", "//workflows?per_page=1&page=2")).json
    assert (False, True, None, 1) == tuple(second[k] for k in ("has_next", "has_prev", "next_num", "prev_num"))
    theirs = (await app.other().ask("GET", "/workflows")).json
    assert (1, 1, 30) == (theirs["total"], theirs["pages"], theirs["per_page"])


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
    upstream: Upstream, serve: Serve, pinned: dict[str, JsonValue], asked: dict[str, JsonValue], status: int
) -> None:
    """What is asked for is what runs; a workflow that is pinned accepts its own pin and no other."""
    app = await serve(workflows={"layer": pinned})
    answered = await app.run("layer", asked)
    assert status == answered.status
    if status == 422:
        assert [["body", next(iter(asked))]] == places(answered)
        assert [] == upstream.log
        return
    await app.ended(answered)
    [start] = upstream.requests("POST")
    wanted = {f"workflow_{'label_name' if k == 'label' else 'version_number'}": v for k, v in pinned.items()} | asked
    sent = json.loads(start.body)
    assert wanted == {k: sent[k] for k in wanted}


async def test_a_provider_without_versions_refuses_them(upstream: Upstream, serve: Serve) -> None:
    answered = await (await serve()).run("studio", {"workflow_label_name": "prod"})
    assert 422 == answered.status
    assert "provider has no versions" in str(answered.json["message"])
    assert [] == upstream.log


async def test_a_client_that_has_gone_has_its_run_all_the_same(upstream: Upstream, serve: Serve) -> None:
    """It was promised as soon as it was kept."""
    app = await serve()
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
    await until(lambda: 5 == len(upstream.requests("POST")))


async def test_limits_make_it_wait_and_refuse_nothing(upstream: Upstream, serve: Serve) -> None:
    """The SDKs would send a 429 again, four times."""
    app = await serve(clients={"one": {"limits": {"rate": "2/s", "burst": 1}}})
    started = [await app.run() for _ in range(4)]
    assert [201] * 4 == [answered.status for answered in started]
    assert ["because"] * 4 == [await app.ended(answered) for answered in started]
    assert 4 == len(upstream.requests("POST"))


async def test_results_want_a_number(serve: Serve) -> None:
    app = await serve()
    for query in ("", "?workflow_version_execution_id=x", "?workflow_version_execution_id=0"):
        answered = await app.ask("GET", RESULTS + query)
        assert 422 == answered.status
        assert [["query", "workflow_version_execution_id"]] == places(answered)
