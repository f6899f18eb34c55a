"""The OpenAPI document of the operations port is valid, has every route, and agrees with the responses."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import structlog
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.api.admin.live_feed import LiveFeed
from gateway.api.admin.logs import LogAdminHandlers
from gateway.api.admin.openapi.document import GROUPS, openapi_document
from gateway.api.admin.openapi.health import Alive
from gateway.api.admin.openapi.operations import Answer, Operation
from gateway.api.admin.providers import ProviderAdminHandlers
from gateway.api.admin.routes import admin_routes
from gateway.api.docs.page import DocsHandlers
from gateway.app import access_factories
from gateway.app.components import build_components
from gateway.app.routes import ops_routes
from gateway.auth.ops_keys import OpsKeys
from gateway.clock import SystemClock
from gateway.http.request import Route
from gateway.json import strict_json
from gateway.observability.level_control import LevelControl
from gateway.observability.metrics import Metrics
from gateway.settings import Settings
from gateway.store.memory.store import MemoryStore
from gateway.supervisor.accepting.turns import AcceptCounts
from gateway.supervisor.admin import SupervisorAdmin, collect_metrics, gateway_state
from gateway.supervisor.attention import SupervisorAttention
from gateway.supervisor.lazy_store import LazyStore
from gateway.supervisor.worker_handle import WorkerLauncher
from gateway.supervisor.worker_pool import WorkerPool
from gateway.supervisor.worker_runs import WorkerRunCanceller, WorkerRunStarter
from tests.support.callback_receiver import CALLBACK_PATH
from tests.support.cancellation_conversation import converse_about_cancellations, hold_runs
from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.fake_upstream.responses import reply
from tests.support.gateway_restarts import RestartableGateway
from tests.support.openapi_conversation import JSON, Conversation, node
from tests.support.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream

OPEN = {
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/console"),
    ("post", "/api/session"),
    ("delete", "/api/session"),
    ("get", "/api/login"),
    ("get", "/api/login/start"),
    ("get", "/api/login/callback"),
}


CONSOLE_FILES = {"/console/", "/console/{path}", "/console/assets/{id}", "/console/assets/vendor/{id}"}


@pytest.fixture(scope="module")
def spec() -> dict[str, JsonValue]:
    """Return the parsed document."""
    parsed = strict_json.read(strict_json.write(openapi_document()))
    assert isinstance(parsed, dict)
    return parsed


def one_process_routes() -> list[Route]:
    """Routes of the operations port of `runward serve`."""
    settings = Settings.model_validate({"store": {"url": "memory://"}})
    return ops_routes(build_components(settings, SystemClock(), structlog.get_logger()), DocsHandlers.load())


def supervisor_routes() -> list[Route]:
    """Routes of the operations port of `runward serve --workers`."""
    clock, log = SystemClock(), structlog.get_logger()
    store = MemoryStore(clock)
    with AcceptCounts.create(2) as counts:
        launcher = WorkerLauncher(["true"], (), counts, ("127.0.0.1", 1), "memory://")
        level = LevelControl("info", clock, log)
        pool = WorkerPool(2, launcher.launch, counts, Metrics(), clock, log, level)
    providers = ProviderAdminHandlers(store, dict, lambda: collect_metrics(pool), clock, log)
    attention = SupervisorAttention.build(Settings(), pool, LazyStore(store), clock, log)
    state = gateway_state(Settings(), pool)
    feed = LiveFeed(store, pool.latest_metrics, attention.monitor, clock, log)
    authenticator = access_factories.ops_authenticator(Settings(), OpsKeys(), LazyStore(store), clock, log)
    routes = [
        *admin_routes(
            store,
            clock,
            log,
            providers,
            attention.monitor,
            authenticator=authenticator,
            state=state,
            feed=feed,
            run_starter=WorkerRunStarter(pool),
            run_canceller=WorkerRunCanceller(pool),
            callback_tester=attention.callback_tester(clock),
        ),
        *LogAdminHandlers(level, pool.send_log_level).routes(),
    ]
    return SupervisorAdmin(pool, routes).routes()


def without_names(path: str) -> str:
    """Return the path without the names of its parameters: the router has only `{id}` and `{path}`."""
    return re.sub(r"\{[a-z_]+\}", "{}", path)


def test_it_is_valid_openapi(spec: dict[str, JsonValue]) -> None:
    assert [] == list(OpenAPIV31SpecValidator(spec).iter_errors())


@pytest.mark.parametrize("routes_of", [one_process_routes, supervisor_routes])
async def test_every_route_is_an_operation_and_every_operation_a_route(
    spec: dict[str, JsonValue], routes_of: type
) -> None:
    """But for the files of the pages."""
    docs = DocsHandlers.load()
    files = {docs.style.path, docs.viewer.path, docs.script.path, *CONSOLE_FILES}
    routes = [(each.method, without_names(each.path)) for each in routes_of() if each.path not in files]
    documented = [
        (method.upper(), without_names(path))
        for path, methods in node(spec, "paths").items()
        for method in node(methods)
    ]
    assert sorted(routes) == sorted(documented)


def test_no_operation_is_declared_twice(spec: dict[str, JsonValue]) -> None:
    """Neither its route nor its name; nor is a tag."""
    operations = [operation for group in GROUPS for operation in group.operations]
    assert len(operations) == len({operation.name for operation in operations})
    assert len(operations) == sum(len(node(methods)) for methods in node(spec, "paths").values())
    assert len(GROUPS) == len({group.tag for group in GROUPS})


def test_an_operation_with_two_meanings_of_a_status_is_refused() -> None:
    wrong = Operation("GET", "/x", "x", "X", {503: Answer("Away.", Alive)}, codes=("store_unavailable",))
    with pytest.raises(ValueError, match="x: a problem has the status of an answer"):
        wrong.node("Health")


def test_all_but_the_probes_need_a_key(spec: dict[str, JsonValue]) -> None:
    for path, methods in node(spec, "paths").items():
        for method, operation in node(methods).items():
            documented, is_open = node(operation), (method, path) in OPEN
            assert documented["security"] == ([] if is_open else [{"bearer": []}, {"key": []}, {"session": []}])
            assert is_open <= ("401" not in node(documented, "responses") or path == "/api/session")


async def converse(talk: Conversation, run_id: str) -> None:
    """Send requests of every kind; `run_id` has an abandoned callback."""
    for path in ("/healthz", "/readyz", "/metrics", "/docs", "/docs-public", "/openapi.json", "/openapi-public.json"):
        await talk.send("GET", path)
    await talk.send("GET", "/metrics", headers={"Accept": "application/openmetrics-text"})
    assert {"runs": [run_id], "next": None} == await talk.send("GET", "/callbacks")
    await talk.send("GET", "/callbacks?state=gone")
    for query in ("", "?limit=1&kept=true", "?client=one&idempotency_key=x", "?judged=maybe", "?meta.a=b&tag=x"):
        await talk.send("GET", "/api/runs" + query)
    assert run_id == node(await talk.send("GET", "/api/runs/{id}", run_id))["id"]
    await talk.send("GET", "/api/runs/{id}", "run_other")
    replay = "/callbacks/replay/{id}"
    await talk.send("POST", replay, run_id, headers={**JSON, "Origin": "http://localhost"})
    await talk.send("POST", replay, run_id, headers={"Content-Type": "text/plain"})
    await talk.send("POST", replay, "run_other", headers=JSON)
    await talk.send("POST", replay, run_id, headers=JSON)
    override = "/providers/override/{id}"
    for mode in ("suspended", "open", "closed", "auto"):
        changed = await talk.send(
            "POST", override, "prompt_studio", headers=JSON, body=b'{"mode":"%b"}' % mode.encode()
        )
        assert mode == node(changed)["mode"]
        await talk.send("GET", "/providers")
    for body in (b"{", b'{"mode":"away"}', b"[]", b" " * 5000):
        await talk.send("POST", override, "prompt_studio", headers=JSON, body=body)
    await talk.send("POST", override, "nothing", headers=JSON, body=b'{"mode":"auto"}')
    await talk.send("POST", override, "prompt_studio", headers={"Content-Type": "text/plain"}, body=b"x")
    await talk.send("POST", override, "prompt_studio", headers={**JSON, "Origin": "null"}, body=b"{}")
    await talk.send("GET", "/api/attention")
    for query in (
        "",
        "?limit=1&order=oldest&actor=omar",
        "?result=begun&from=2026-11-21T12:00:00Z",
        "?limit=0",
        "?x=y",
    ):
        await talk.send("GET", "/api/audit" + query)
    await talk.send("GET", "/console")
    for path in (
        "overview",
        "overview?window=6h",
        "overview?window=7h",
        "providers",
        "clients",
        "workflows",
        "configuration",
    ):
        await talk.send("GET", f"/api/{path}")
    listed = node(await talk.send("GET", "/api/budgets"))["budgets"]
    assert isinstance(listed, list)
    assert ["all", "client:one"] == [node(each)["budget"] for each in listed]
    await talk.send("GET", "/api/configuration")
    for body in (b'{"key":"x"}', b"{", b'{"key":1}', b" " * 5000):
        await talk.send("POST", "/api/session", headers=JSON, body=body)
    await talk.send("POST", "/api/session", headers={"Content-Type": "text/plain"}, body=b"x")
    await talk.send("POST", "/api/session", headers={**JSON, "Origin": "null"}, body=b'{"key":"x"}')
    await talk.send("GET", "/api/session")
    await talk.send("DELETE", "/api/session", headers={"Origin": "null"})
    await talk.send("DELETE", "/api/session")
    judge = "/api/runs/{id}/judge"
    await talk.send("POST", judge, run_id, headers=JSON, body=b'{"verdict":"found_paid"}')
    await talk.send("POST", judge, "run_other", headers=JSON, body=b'{"verdict":"found_paid"}')
    for body in (b"{", b'{"verdict":"away"}', b" " * 5000):
        await talk.send("POST", judge, run_id, headers=JSON, body=body)
    await talk.send("POST", judge, run_id, headers={"Content-Type": "text/plain"}, body=b"x")
    await talk.send("POST", judge, run_id, headers={**JSON, "Origin": "null"}, body=b"{}")
    for query in ("", "?group_by=client,month&outcome=failed", "?format=csv", "?group_by=", "?to=soon", "?tag=a&key=b"):
        await talk.send("GET", "/api/usage" + query)
    await converse_about_replays(talk)
    await converse_about_keys(talk)
    await converse_about_runs_and_deliveries(talk)
    await converse_about_cancellations(talk, run_id)


async def converse_about_runs_and_deliveries(talk: Conversation) -> None:
    """Start a run for a client, test deliveries and recover callbacks, in every way."""
    run, test, recover = "/api/run", "/api/callbacks/test", "/api/callbacks/recover"
    order = {"client": "one", "idempotency_key": "ops-1", "run": {**PROMPT_STUDIO_BODY}}
    first = node(await talk.send("POST", run, headers=JSON, body=strict_json.write(order)))
    again = node(await talk.send("POST", run, headers=JSON, body=strict_json.write(order)))
    assert (first["id"], False, True) == (again["id"], first["replayed"], again["replayed"])
    for changed in (
        {**order, "idempotency_key": " "},
        {**order, "run": {"workflow": "studio", "input": {"other": 1}}},
        {**order, "client": "nothing"},
        {**order, "idempotency_key": "ops-2", "run": {"workflow": "nothing"}},
    ):
        await talk.send("POST", run, headers=JSON, body=strict_json.write(changed))
    await talk.send("POST", test, headers=JSON, body=b'{"url":"http://127.0.0.1:1/hook"}')
    await talk.send("POST", test, headers=JSON, body=b'{"url":"http://10.0.0.1/hook"}')
    for body in (b'{"since":"2026-11-21T12:00:00Z"}', b'{"since":"2026-11-21T12:00:00Z","dry_run":false}'):
        await talk.send("POST", recover, headers=JSON, body=body)
    for path in (run, test, recover):
        for body in (b"{", b"{}", b" " * 1_000_001):
            await talk.send("POST", path, headers=JSON, body=body)
        for headers in ({**JSON, "Origin": "null"}, {"Content-Type": "text/plain"}):
            await talk.send("POST", path, headers=headers, body=b"{}")


async def converse_about_replays(talk: Conversation) -> None:
    """Send requests for replays of every kind."""
    path, show, abort = "/api/replays", "/api/replays/{id}", "/api/replays/{id}/abort"
    planned = node(await talk.send("POST", path, headers=JSON, body=b'{"filter":{}}'))
    order = strict_json.write({"filter": {}, "dry_run": False, "plan": planned["id"]})
    plan_id = str(planned["id"])
    await talk.send("GET", show, plan_id)
    await talk.send("POST", path, headers=JSON, body=order)
    await talk.send("POST", abort, plan_id, headers=JSON)
    for body in (b"{", b"{}", b" " * 200_000):
        await talk.send("POST", path, headers=JSON, body=body)
    await talk.send("POST", path, headers=JSON, body=order.replace(plan_id.encode(), b"rpl_" + b"0" * 32))
    await talk.send("GET", show, "rpl_1")
    await talk.send("POST", abort, "rpl_1", headers=JSON)
    for headers in ({**JSON, "Origin": "null"}, {"Content-Type": "text/plain"}):
        await talk.send("POST", path, headers=headers, body=order)
        await talk.send("POST", abort, plan_id, headers=headers)
    await set_levels(talk)


async def converse_about_keys(talk: Conversation) -> None:
    """Send requests for keys of every kind."""
    path, show, check = "/api/keys", "/api/keys/{id}", "/api/keys/check"
    rotate, revoke, expire = (f"/api/keys/{{id}}/{act}" for act in ("rotate", "revoke", "expire"))
    order = b'{"client":"one","name":"app","limits":{"rate":"5/s"},"expires":"2999-01-01"}'
    created = node(await talk.send("POST", path, headers=JSON, body=order))
    key_id, text = str(created["id"]), str(created["key"])
    await talk.send("GET", path)
    await talk.send("GET", path + "?limit=1000")
    await talk.send("GET", show, key_id)
    await talk.send("POST", rotate, key_id, headers=JSON, body=b"{}")
    await talk.send("POST", rotate, key_id, headers=JSON, body=b"{}")
    for tried in (text, "x"):
        await talk.send("POST", check, headers=JSON, body=strict_json.write({"key": tried}))
    await talk.send("POST", expire, key_id, headers=JSON, body=b'{"at":null}')
    await talk.send("POST", revoke, key_id, headers=JSON)
    await talk.send("POST", expire, key_id, headers=JSON, body=b'{"at":"2999-01-02"}')
    for operation, param in ((path, ""), (check, ""), (rotate, key_id), (expire, key_id)):
        for body in (b"{", b'{"x":1}', b" " * 40_000):
            await talk.send("POST", operation, param, headers=JSON, body=body)
    for operation, param, body in ((rotate, "key_1", b"{}"), (revoke, "key_1", b""), (expire, "key_1", b'{"at":null}')):
        await talk.send("POST", operation, param, headers=JSON, body=body)
    await talk.send("GET", show, "key_1")
    for headers in ({**JSON, "Origin": "null"}, {"Content-Type": "text/plain"}):
        for operation in (path, check, rotate, revoke, expire):
            await talk.send("POST", operation, key_id, headers=headers, body=b"{}")


async def set_levels(talk: Conversation) -> None:
    """Set the level of the log, in every way; it is debug before and after."""
    level = "/logs/level"
    for body in (b'{"level":"info","for":0.5}', b'{"level":"error"}', b'{"level":"configured"}'):
        changed = await talk.send("PUT", level, headers=JSON, body=body)
        assert changed == await talk.send("GET", level)
    shown = await talk.send("GET", level)
    assert {"level": "debug", "configured": "debug", "overridden": False, "until": None} == shown
    too_long = b'{"level":"debug","for":1e9}'
    for body in (b"{", b'{"level":"critical"}', b"[]", b" " * 5000, b'{"level":"configured","for":1}', too_long):
        await talk.send("PUT", level, headers=JSON, body=body)
    await talk.send("PUT", level, headers={"Content-Type": "text/plain"}, body=b"x")
    await talk.send("PUT", level, headers={**JSON, "Origin": "null"}, body=b"{}")


SEEN = {
    *(("GET", path, 200) for path in ("/healthz", "/readyz", "/metrics", "/docs", "/docs-public", "/openapi.json")),
    ("GET", "/openapi-public.json", 200),
    *(("GET", "/api/runs", status) for status in (200, 422)),
    *(("GET", "/api/runs/{id}", status) for status in (200, 404)),
    *(("GET", "/callbacks", status) for status in (200, 422)),
    *(("POST", "/callbacks/replay/{id}", status) for status in (202, 403, 404, 415)),
    ("GET", "/providers", 200),
    *(("GET", path, 200) for path in ("/api/attention", "/console", "/api/session")),
    *(("GET", f"/api/{name}", 200) for name in ("overview", "providers", "clients", "workflows", "configuration")),
    ("GET", "/api/budgets", 200),
    ("GET", "/api/overview", 422),
    *(("GET", "/api/usage", status) for status in (200, 422)),
    *(("POST", "/api/session", status) for status in (400, 401, 403, 413, 415, 422)),
    *(("DELETE", "/api/session", status) for status in (204, 403)),
    *(("POST", "/api/runs/{id}/cancel", status) for status in (200, 202, 403, 404, 409, 415)),
    *(("POST", "/api/runs/{id}/judge", status) for status in (400, 403, 404, 409, 413, 415, 422)),
    ("GET", "/logs/level", 200),
    *(("PUT", "/logs/level", status) for status in (200, 400, 403, 413, 415, 422)),
    *(("POST", "/providers/override/{id}", status) for status in (200, 400, 403, 404, 413, 415, 422)),
    *(("GET", "/api/audit", status) for status in (200, 422)),
    *(("POST", "/api/run", status) for status in (202, 400, 403, 404, 413, 415, 422)),
    *(("POST", "/api/callbacks/test", status) for status in (200, 400, 403, 413, 415, 422)),
    *(("POST", "/api/callbacks/recover", status) for status in (200, 400, 403, 413, 415, 422)),
    *(("POST", "/api/replays", status) for status in (200, 202, 400, 403, 404, 413, 415, 422)),
    *(("GET", "/api/replays/{id}", status) for status in (200, 404)),
    *(("POST", "/api/replays/{id}/abort", status) for status in (200, 403, 404, 415)),
    *(("GET", "/api/keys", status) for status in (200, 422)),
    *(("POST", "/api/keys", status) for status in (201, 400, 403, 413, 415, 422)),
    *(("POST", "/api/keys/check", status) for status in (200, 400, 403, 413, 415, 422)),
    *(("GET", "/api/keys/{id}", status) for status in (200, 404)),
    *(("POST", "/api/keys/{id}/rotate", status) for status in (200, 400, 403, 404, 409, 413, 415, 422)),
    *(("POST", "/api/keys/{id}/revoke", status) for status in (200, 403, 404, 415)),
    *(("POST", "/api/keys/{id}/expire", status) for status in (200, 400, 403, 404, 409, 413, 415, 422)),
}


async def test_the_responses_of_a_gateway_fit_its_document(
    gateway: StartGateway,
    upstream: FakeUpstream,
    receiver: FakeUpstream,
    session: aiohttp.ClientSession,
    tmp_path: Path,
) -> None:
    """Status, media type, headers and schema."""
    released = hold_runs(upstream)
    receiver.script("POST", CALLBACK_PATH, [reply(410)])
    restartable = RestartableGateway(gateway, session, tmp_path / "runward.db")
    budget: dict[str, JsonValue] = {"amount": 100, "per": "month"}
    priced: JsonValue = {name: {"price": 0.04} for name in ("promptlayer", "prompt_studio")}
    await restartable.start(providers=priced, budgets={"all": budget}, clients={"one": {"budget": dict(budget)}})
    run_id = await restartable.submit_async({**PROMPT_STUDIO_BODY, "callback_url": receiver.url + CALLBACK_PATH})
    await restartable.wait_for_callback(run_id)
    talk = await Conversation(session, restartable.current.ops_url).open()
    await converse(talk, run_id)
    released.set()
    assert SEEN == talk.seen


async def test_the_command_prints_the_documents_of_the_port(gateway: StartGateway, spec: dict[str, JsonValue]) -> None:
    """With --json, each line of `runward providers list` fits the schema of a provider."""
    running = await gateway()
    command = [sys.executable, "-m", "gateway", "providers", "list", "--json", "--ops-url", running.ops_url]
    listed = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    documents = [strict_json.read(line.encode()) for line in listed.stdout.splitlines()]
    assert ["prompt_studio", "promptlayer"] == [node(each)["provider"] for each in documents]
    validator = OAS31Validator({**spec, "$ref": "#/components/schemas/ProviderShown"})
    assert [] == [error.message for each in documents for error in validator.iter_errors(each)]


async def test_a_key_that_is_missing_is_answered_as_documented(
    gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    """R83: the schema of the operations port needs its key, if it has one."""
    running = await gateway(server={"ops_keys": [{"hash": "sha256:" + 64 * "0"}]})
    talk = Conversation(session, running.ops_url)
    talk.spec = dict(node(strict_json.read(strict_json.write(openapi_document()))))
    for path in sorted(
        path
        for path, each in node(talk.spec, "paths").items()
        if "{" not in path and "get" in node(each) and ("get", path) not in OPEN
    ):
        await talk.send("GET", path)
        assert ("GET", path, 401) in talk.seen
    for method, path in OPEN:
        if method == "get":
            await talk.send("GET", path)
