"""Sessions of the console, roles of the keys, and requests that pages of other origins cause."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from gateway.auth.keys import hash_key, new_key
from gateway.clock import SystemClock
from gateway.store.contract import StoreUnavailable
from tests.support.clock import ManualClock
from tests.support.runs_port import RunsPort, runs_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

VIEWER, OPERATOR = (new_key(SystemClock()) for _ in range(2))
KEYS = [
    {"hash": hash_key(VIEWER), "role": "viewer", "name": "vera"},
    {"hash": hash_key(OPERATOR), "name": "omar"},
]
CONFIG = {"server": {"ops_keys": KEYS, "trusted_proxies": ["127.0.0.1"]}}
OVERRIDE = "/providers/override/prompt_studio"


@pytest.fixture(params=[False, True], ids=["one process", "workers"])
async def port(request: pytest.FixtureRequest) -> AsyncIterator[RunsPort]:
    async with runs_port(ManualClock(), supervised=request.param, config=CONFIG) as running:
        yield running


@pytest.fixture
async def browser() -> AsyncIterator[aiohttp.ClientSession]:
    """Client without a cookie jar: each test sends the cookie itself."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
        yield client


async def log_in(
    browser: aiohttp.ClientSession, port: RunsPort, key: str, **headers: str
) -> tuple[int, SimpleCookie, str]:
    """Return status, cookie and the whole Set-Cookie field."""
    async with browser.post(port.url + "/api/session", json={"key": key}, headers=headers) as answer:
        return answer.status, answer.cookies, answer.headers.get("Set-Cookie", "")


async def cookie_of(browser: aiohttp.ClientSession, port: RunsPort, key: str) -> dict[str, str]:
    """Log in, and return the header field of the session."""
    status, cookies, _ = await log_in(browser, port, key)
    assert 204 == status
    return {"Cookie": f"runward_session={cookies['runward_session'].value}"}


def page(port: RunsPort) -> dict[str, str]:
    """Header fields of a page of the console."""
    return {"Origin": port.url, "X-Runward-Console": "1"}


async def get(browser: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> tuple[int, Any]:
    async with browser.get(url, headers=headers) as answer:
        assert "no-store" == answer.headers["Cache-Control"]
        return answer.status, await answer.json(content_type=None)


async def change(browser: aiohttp.ClientSession, port: RunsPort, headers: dict[str, str]) -> int:
    async with browser.post(port.url + OVERRIDE, json={"mode": "auto"}, headers=headers) as answer:
        document = await answer.json(content_type=None)
        assert answer.status != 403 or "forbidden" == document["code"]
        return answer.status


async def test_a_session_has_the_role_and_the_name_of_its_key(port: RunsPort, browser: aiohttp.ClientSession) -> None:
    assert 401 == (await get(browser, port.url + "/api/session", {}))[0]
    for key, role, name in ((VIEWER, "viewer", "vera"), (OPERATOR, "operator", "omar")):
        for credentials in (await cookie_of(browser, port, key), {"Authorization": f"Bearer {key}"}):
            status, document = await get(browser, port.url + "/api/session", credentials)
            assert (200, role, name, True) == (
                status,
                document["role"],
                document["name"],
                document["keys_required"],
            )
            assert document["version"]
            assert document["replica"]
            assert 200 == (await get(browser, port.url + "/api/runs", credentials))[0]


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(
    port: RunsPort, browser: aiohttp.ClientSession
) -> None:
    """And is sent over TLS only, if a trusted proxy terminates it."""
    plain = (await log_in(browser, port, OPERATOR))[2]
    secure = (await log_in(browser, port, OPERATOR, **{"X-Forwarded-Proto": "https"}))[2]
    flags = ["Path=/", "Max-Age=43200", "HttpOnly", "SameSite=Strict"]
    assert flags == plain.split("; ")[1:]
    assert [*flags, "Secure"] == secure.split("; ")[1:]
    assert OPERATOR not in plain


async def test_a_wrong_key_is_refused_and_limited(port: RunsPort, browser: aiohttp.ClientSession) -> None:
    """A right one is not, meanwhile."""
    statuses = [(await log_in(browser, port, "rw_wrong"))[0] for _ in range(25)]
    assert [401] * 20 + [429] * 5 == statuses
    assert 204 == (await log_in(browser, port, OPERATOR))[0]
    assert 401 == (await get(browser, port.url + "/api/session", {}))[0]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"key":""}', b'{"key":1}', b'{"key":"a","x":1}'])
async def test_bad_bodies_are_problems_without_the_key(
    port: RunsPort, browser: aiohttp.ClientSession, body: bytes
) -> None:
    json = {"Content-Type": "application/json"}
    async with browser.post(port.url + "/api/session", data=body, headers=json) as answer:
        assert answer.status in {400, 422}
        assert "Set-Cookie" not in answer.headers
    long = b'{"key":"%b"}' % (b"secret" * 100)
    async with browser.post(port.url + "/api/session", data=long, headers=json) as answer:
        assert 422 == answer.status
        assert "secret" not in await answer.text()


async def test_a_viewer_reads_and_changes_nothing(port: RunsPort, browser: aiohttp.ClientSession) -> None:
    by_session = {**await cookie_of(browser, port, VIEWER), **page(port)}
    for credentials in (by_session, {"X-API-KEY": VIEWER}):
        for path in ("/api/runs", "/api/attention", "/providers", "/callbacks"):
            assert 200 == (await get(browser, port.url + path, credentials))[0]
        assert 403 == await change(browser, port, credentials)
        for path in ("/api/replays", "/api/replays/rpl_1/abort", "/api/runs/run_1/judge", "/callbacks/replay/run_1"):
            async with browser.post(port.url + path, json={}, headers=credentials) as answer:
                assert 403 == answer.status


