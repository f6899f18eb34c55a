"""An app that was written for Prompt Studio changes its base URL and its key, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import quote

import pytest
from yarl import URL

from providers.contract import JsonValue
from tests.api.prompt_studio.client import INPUT, NEW, OLD
from tests.api.prompt_studio.conftest import Serve
from tests.client import bearer
from tests.configuration import KEYS, SECRETS
from tests.faults import faults
from tests.faults.provider_answers import (
    LAYER_RESULTS,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_started,
)
from tests.faults.upstream import Upstream
from tests.process import total

CAR: JsonValue = {"completion": "The Bugatti Chiron Super Sport 300+"}
BOTH = [(OLD, "result"), (NEW, "completion")]


def layer_answers(upstream: Upstream, value: JsonValue, *, at: str = "layer-test") -> None:
    """Let the workflow of that name at PromptLayer make `value`."""
    upstream.always("POST", f"/workflows/{at}/run", promptlayer_started(787))
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node(value)}))


@pytest.mark.parametrize(("path", "member"), BOTH)
async def test_a_run_at_prompt_studio(serve: Serve, upstream: Upstream, path: str, member: str) -> None:
    """The page's own example; the run can be looked up, and counts under its face."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply(CAR))
    app = await serve()
    told = await app.run("dep_test", path=path)
    assert (200, {member: CAR}) == (told.status, told.body)
    assert [200, "succeeded", "studio", CAR] == await app.look_up(told)
    [sent] = upstream.requests("POST")
    assert SECRETS["PROMPT_STUDIO_API_KEY"] == sent.header("API_KEY")
    assert INPUT == json.loads(sent.body)
    assert 1 == total(await app.gateway.metrics(), "runward_runs_total", face="prompt_studio", workflow="studio")
    [line] = [line for line in app.gateway.logs("request") if line["route"] == "prompt_studio_run"]
    assert ("prompt_studio", told.headers["Runward-Run-Id"]) == (line["face"], line["run_id"])


@pytest.mark.parametrize(
    ("value", "result"),
    [({"answer": 1}, {"answer": 1}), ("because", {"completion": "because"}), ([], {"completion": []})],
)
async def test_a_run_at_promptlayer(serve: Serve, upstream: Upstream, value: JsonValue, result: JsonValue) -> None:
    """The app can not tell who ran it: a result is an object."""
    layer_answers(upstream, value)
    app = await serve()
    told = [await app.run("layer", path=path) for path, _ in BOTH]
    assert [(200, {member: result}) for _, member in BOTH] == [(each.status, each.body) for each in told]


@pytest.mark.parametrize("path", [OLD, NEW])
async def test_what_is_refused_before_anything_runs(serve: Serve, upstream: Upstream, path: str) -> None:
    """Bad keys, strange deployments and bodies: `{}` each time, and nothing is sent."""
    app = await serve()
    stranger = replace(app, key="hunter2")
    assert (401, {}, "unauthorized", None) == (await stranger.run("dep_test", path=path)).verdict
    for strange in ("none", "dep_", "a b", "a/b", "%", "ü", "x" * 513, "?x"):
        assert (404, {}, "workflow_not_found", None) == (await app.run(strange, path=path)).verdict
    for body, code in ((None, 422), ([], 422), ({"input": None}, 422), ({"input": "text"}, 422), ({"input": []}, 422)):
        assert (code, {}, "invalid_request", None) == (await app.run("dep_test", path=path, body=body)).verdict
    text = await app.run("dep_test", path=path, headers={"Content-Type": "text/plain"})
    assert (415, {}, "unsupported_media_type", None) == text.verdict
    large = await app.run("dep_test", path=path, body={"input": {"a": "x" * 1_000_000}})
    assert (413, {}, "payload_too_large", None) == large.verdict
    key = await app.run("dep_test", path=path, headers={"Idempotency-Key": "a" * 256})
    assert (400, {}, "invalid_idempotency_key", None) == key.verdict
    get = await app.ask("GET", URL(app.url + path.format("x")), bearer("one"), None)
    assert (405, {}, "method_not_allowed", None) == get.verdict
    assert [] == upstream.log


async def test_the_key_may_stand_in_any_of_the_three_headers_here_and_in_two_elsewhere(
    serve: Serve, upstream: Upstream
) -> None:
    """Proxies drop names with an underscore by default, so the others are known here, too."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply(CAR))
    app = await serve()
    for headers in ({"API_KEY": KEYS["one"]}, {"X-API-KEY": KEYS["one"]}, bearer("one")):
        for path in (OLD, NEW):
            target = URL(app.url + path.format("dep_test"))
            assert 200 == (await app.ask("POST", target, headers, b'{"input":{}}')).status
        expected = 401 if "API_KEY" in headers else 200
        async with app.session.get(app.url + "/runs", headers=headers) as answer:
            assert expected == answer.status


async def test_a_body_without_input_runs_without_input(serve: Serve, upstream: Upstream) -> None:
    """The page does not say that `input` is required; members that it does not know are ignored."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply(CAR))
    app = await serve()
    assert [200, 200] == [
        (await app.run("dep_test", body=body)).status for body in ({}, {"input": {}, "stream": False})
    ]
    assert [{"input": {}}] * 2 == [json.loads(sent.body) for sent in upstream.requests("POST")]


