"""Migration of a Prompt Studio application: only base URL and key change."""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import quote

import pytest
from yarl import URL

from providers.contract import JsonValue
from tests.api.prompt_studio.app_client import INPUT, INSTRUCTIONS_PATH, WORKFLOWS_PATH
from tests.api.prompt_studio.conftest import StartApp
from tests.support.client import auth_headers
from tests.support.configuration import CLIENT_KEYS, PROVIDER_SECRETS
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_started,
)
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.process import metric_sum

pytestmark = pytest.mark.shared_gateway

CAR: JsonValue = {"completion": "The Bugatti Chiron Super Sport 300+"}
PATHS_AND_MEMBERS = [(WORKFLOWS_PATH, "result"), (INSTRUCTIONS_PATH, "completion")]


def script_promptlayer(upstream: FakeUpstream, value: JsonValue, *, name: str = "layer-test") -> None:
    """Script the workflow of that name at PromptLayer to return `value`."""
    upstream.always("POST", f"/workflows/{name}/run", promptlayer_started(787))
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node(value)}))


@pytest.mark.parametrize(("path", "member"), PATHS_AND_MEMBERS)
async def test_a_run_at_prompt_studio(start_app: StartApp, upstream: FakeUpstream, path: str, member: str) -> None:
    """The example of the documentation; the run can be looked up and is counted under its API."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply(CAR))
    app = await start_app()
    response = await app.run("dep_test", path=path)
    assert (200, {member: CAR}) == (response.status, response.body)
    assert [200, "succeeded", "studio", CAR] == await app.get_run(response)
    [sent] = upstream.requests("POST")
    assert PROVIDER_SECRETS["PROMPT_STUDIO_API_KEY"] == sent.header("API_KEY")
    assert INPUT == json.loads(sent.body)
    assert 1 == metric_sum(await app.gateway.metrics(), "runward_runs_total", api="prompt_studio", workflow="studio")
    [line] = [line for line in app.gateway.logs("request") if line["route"] == "prompt_studio_run"]
    assert ("prompt_studio", response.headers["Runward-Run-Id"]) == (line["api"], line["run_id"])


@pytest.mark.parametrize(
    ("value", "result"),
    [({"answer": 1}, {"answer": 1}), ("because", {"completion": "because"}), ([], {"completion": []})],
)
async def test_a_run_at_promptlayer(
    start_app: StartApp, upstream: FakeUpstream, value: JsonValue, result: JsonValue
) -> None:
    """A result of another provider is an object as well."""
    script_promptlayer(upstream, value)
    app = await start_app()
    response = [await app.run("layer", path=path) for path, _ in PATHS_AND_MEMBERS]
    assert [(200, {member: result}) for _, member in PATHS_AND_MEMBERS] == [
        (each.status, each.body) for each in response
    ]


@pytest.mark.parametrize("path", [WORKFLOWS_PATH, INSTRUCTIONS_PATH])
async def test_invalid_requests_are_rejected_before_a_start(
    start_app: StartApp, upstream: FakeUpstream, path: str
) -> None:
    """Invalid keys, deployments and bodies get `{}`, and nothing is sent."""
    app = await start_app()
    unauthenticated = replace(app, key="hunter2")
    assert (401, {}, "unauthorized", None) == (await unauthenticated.run("dep_test", path=path)).summary
    for strange in ("none", "dep_", "a b", "a/b", "%", "ü", "x" * 513, "?x"):
        assert (404, {}, "workflow_not_found", None) == (await app.run(strange, path=path)).summary
    for body, code in ((None, 422), ([], 422), ({"input": None}, 422), ({"input": "text"}, 422), ({"input": []}, 422)):
        assert (code, {}, "invalid_request", None) == (await app.run("dep_test", path=path, body=body)).summary
    text = await app.run("dep_test", path=path, headers={"Content-Type": "text/plain"})
    assert (415, {}, "unsupported_media_type", None) == text.summary
    large = await app.run("dep_test", path=path, body={"input": {"a": "x" * 1_000_000}})
    assert (413, {}, "payload_too_large", None) == large.summary
    key = await app.run("dep_test", path=path, headers={"Idempotency-Key": "a" * 256})
    assert (400, {}, "invalid_idempotency_key", None) == key.summary
    get = await app.request("GET", URL(app.url + path.format("x")), auth_headers("one"), None)
    assert (405, {}, "method_not_allowed", None) == get.summary
    assert [] == upstream.received


async def test_the_key_may_stand_in_any_of_the_three_headers_here_and_in_two_elsewhere(
    start_app: StartApp, upstream: FakeUpstream
) -> None:
    """Some proxies drop header names with an underscore, so the other two are accepted as well."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply(CAR))
    app = await start_app()
    for headers in ({"API_KEY": CLIENT_KEYS["one"]}, {"X-API-KEY": CLIENT_KEYS["one"]}, auth_headers("one")):
        for path in (WORKFLOWS_PATH, INSTRUCTIONS_PATH):
            target = URL(app.url + path.format("dep_test"))
            assert 200 == (await app.request("POST", target, headers, b'{"input":{}}')).status
        expected = 401 if "API_KEY" in headers else 200
        async with app.session.get(app.url + "/runs", headers=headers) as answer:
            assert expected == answer.status


