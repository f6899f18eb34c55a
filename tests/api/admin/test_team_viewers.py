"""Viewers of a team: they read the runs and the clients of their team, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from gateway.auth.keys import hash_key, new_key
from gateway.clock import SystemClock
from gateway.settings import Settings
from tests.api.admin.test_openapi import one_process_routes
from tests.support.clock import ManualClock
from tests.support.runs_port import RunsPort, run_id, runs_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

VIEWER, OPERATOR = (new_key(SystemClock()) for _ in range(2))
OPEN = {"healthz", "readyz", "console", "login", "logout", "oidc_login"}
CONFIG: dict[str, Any] = {
    "server": {
        "ops_keys": [
            {"hash": hash_key(VIEWER), "role": "viewer", "name": "vera", "team": "shop"},
            {"hash": hash_key(OPERATOR), "name": "omar"},
        ]
    },
    "teams": {"shop": {"budget": {"amount": 1, "per": "day"}}, "lab": {}},
    "budgets": {
        "all": {"amount": 1, "per": "day"},
        "checkout": {"amount": 1, "per": "week", "client": "checkout", "tag": "nightly"},
        "lab": {"amount": 1, "per": "week", "team": "lab"},
        "key": {"amount": 1, "per": "month", "key": "key_1"},
        "trial": {"amount": 1, "per": "month", "client": "trial"},
    },
    "clients": {
        "checkout": {"workflows": ["*"], "team": "shop"},
        "trial": {"workflows": ["*"], "team": "lab"},
        "free": {"workflows": ["*"]},
    },
}


@pytest.fixture(params=[False, True], ids=["process", "supervisor"])
async def port(request: pytest.FixtureRequest) -> AsyncIterator[RunsPort]:
    """An operations port; the runs 1 and 2 are the team's, 3 another team's, 4 has none, 5 is of an earlier version."""
    async with runs_port(ManualClock(), supervised=request.param, config=CONFIG) as running:
        await running.start(1, details={"team": "shop"}, key="key-1")
        await running.record(2, details={"team": "shop"})
        await running.record(3, client="trial", details={"team": "lab"})
        await running.start(4, client="free", key="key-4")
        await running.start(5, client="checkout")
        yield running


async def get(port: RunsPort, path: str, key: str = VIEWER, method: str = "GET") -> tuple[int, Any]:
    """Return status and document."""
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session,
        session.request(method, port.url + path) as answer,
    ):
        return answer.status, await answer.json(content_type=None) if answer.status != 204 else None


@pytest.mark.parametrize("query", ["", "team=shop", "client=checkout", "client=checkout&idempotency_key=key-1"])
async def test_a_search_finds_the_runs_of_the_team_only(port: RunsPort, query: str) -> None:
    status, document = await get(port, f"/api/runs?{query}")
    assert 200 == status
    expected = [1] if "idempotency_key" in query else [1, 2]
    assert sorted(map(run_id, expected)) == sorted(run["id"] for run in document["runs"])
    assert {"shop"} == {run["team"] for run in document["runs"]}


async def test_runs_of_others_do_not_exist_for_the_viewer(port: RunsPort) -> None:
    for number in (3, 4, 5):
        assert 404 == (await get(port, f"/api/runs/{run_id(number)}"))[0]
        assert 200 == (await get(port, f"/api/runs/{run_id(number)}", OPERATOR))[0]
    assert 200 == (await get(port, f"/api/runs/{run_id(1)}"))[0]
    for query in ("client=trial", "client=free&idempotency_key=key-4"):
        assert [] == (await get(port, f"/api/runs?{query}"))[1]["runs"]
        assert 1 == len((await get(port, f"/api/runs?{query}", OPERATOR))[1]["runs"])


@pytest.mark.parametrize("query", ["team=lab", "team=lab&team=shop", "team=shop&team=lab"])
async def test_another_team_cannot_be_asked_for(port: RunsPort, query: str) -> None:
    assert (await get(port, f"/api/runs?{query}"))[0] in {403, 422}


async def test_the_clients_of_the_team_are_listed(port: RunsPort) -> None:
    assert ["checkout"] == [each["client"] for each in (await get(port, "/api/clients"))[1]["clients"]]
    everything = (await get(port, "/api/clients", OPERATOR))[1]["clients"]
    assert ["checkout", "free", "trial"] == [each["client"] for each in everything]
    session = (await get(port, "/api/session"))[1]
    assert ("viewer", "shop") == (session["role"], session["team"])


async def test_the_budgets_of_the_team_are_listed(port: RunsPort) -> None:
    """Those in which only runs of the team count."""
    assert ["checkout", "team:shop"] == [each["budget"] for each in (await get(port, "/api/budgets"))[1]["budgets"]]
    everything = (await get(port, "/api/budgets", OPERATOR))[1]["budgets"]
    assert ["all", "checkout", "key", "lab", "team:shop", "trial"] == [each["budget"] for each in everything]


async def test_every_other_route_refuses_the_viewer(port: RunsPort) -> None:
    """A new route is refused too until its handler shows a team's part of it."""
    shown = set()
    for route in one_process_routes():
        if route.name in OPEN:
            continue
        if route.shows_team:
            shown.add(route.path)
            continue
        path = route.path.replace("{id}", "x").replace("{path}", "x")
        status, document = await get(port, path, method=route.method)
        assert (403, "forbidden") == (status, document["code"]) or 404 == status, path
        if status == 404:  # the supervisor has no such route
            assert 404 == (await get(port, path, OPERATOR, route.method))[0], path
    assert {"/api/runs", "/api/runs/{id}", "/api/clients", "/api/session"} <= shown


async def test_a_session_is_bound_to_the_team_of_its_key(port: RunsPort) -> None:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        page = {"Origin": port.url, "X-Runward-Console": "1"}
        async with browser.post(port.url + "/api/session", json={"key": VIEWER}, headers=page) as answer:
            assert 204 == answer.status
        async with browser.get(port.url + "/api/overview") as answer:
            assert 403 == answer.status
        async with browser.get(port.url + "/api/runs") as answer:
            assert 2 == len((await answer.json())["runs"])


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ({"role": "viewer", "team": "shpo"}, "server.ops_keys[0].team: no such team; did you mean shop?"),
        ({"team": "shop"}, "server.ops_keys[0].team: needs role: viewer"),
    ],
)
def test_a_key_of_an_unknown_team_or_of_an_operator_is_refused(key: dict[str, str], place: str) -> None:
    config = {"server": {"ops_keys": [{"hash": hash_key(VIEWER), **key}]}, "teams": {"shop": {}}}
    with pytest.raises(ValueError, match=r"team") as refused:
        Settings.model_validate(config)
    assert place.rpartition(": ")[2].split(";")[0] in str(refused.value)
