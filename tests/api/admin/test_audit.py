"""Audit records of the operations port: each act has them, refused attempts too; their list."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from gateway.app.system_audit import ACTIONS
from gateway.auth.keys import hash_key, new_key
from gateway.clock import SystemClock
from gateway.http.audit_trail import require_actions
from gateway.http.request import Request, Route
from gateway.http.response import Response
from gateway.json import strict_json
from gateway.store.contract import StoreUnavailable
from tests.api.admin.test_openapi import one_process_routes, supervisor_routes
from tests.support.clock import ManualClock
from tests.support.process import ROOT
from tests.support.runs_port import RunsPort, run_id, runs_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

VIEWER, OPERATOR, NAMELESS = (new_key(SystemClock()) for _ in range(3))
KEYS = [
    {"hash": hash_key(VIEWER), "role": "viewer", "name": "vera"},
    {"hash": hash_key(OPERATOR), "name": "omar"},
    {"hash": hash_key(NAMELESS)},
]
CONFIG = {
    "server": {"ops_keys": KEYS, "trusted_proxies": ["127.0.0.1"]},
    "providers": {"studio": {"adapter": "prompt_studio", "base_url": "http://127.0.0.1:1", "api_key": "provider-key"}},
    "workflows": {"support": {"provider": "studio"}},
    "clients": {"shop": {"keys": [{"hash": hash_key(new_key(SystemClock()))}], "workflows": ["*"]}},
}
NOTE = "SECRET-NOTE"


@pytest.fixture(params=[False, True], ids=["one process", "workers"])
async def port(request: pytest.FixtureRequest) -> AsyncIterator[RunsPort]:
    async with runs_port(ManualClock(), supervised=request.param, config=CONFIG) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as made:
        yield made


def key(text: str, **further: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}", "X-Forwarded-For": "192.0.2.7", **further}


async def send(  # noqa: PLR0917 - one for each part of a request
    client: aiohttp.ClientSession, port: RunsPort, method: str, path: str, body: object, headers: dict[str, str]
) -> int:
    headers = {"Content-Type": "application/json", **headers}
    data = None if body is None else strict_json.write(body)
    async with client.request(method, port.url + path, data=data, headers=headers) as answer:
        await answer.read()
        return answer.status


async def audit(client: aiohttp.ClientSession, port: RunsPort, query: str = "", *, status: int = 200) -> dict[str, Any]:
    """GET /api/audit as a viewer."""
    async with client.get(port.url + "/api/audit" + query, headers=key(VIEWER)) as answer:
        assert status == answer.status
        document: dict[str, Any] = await answer.json()
        return document


async def records(client: aiohttp.ClientSession, port: RunsPort, query: str = "") -> list[dict[str, Any]]:
    """Return the records, oldest first."""
    found: list[dict[str, Any]] = (await audit(client, port, query))["records"]
    return found[::-1]


def said(record: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(record[name] for name in names)


@pytest.mark.parametrize("routes_of", [one_process_routes, supervisor_routes])
async def test_every_route_that_may_change_something_has_an_action(routes_of: Any) -> None:
    """With another method than GET; HEAD has no route of its own. The end of a log-in is a GET with one."""
    routes = routes_of()
    require_actions(routes)
    changing = [each for each in routes if each.method != "GET"]
    assert len(changing) >= 8
    for route in changing:
        assert route.action.count(".") == 1, route
    assert {"console.log_in"} == {each.action for each in routes if each.method == "GET" and each.action}


@pytest.mark.parametrize("routes_of", [one_process_routes, supervisor_routes])
async def test_the_documentation_has_a_row_for_every_action(routes_of: Any) -> None:
    """And no others; several may share a row."""
    table = (ROOT / "docs" / "audit.md").read_text().partition("| action | target | details |")[2].partition("\n\n")[0]
    documented = [name for line in table.splitlines()[2:] for name in re.findall("`([^`]+)`", line.split("|")[1])]
    assert sorted({*ACTIONS, *(each.action for each in routes_of() if each.action)}) == sorted(documented)


def test_a_server_with_another_route_is_not_built() -> None:
    async def handle(_request: Request) -> Response:
        raise AssertionError

    for method in ("POST", "PUT", "PATCH", "DELETE", "*"):
        with pytest.raises(ValueError, match="need an action for the audit"):
            require_actions([Route(method, "/x", handle, "x")])


async def test_an_act_is_recorded_before_it_is_done_and_at_its_end(
    port: RunsPort, client: aiohttp.ClientSession
) -> None:
    """The note, which may be confidential, is not in the records."""
    body = {"mode": "suspended", "note": NOTE}
    headers = key(OPERATOR, **{"X-Request-Id": "req-4711"})
    assert 200 == await send(client, port, "POST", "/providers/override/studio", body, headers)
    begun, ended = await records(client, port)
    for each, result in ((begun, "begun"), (ended, "succeeded")):
        assert ("providers.override", "omar", "key", "operator", "studio", result, "", "192.0.2.7", "req-4711") == said(
            each, "action", "actor", "via", "role", "target", "result", "code", "address", "request_id"
        )
    assert begun["act"] == ended["act"]
    assert {} == begun["details"]
    assert {"mode": "suspended", "mode_before": "auto"} == ended["details"]
    assert NOTE not in repr((begun, ended))


async def test_what_the_handler_refuses_is_recorded_with_its_code(
    port: RunsPort, client: aiohttp.ClientSession
) -> None:
    assert 404 == await send(client, port, "POST", "/providers/override/none", {"mode": "auto"}, key(NAMELESS))
    assert 422 == await send(client, port, "POST", "/providers/override/studio", {"mode": NOTE}, key(NAMELESS))
    ends = [each for each in await records(client, port) if each["result"] != "begun"]
    assert [
        ("key without a name", "none", "refused", "provider_not_found"),
        ("key without a name", "studio", "refused", "invalid_request"),
    ] == [said(each, "actor", "target", "result", "code") for each in ends]
    assert NOTE not in repr(await records(client, port))


async def test_attempts_without_the_role_or_without_a_key_are_recorded(
    port: RunsPort, client: aiohttp.ClientSession
) -> None:
    """One record each. Reading is not recorded, whatever the role."""
    path, body = f"/callbacks/replay/{run_id(1)}", dict[str, str]()
    assert 403 == await send(client, port, "POST", path, body, key(VIEWER))
    assert 401 == await send(client, port, "POST", path, body, key("rw_wrong"))
    assert 401 == await send(client, port, "POST", path, body, {})
    assert 403 == await send(client, port, "POST", path, body, key(OPERATOR, Origin="https://other.example"))
    assert 401 == await send(client, port, "GET", "/api/runs", None, key("rw_wrong"))
    assert 404 == await send(client, port, "POST", "/nothing", None, key(OPERATOR))
    found = await records(client, port)
    assert [
        ("vera", "key", "viewer", "refused", "forbidden"),
        ("", "unknown", "", "refused", "unauthorized"),
        ("", "unknown", "", "refused", "unauthorized"),
        ("omar", "key", "operator", "refused", "forbidden"),
    ] == [said(each, "actor", "via", "role", "result", "code") for each in found]
    assert {run_id(1)} == {each["target"] for each in found}
    assert "rw_wrong" not in repr(found)


async def test_a_flood_of_wrong_keys_does_not_fill_the_store(port: RunsPort, client: aiohttp.ClientSession) -> None:
    for number in range(200):
        headers = {"Authorization": "Bearer x", "X-Forwarded-For": f"192.0.2.{number}"}
        await send(client, port, "POST", "/providers/override/studio", {}, headers)
        await send(client, port, "POST", "/api/session", {"key": "x"}, headers)
    assert 60 == len((await audit(client, port, "?limit=500"))["records"])
    async with client.get(port.url + "/metrics", headers=key(VIEWER)) as answer:
        if "runward_audit_records_dropped" in (text := await answer.text()):  # not of a supervisor without workers
            assert 'runward_audit_records_dropped_total{reason="refusals"} 340' in text


async def test_log_in_and_log_out_are_recorded_with_the_name_of_the_key(
    port: RunsPort, client: aiohttp.ClientSession
) -> None:
    async with client.post(port.url + "/api/session", json={"key": OPERATOR}) as answer:
        cookie = {"Cookie": f"runward_session={answer.cookies['runward_session'].value}"}
    assert 401 == await send(client, port, "POST", "/api/session", {"key": "rw_wrong"}, {})
    page = {"Origin": port.url, "X-Runward-Console": "1"}
    assert 200 == await send(client, port, "POST", "/providers/override/studio", {"mode": "open"}, {**cookie, **page})
    assert 204 == await send(client, port, "DELETE", "/api/session", None, {**cookie, **page})
    assert 204 == await send(client, port, "DELETE", "/api/session", None, page)
    assert [
        ("console.log_in", "omar", "key", "succeeded"),
        ("console.log_in", "", "unknown", "refused"),
        ("providers.override", "omar", "session", "begun"),
        ("providers.override", "omar", "session", "succeeded"),
        ("console.log_out", "omar", "session", "succeeded"),
        ("console.log_out", "", "unknown", "refused"),
    ] == [said(each, "action", "actor", "via", "result") for each in await records(client, port)]


async def test_acts_of_each_kind_name_their_target(port: RunsPort, client: aiohttp.ClientSession) -> None:
    await port.start(1)
    await port.end(1, "unknown")
    run = run_id(1)
    judgement = {"verdict": "found_paid", "note": NOTE}
    assert 200 == await send(client, port, "POST", f"/api/runs/{run}/judge", judgement, key(OPERATOR))
    async with client.post(port.url + "/api/replays", json={"ids": [run]}, headers=key(OPERATOR)) as answer:
        plan = (await answer.json())["id"]
    started = {"ids": [run], "dry_run": False, "plan": plan}
    assert 202 == await send(client, port, "POST", "/api/replays", started, key(OPERATOR))
    assert 200 == await send(client, port, "POST", f"/api/replays/{plan}/abort", None, key(OPERATOR))
    assert 404 == await send(client, port, "POST", f"/callbacks/replay/{run}", None, key(OPERATOR))
    assert 404 == await send(client, port, "POST", "/callbacks/replay/a%0Ab", None, key(OPERATOR))
    recovery = {"since": "2026-11-21T12:00:00Z", "host": "hooks.example.com"}
    assert 200 == await send(client, port, "POST", "/api/callbacks/recover", recovery, key(OPERATOR))
    ends = [each for each in await records(client, port) if each["result"] != "begun"]
    assert [
        ("runs.judge", run, "succeeded", {"verdict": "found_paid"}),
        ("replays.create", plan, "succeeded", {"step": "plan"}),
        ("replays.create", plan, "succeeded", {"step": "start"}),
        ("replays.abort", plan, "succeeded", {}),
        ("callbacks.redeliver", run, "refused", {}),
        ("callbacks.redeliver", "(invalid)", "refused", {}),
        ("callbacks.recover", "hooks.example.com", "succeeded", {"since": "2026-11-21T12:00:00.000Z", "step": "plan"}),
    ] == [said(each, "action", "target", "result", "details") for each in ends]


async def test_records_of_keys_name_the_key_and_what_was_done_to_it(
    port: RunsPort, client: aiohttp.ClientSession
) -> None:
    """Never its text."""
    headers = key(OPERATOR, **{"Content-Type": "application/json"})
    body = strict_json.write({"client": "shop", "name": "app"})
    async with client.post(port.url + "/api/keys", data=body, headers=headers) as answer:
        created = await answer.json()
    for path, members in (
        (f"/{created['id']}/rotate", {"grace": "1h"}),
        (f"/{created['id']}/expire", {"at": "2099-01-01"}),
        (f"/{created['id']}/expire", {"at": None}),
        ("/check", {"key": created["key"]}),
        (f"/{created['id']}/revoke", {}),
    ):
        assert 200 == await send(client, port, "POST", f"/api/keys{path}", members, key(OPERATOR))
    found = [each for each in await records(client, port) if each["result"] == "succeeded"]
    assert [
        ("keys.create", {"client": "shop", "name": "app"}),
        ("keys.rotate", {"client": "shop", "grace": "3600"}),
        ("keys.expire", {"client": "shop", "at": "2099-01-01T00:00:00.000Z"}),
        ("keys.expire", {"client": "shop", "at": "never"}),
        ("keys.check", {}),
        ("keys.revoke", {"client": "shop"}),
    ] == [said(each, "action", "details") for each in found]
    assert {created["id"]} == {each["target"] for each in found}
    assert created["key"] not in repr(await records(client, port))


async def test_an_act_that_ends_with_an_error_may_have_changed_something(
    port: RunsPort, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:

    async def fail(*_: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(port.store, "set_override", fail)
    assert 503 == await send(client, port, "POST", "/providers/override/studio", {"mode": "open"}, key(OPERATOR))
    assert [("begun", ""), ("failed", "store_unavailable")] == [
        said(each, "result", "code") for each in await records(client, port)
    ]


async def test_an_act_goes_on_without_the_store_of_its_records(
    port: RunsPort, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are there when it is back."""

    async def fail(*_: object) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as outage:
        outage.setattr(port.store.audit, "append", fail)
        assert 200 == await send(client, port, "POST", "/providers/override/studio", {"mode": "open"}, key(OPERATOR))
        assert [] == await records(client, port)
    while len(found := await records(client, port)) < 2:
        await asyncio.sleep(0.01)
    assert ["begun", "succeeded"] == [each["result"] for each in found]