ODD = ["a/b", "a b", "ä", "a%2Fb", "a?b=c#d", "..x", "run", "/run", "a//b", "%", "../x"]


async def test_a_deployment_may_be_called_anything(serve: Serve, upstream: Upstream) -> None:
    """R61: every name arrives at the provider as one segment of its path, whatever it holds."""
    upstream.default = prompt_studio_reply(CAR)
    app = await serve(clients={"one": {"workflows": ["*", "prompt_studio/*"]}})
    for name in ODD:
        told = await app.run(name)
        assert (name, 200) == (name, told.status)
        assert [200, "succeeded", f"prompt_studio/{name}", CAR] == await app.look_up(told)
    assert [f"/v1/workflows/{quote(name, safe='')}/run" for name in ODD] == [r.path for r in upstream.requests("POST")]
    for strange in ("%2e", "%2e%2e", "%ff", "a%80", "%ed%a0%80"):
        target = URL(app.url + OLD.format(strange), encoded=True)
        assert 404 == (await app.ask("POST", target, {"API_KEY": KEYS["one"]}, b"{}")).status


async def test_a_trailing_slash_of_the_base_url_does_no_harm(serve: Serve, upstream: Upstream) -> None:
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply(CAR))
    app = await serve()
    target = URL(f"{app.url}//v1/workflows/dep_test/run", encoded=True)
    assert 200 == (await app.ask("POST", target, bearer("one"), b"{}")).status


async def test_a_workflow_answers_to_its_alias_and_to_the_names_it_was_given(serve: Serve, upstream: Upstream) -> None:
    layer_answers(upstream, "because")
    app = await serve(workflows={"layer": {"aliases": {"prompt_studio": ["dep_8sKq"]}}})
    names = ("dep_8sKq", "layer", "layer-test")
    assert [200, 200, 404] == [(await app.run(name)).status for name in names]


async def test_a_key_makes_a_run_repeatable(serve: Serve, upstream: Upstream) -> None:
    """The same answer, in either dialect, and one start; another deployment or input under the same key is refused."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply(CAR))
    app = replace(await serve(), headers={"Idempotency-Key": "k1"})
    first, second, third = await app.run("dep_test"), await app.run("dep_test"), await app.run("dep_test", path=NEW)
    assert [(200, {"result": CAR}), (200, {"result": CAR}), (200, {"completion": CAR})] == [
        (told.status, told.body) for told in (first, second, third)
    ]
    assert 1 == len({told.headers["Runward-Run-Id"] for told in (first, second, third)})
    assert [None, "true"] == [told.headers.get("Idempotent-Replayed") for told in (first, second)]
    other = [await app.run("layer"), await app.run("dep_test", body={"input": {}})]
    assert [(422, {}, "idempotency_mismatch", None)] * 2 == [told.verdict for told in other]
    assert 1 == len(upstream.requests("POST"))


async def test_a_failed_run_fails_again_under_its_key(serve: Serve, upstream: Upstream) -> None:
    upstream.script("POST", STUDIO_RUN, [faults.rst_after_request])
    app = replace(await serve(), headers={"Idempotency-Key": "k1"})
    first, second = await app.run("dep_test"), await app.run("dep_test")
    assert (500, {}, "upstream_disconnected", "unknown") == first.verdict == second.verdict
    assert first.headers["Runward-Run-Id"] == second.headers["Runward-Run-Id"]
    assert 1 == len(upstream.requests("POST"))


async def test_a_client_sees_and_runs_what_is_its_own(serve: Serve, upstream: Upstream) -> None:
    """R78: its scope holds here, too; ids that are listed are ids that work."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply(CAR))
    workflows: JsonValue = {"layer": {"aliases": {"prompt_studio": ["dep_8sKq"]}}}
    one = await serve(workflows=workflows, clients={"two": {"workflows": ["studio"]}})
    two = replace(one, key=KEYS["two"])
    assert {"dep_8sKq": "layer", "dep_test": "studio"} == listed((await one.deployments()).body)
    assert {"dep_test": "studio"} == listed((await two.deployments()).body)
    assert (403, {}, "forbidden", None) == (await two.run("dep_8sKq")).verdict
    assert 200 == (await two.run("dep_test")).status
    assert 401 == (await replace(one, key="").deployments()).status


def listed(body: JsonValue) -> dict[JsonValue, JsonValue]:
    """The deployments in the shape that the node for n8n reads."""
    assert isinstance(body, dict)
    found = body["deployments"]
    assert isinstance(found, list)
    names: dict[JsonValue, JsonValue] = {}
    for each in found:
        assert isinstance(each, dict)
        assert {"deployment_id", "created_at", "recipe_id", "recipe_name", "schemas"} == each.keys()
        names[each["deployment_id"]] = each["recipe_name"]
    return names


async def test_a_limit_is_a_429_before_anything_runs(serve: Serve, upstream: Upstream) -> None:
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply(CAR))
    app = await serve(clients={"one": {"limits": {"rate": "1/h"}}})
    assert 200 == (await app.run("dep_test")).status
    told = await app.run("dep_test")
    assert (429, {}, "rate_limited", "not_run") == told.verdict
    assert 0 < int(told.headers["Retry-After"]) <= 3600
    assert {"RateLimit", "RateLimit-Policy"} <= set(told.headers)
    assert 1 == len(upstream.requests("POST"))