async def test_an_operator_changes_something_from_a_page_of_this_origin_only(
    port: RunsPort, browser: aiohttp.ClientSession
) -> None:
    cookie = await cookie_of(browser, port, OPERATOR)
    allowed = 404 if "workers" in port.url else await change(browser, port, {"X-API-KEY": OPERATOR})
    assert allowed in {200, 404}  # the provider is not configured
    assert allowed == await change(browser, port, {**cookie, **page(port)})
    for headers in (
        {},
        {"Origin": port.url},
        {"X-Runward-Console": "1"},
        {**page(port), "Origin": "http://evil.example"},
        {**page(port), "Origin": "null"},
        {**page(port), "X-Runward-Console": "0"},
    ):
        assert 403 == await change(browser, port, {**cookie, **headers})
    assert 403 == await change(browser, port, {"X-API-KEY": OPERATOR, "Origin": "http://evil.example"})


async def test_a_key_decides_alone(port: RunsPort, browser: aiohttp.ClientSession) -> None:
    """A wrong key beside a valid cookie is not overlooked, and two cookies are none."""
    cookie = await cookie_of(browser, port, OPERATOR)
    assert 401 == (await get(browser, port.url + "/api/runs", {**cookie, "X-API-KEY": "wrong"}))[0]
    twice = {"Cookie": f"{cookie['Cookie']}; {cookie['Cookie']}"}
    assert 401 == (await get(browser, port.url + "/api/runs", twice))[0]
    assert 200 == (await get(browser, port.url + "/api/runs", {"Cookie": f"a=b; {cookie['Cookie']}; c"}))[0]


async def test_an_old_cookie_is_no_failed_attempt(port: RunsPort, browser: aiohttp.ClientSession) -> None:
    """A tab that asks on after its session has ended locks no one out."""
    cookie = await cookie_of(browser, port, OPERATOR)
    assert isinstance(port.clock, ManualClock)
    port.clock.advance(12 * 3600)
    for _ in range(25):
        assert 401 == (await get(browser, port.url + "/api/runs", cookie))[0]


async def test_logging_out_removes_the_cookie(port: RunsPort, browser: aiohttp.ClientSession) -> None:
    async with browser.delete(port.url + "/api/session", headers={"Origin": port.url}) as answer:
        assert 204 == answer.status
        assert answer.headers["Set-Cookie"].startswith("runward_session=; Path=/; Max-Age=0; HttpOnly")
    async with browser.delete(port.url + "/api/session", headers={"Origin": "http://evil.example"}) as answer:
        assert 403 == answer.status
    evil = {"Origin": "http://evil.example"}
    assert 403 == (await log_in(browser, port, OPERATOR, **evil))[0]


async def test_without_keys_a_page_needs_a_literal_address(browser: aiohttp.ClientSession) -> None:
    """A page whose host name resolves to this port (DNS rebinding) changes nothing."""
    async with runs_port(ManualClock()) as port:
        status, document = await get(browser, port.url + "/api/session", {})
        assert (200, "operator", None, False) == (
            status,
            document["role"],
            document["name"],
            document["keys_required"],
        )
        assert 404 == await change(browser, port, page(port))
        rebound = {"Host": "evil.example", "Origin": "http://evil.example", "X-Runward-Console": "1"}
        assert 403 == await change(browser, port, rebound)


async def test_a_judgement_has_the_name_of_its_key(port: RunsPort, browser: aiohttp.ClientSession) -> None:
    run_id = await port.start(1)
    await port.end(1, "unknown")
    cookie = {**await cookie_of(browser, port, OPERATOR), **page(port)}
    url = f"{port.url}/api/runs/{run_id}"
    async with browser.post(url + "/judge", json={"verdict": "found_paid"}, headers=cookie) as answer:
        assert 200 == answer.status
        assert "omar" == (await answer.json())["judgement"]["actor"]
    assert "omar" == (await get(browser, url, cookie))[1]["judgement"]["actor"]


async def test_without_its_store_a_session_is_not_refused_but_unavailable(
    port: RunsPort, browser: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key needs no store."""

    async def fail(name: str, default: bytes) -> bytes:
        del name, default
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(port.store, "get_or_create_secret", fail)
        cookie = {"Cookie": f"runward_session=1.{'0' * 32}.{'0' * 64}"}
        status, document = await get(browser, port.url + "/api/session", cookie)
        assert (503, "store_unavailable") == (status, document["code"])
        assert 503 == (await log_in(browser, port, OPERATOR))[0]
        assert 200 == (await get(browser, port.url + "/api/session", {"X-API-KEY": VIEWER}))[0]
    assert 204 == (await log_in(browser, port, OPERATOR))[0]


@pytest.mark.parametrize(
    "cookie", ["runward_session", "runward_session=", "runward_session=\xff", "a;;=;runward_session=x"]
)
async def test_a_malformed_cookie_is_none(port: RunsPort, browser: aiohttp.ClientSession, cookie: str) -> None:
    assert 401 == (await get(browser, port.url + "/api/runs", {"Cookie": cookie}))[0]