async def test_the_list_has_pages_conditions_and_the_ends_of_the_chain(
    port: RunsPort, client: aiohttp.ClientSession
) -> None:
    for mode in ("open", "closed", "auto"):
        await send(client, port, "POST", "/providers/override/studio", {"mode": mode}, key(OPERATOR))
    await send(client, port, "POST", "/providers/override/none", {"mode": "auto"}, key(NAMELESS))
    document = await audit(client, port, "?limit=3")
    assert [8, 7, 6] == [each["sequence"] for each in document["records"]]
    assert {"sequence": 8, "hash": document["records"][0]["hash"]} == document["head"]
    assert {"sequence": 0, "hash": "0" * 64} == document["anchor"]
    document = await audit(client, port, f"?limit=3&cursor={document['next']}")
    assert ([5, 4, 3], "3", True) == (
        [each["sequence"] for each in document["records"]],
        document["next"],
        document["complete"],
    )
    oldest = (await audit(client, port, "?order=oldest&result=succeeded&actor=omar&action=providers.override"))[
        "records"
    ]
    assert [2, 4, 6] == [each["sequence"] for each in oldest]
    assert [8] == [each["sequence"] for each in await records(client, port, "?target=none&result=refused")]
    assert [1, 2] == [each["sequence"] for each in await records(client, port, f"?act={oldest[0]['act']}")]
    assert 8 == len(await records(client, port, "?from=2026-11-21T12:00:00Z&until=2026-11-21T13:00:00%2B00:00"))
    assert [] == await records(client, port, "?from=2026-11-21T12:00:01Z")
    assert [] == await records(client, port, "?until=2026-11-21T13:00:00%2B01:00")


@pytest.mark.parametrize(
    "query",
    [
        "?limit=0",
        "?limit=501",
        "?limit=x",
        "?cursor=x",
        "?cursor=-1",
        "?order=random",
        "?result=maybe",
        "?from=yesterday",
        "?from=9999-12-31T23:59:59-23:59",
        "?until=0001-01-01T00:00:00%2B23:59",
        "?from=2026-11-21T12:00:00Z&until=2026-11-21T12:00:00Z",
        "?actor=",
        "?actor=a&actor=b",
        "?colour=red",
        "?target=" + "x" * 600,
    ],
)
async def test_a_condition_without_a_meaning_is_refused(query: str, client: aiohttp.ClientSession) -> None:
    async with runs_port(ManualClock(), config=CONFIG) as port:
        assert "invalid_request" == (await audit(client, port, query, status=422))["code"]