async def test_a_body_without_input_runs_without_input(start_app: StartApp, upstream: FakeUpstream) -> None:
    """The documentation does not require `input`; unknown members are ignored."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply(CAR))
    app = await start_app()
    assert [200, 200] == [
        (await app.run("dep_test", body=body)).status for body in ({}, {"input": {}, "stream": False})
    ]
    assert [{"input": {}}] * 2 == [json.loads(sent.body) for sent in upstream.requests("POST")]


UNUSUAL_NAMES = ["a/b", "a b", "ä", "a%2Fb", "a?b=c#d", "..x", "run", "/run", "a//b", "%", "../x"]


async def test_a_deployment_may_be_called_anything(start_app: StartApp, upstream: FakeUpstream) -> None:
    """R61: every name is sent to the provider as one path segment."""
    upstream.default = prompt_studio_reply(CAR)
    app = await start_app(clients={"one": {"workflows": ["*", "prompt_studio/*"]}})
    for name in UNUSUAL_NAMES:
        response = await app.run(name)
        assert (name, 200) == (name, response.status)
        assert [200, "succeeded", f"prompt_studio/{name}", CAR] == await app.get_run(response)
    assert [f"/v1/workflows/{quote(name, safe='')}/run" for name in UNUSUAL_NAMES] == [
        r.path for r in upstream.requests("POST")
    ]
    for strange in ("%2e", "%2e%2e", "%ff", "a%80", "%ed%a0%80"):
        target = URL(app.url + WORKFLOWS_PATH.format(strange), encoded=True)
        assert 404 == (await app.request("POST", target, {"API_KEY": CLIENT_KEYS["one"]}, b"{}")).status


async def test_a_trailing_slash_of_the_base_url_does_no_harm(start_app: StartApp, upstream: FakeUpstream) -> None:
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply(CAR))
    app = await start_app()
    target = URL(f"{app.url}//v1/workflows/dep_test/run", encoded=True)
    assert 200 == (await app.request("POST", target, auth_headers("one"), b"{}")).status


async def test_a_workflow_answers_to_its_alias_and_to_the_names_it_was_given(
    start_app: StartApp, upstream: FakeUpstream
) -> None:
    script_promptlayer(upstream, "because")
    app = await start_app(workflows={"layer": {"aliases": {"prompt_studio": ["dep_8sKq"]}}})
    names = ("dep_8sKq", "layer", "layer-test")
    assert [200, 200, 404] == [(await app.run(name)).status for name in names]


async def test_a_key_makes_a_run_repeatable(start_app: StartApp, upstream: FakeUpstream) -> None:
    """One start and the same answer in both dialects; another deployment or input under the same key is refused."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply(CAR))
    app = replace(await start_app(), headers={"Idempotency-Key": "k1"})
    first, second, third = (
        await app.run("dep_test"),
        await app.run("dep_test"),
        await app.run("dep_test", path=INSTRUCTIONS_PATH),
    )
    assert [(200, {"result": CAR}), (200, {"result": CAR}), (200, {"completion": CAR})] == [
        (response.status, response.body) for response in (first, second, third)
    ]
    assert 1 == len({told.headers["Runward-Run-Id"] for told in (first, second, third)})
    assert [None, "true"] == [told.headers.get("Idempotent-Replayed") for told in (first, second)]
    other = [await app.run("layer"), await app.run("dep_test", body={"input": {}})]
    assert [(422, {}, "idempotency_mismatch", None)] * 2 == [told.summary for told in other]
    assert 1 == len(upstream.requests("POST"))


async def test_a_failed_run_fails_again_under_its_key(start_app: StartApp, upstream: FakeUpstream) -> None:
    upstream.script("POST", STUDIO_RUN, [faults.rst_after_request])
    app = replace(await start_app(), headers={"Idempotency-Key": "k2"})
    first, second = await app.run("dep_test"), await app.run("dep_test")
    assert (500, {}, "upstream_disconnected", "unknown") == first.summary == second.summary
    assert first.headers["Runward-Run-Id"] == second.headers["Runward-Run-Id"]
    assert 1 == len(upstream.requests("POST"))


async def test_a_client_sees_and_runs_what_is_its_own(start_app: StartApp, upstream: FakeUpstream) -> None:
    """R78: the scope applies; every listed id can be run."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply(CAR))
    workflows: JsonValue = {"layer": {"aliases": {"prompt_studio": ["dep_8sKq"]}}}
    one = await start_app(workflows=workflows, clients={"two": {"workflows": ["studio"]}})
    two = replace(one, key=CLIENT_KEYS["two"])
    assert {"dep_8sKq": "layer", "dep_test": "studio"} == deployments_by_id((await one.deployments()).body)
    assert {"dep_test": "studio"} == deployments_by_id((await two.deployments()).body)
    assert (403, {}, "forbidden", None) == (await two.run("dep_8sKq")).summary
    assert 200 == (await two.run("dep_test")).status
    assert 401 == (await replace(one, key="").deployments()).status


def deployments_by_id(body: JsonValue) -> dict[JsonValue, JsonValue]:
    """Return the deployments in the shape that the n8n node reads."""
    assert isinstance(body, dict)
    found = body["deployments"]
    assert isinstance(found, list)
    names: dict[JsonValue, JsonValue] = {}
    for each in found:
        assert isinstance(each, dict)
        assert {"deployment_id", "created_at", "recipe_id", "recipe_name", "schemas"} == each.keys()
        names[each["deployment_id"]] = each["recipe_name"]
    return names


async def test_a_limit_is_a_429_before_anything_runs(start_app: StartApp, upstream: FakeUpstream) -> None:
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply(CAR))
    app = await start_app(clients={"one": {"limits": {"rate": "1/h"}}})
    assert 200 == (await app.run("dep_test")).status
    response = await app.run("dep_test")
    assert (429, {}, "rate_limited", "not_run") == response.summary
    assert 0 < int(response.headers["Retry-After"]) <= 3600
    assert {"RateLimit", "RateLimit-Policy"} <= set(response.headers)
    assert 1 == len(upstream.requests("POST"))
