"""Log-in to the console through an OpenID Connect provider, and everything by which it could be forged."""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from pydantic import SecretStr

from gateway.auth.keys import hash_key, new_key
from gateway.clock import SystemClock
from tests.support.clock import ManualClock
from tests.support.login_issuer import CLIENT_ID, CLIENT_SECRET, LoginIssuer
from tests.support.runs_port import RunsPort, runs_port
from tests.support.token_issuer import rsa_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OPS = "http://127.0.0.1:9090"
ROLES = {"claim": "groups", "operator": ["platform"], "viewer": ["team-*"]}
OVERRIDE = "/providers/override/prompt_studio"
FAILED, NO_ROLE, UNAVAILABLE = (f"{OPS}/console/?login={why}" for why in ("failed", "no_role", "unavailable"))


def config(issuer: LoginIssuer, *, keys: list[dict[str, Any]] | None = None, **login: Any) -> dict[str, Any]:
    own = {
        "issuer": "corp",
        "client_id": CLIENT_ID,
        "client_secret": SecretStr(CLIENT_SECRET),
        "url": OPS,
        "roles": ROLES,
        **login,
    }
    return {
        "issuers": {"corp": {"url": issuer.url}},
        "console": {"login": own},
        "server": {"ops_keys": keys or [], "trusted_proxies": ["127.0.0.1"]},
    }


class Tab:
    """A browser without a cookie jar: it sends the cookies that it is told."""

    def __init__(self, port: RunsPort, client: aiohttp.ClientSession) -> None:
        self.port, self.client = port, client

    async def get(self, path: str, cookies: str = "") -> tuple[int, str, list[str], str]:
        """Return status, Location, all Set-Cookie fields, and the body."""
        headers = {"Cookie": cookies} if cookies else {}
        async with self.client.get(self.port.url + path, headers=headers, allow_redirects=False) as answer:
            assert "no-store" == answer.headers["Cache-Control"]
            text = await answer.text()
            return answer.status, answer.headers.get("Location", ""), answer.headers.getall("Set-Cookie", []), text

    async def start(self) -> tuple[str, str]:
        """Begin a log-in; returns the URL at the issuer and the cookie."""
        status, location, [cookie], _ = await self.get("/api/login/start")
        assert 303 == status
        return location, cookie.partition(";")[0]

    async def complete(self, url: str, cookie: str) -> tuple[str, list[str]]:
        """Follow the issuer's redirect; returns where it leads, and cookies."""
        parts = urlsplit(url)
        status, location, cookies, _ = await self.get(f"{parts.path}?{parts.query}", cookie)
        assert 303 == status
        return location, cookies

    async def log_in(self, issuer: LoginIssuer) -> str:
        """Log in, and return the cookie of the session."""
        location, cookie = await self.start()
        target, cookies = await self.complete(issuer.answer(location), cookie)
        assert f"{OPS}/console/" == target
        [session] = [each.partition(";")[0] for each in cookies if each.startswith("runward_session=")]
        return session

    async def caller(self, session: str) -> tuple[int, str | None, str | None]:
        """Return status, role and name of the caller."""
        async with self.client.get(self.port.url + "/api/session", headers={"Cookie": session}) as answer:
            document = await answer.json(content_type=None)
            return answer.status, document.get("role"), document.get("name")

    async def change(self, session: str, **headers: str) -> int:
        """Change something as a page of the console does; returns the status."""
        own = {"Origin": self.port.url, "X-Runward-Console": "1", "Cookie": session, **headers}
        async with self.client.post(self.port.url + OVERRIDE, json={"mode": "auto"}, headers=own) as answer:
            return answer.status


@asynccontextmanager
async def opened(
    issuer: LoginIssuer, *, supervised: bool = False, **changes: Any
) -> AsyncIterator[tuple[Tab, ManualClock]]:
    clock = ManualClock()
    async with (
        runs_port(clock, supervised=supervised, config=config(issuer, **changes)) as port,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client,
    ):
        yield Tab(port, client), clock


@pytest.mark.parametrize("supervised", [False, True], ids=["one process", "workers"])
async def test_the_claims_decide_role_and_name(supervised: bool) -> None:  # noqa: FBT001 - a parameter
    """An operator may change something, a viewer may not; without a session nothing is shown."""
    async with LoginIssuer() as issuer, opened(issuer, supervised=supervised) as (tab, clock):
        issuer.now = lambda: clock.now().timestamp()
        assert 401 == (await tab.get("/api/session"))[0]
        assert 401 == (await tab.get("/api/runs"))[0]
        issuer.person = {"sub": "1", "preferred_username": "ada", "groups": ["other", "platform"]}
        session = await tab.log_in(issuer)
        assert (200, "operator", "corp:ada") == await tab.caller(session)
        assert 404 == await tab.change(session)  # permitted, but no provider is configured
        assert 403 == await tab.change(session, Origin="https://attacker.example")
        issuer.person = {"sub": "2", "groups": "team-shop"}
        session = await tab.log_in(issuer)
        assert (200, "viewer", "corp:2") == await tab.caller(session)
        assert 403 == await tab.change(session)
        issuer.person = {"sub": "3", "preferred_username": "eve", "groups": ["platforms", "steam-shop"]}
        location, cookie = await tab.start()
        target, cookies = await tab.complete(issuer.answer(location), cookie)
        assert (NO_ROLE, 1) == (target, len(cookies))
        assert [200, 200, 200] == issuer.exchanges


async def test_what_is_sent_to_the_issuer() -> None:
    async with LoginIssuer() as issuer, opened(issuer) as (tab, _):
        status, location, [cookie], _ = await tab.get("/api/login/start")
        assert 303 == status
        query = parse_qs(urlsplit(location).query)
        assert location.startswith(f"{issuer.origin}/authorize?")
        assert {
            "response_type": ["code"],
            "client_id": [CLIENT_ID],
            "redirect_uri": [f"{OPS}/api/login/callback"],
            "scope": ["openid profile"],
            "code_challenge_method": ["S256"],
        }.items() <= query.items()
        secrets = [query[name][0] for name in ("state", "nonce", "code_challenge")]
        assert {43} == set(map(len, secrets))
        assert 3 == len(set(secrets))
        assert not any(secret in cookie for secret in secrets)
        name, *flags = cookie.split("; ")
        assert ("runward_login", ["Path=/", "Max-Age=600", "HttpOnly", "SameSite=Lax"]) == (
            name.partition("=")[0],
            flags,
        )
        other, _ = await tab.start()
        assert query["state"] != parse_qs(urlsplit(other).query)["state"]


async def test_cookies_of_a_console_with_tls_are_for_this_host_only() -> None:
    async with LoginIssuer() as issuer, opened(issuer, url="https://ops.example.com") as (tab, _):
        issuer.person["groups"] = "platform"
        _, location, [cookie], _ = await tab.get("/api/login/start")
        assert cookie.startswith("__Host-runward_login=")
        assert cookie.endswith("; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure")
        back = urlsplit(issuer.answer(location))
        assert "https://ops.example.com/api/login/callback" == f"{back.scheme}://{back.netloc}{back.path}"
        _, target, cookies, _ = await tab.get(f"/api/login/callback?{back.query}", cookie.partition(";")[0])
        assert "https://ops.example.com/console/" == target
        assert cookies[0].startswith("__Host-runward_login=; Path=/; Max-Age=0")
        assert cookies[1].endswith("; Path=/; Max-Age=28800; HttpOnly; SameSite=Strict; Secure")


async def test_an_answer_that_is_not_of_this_log_in_is_refused() -> None:
    """Log-in CSRF: an attacker's answer in a victim's browser makes no session, and no code is exchanged."""
    async with LoginIssuer() as issuer, opened(issuer) as (tab, _):
        issuer.person["groups"] = "platform"
        location, cookie = await tab.start()
        others_location, others_cookie = await tab.start()
        answer, others = issuer.answer(location), issuer.answer(others_location)
        state = parse_qs(urlsplit(answer).query)["state"][0]
        name, _, value = cookie.partition("=")
        expiry, entropy, signature = value.split(".")
        later = f"{int(expiry) + 1}.{entropy}.{signature}"
        base = answer.partition("?")[0]
        cases = {
            "no cookie": (answer, ""),
            "another log-in's answer": (others, cookie),
            "another log-in's cookie": (answer, others_cookie),
            "two cookies": (answer, f"{cookie}; {others_cookie}"),
            "forged cookie": (answer, f"{name}={value[:-1]}{'0' if value[-1] != '0' else '1'}"),
            "longer cookie": (answer, f"{name}={later}"),
            "the session's cookie": (answer, f"{name}=oidc.1.x.{signature}"),
            "no state": (f"{base}?code=x", cookie),
            "empty state": (f"{base}?code=x&state=", cookie),
            "two states": (f"{answer}&state={state}", cookie),
            "state cut off": (answer.replace(state, state[:-1]), cookie),
            "non-ASCII state": (f"{base}?code=x&state=%C3%A4", cookie),
            "no code": (f"{base}?state={state}", cookie),
            "two codes": (f"{answer}&code=y", cookie),
            "a code with a line feed": (f"{base}?code=a%0Ab&state={state}", cookie),
            "a long code": (f"{base}?code={'x' * 5000}&state={state}", cookie),
            "an error": (f"{base}?error=access_denied&state={state}", cookie),
            "another issuer": (f"{base}?code=x&state={state}&iss=https%3A%2F%2Fattacker.example", cookie),
            "many parameters": (answer + "&a=b" * 30, cookie),
        }
        seen = {name: await tab.complete(url, own) for name, (url, own) in cases.items()}
        assert {FAILED} == {target for target, _ in seen.values()}
        assert {1} == {len(cookies) for _, cookies in seen.values()}
        assert [] == issuer.exchanges
        assert f"{OPS}/console/" == (await tab.complete(answer, cookie))[0]


async def test_an_answer_is_used_once() -> None:
    """The issuer refuses its code the second time; a log-in takes ten minutes at most."""
    async with LoginIssuer() as issuer, opened(issuer) as (tab, clock):
        issuer.person["groups"] = "platform"
        location, cookie = await tab.start()
        answer = issuer.answer(location)
        assert f"{OPS}/console/" == (await tab.complete(answer, cookie))[0]
        assert FAILED == (await tab.complete(answer, cookie))[0]
        assert [200, 400] == issuer.exchanges
        location, cookie = await tab.start()
        clock.advance(600)
        assert FAILED == (await tab.complete(issuer.answer(location), cookie))[0]
        assert [200, 400] == issuer.exchanges


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "x" * 43},
        {"nonce": None},
        {"nonce": ["x"]},
        {"aud": "another-client"},
        {"aud": [CLIENT_ID, "other"]},
        {"azp": "other"},
        {"iss": "https://attacker.example"},
        {"exp": 1_795_262_000},
        {"exp": None},
        {"cnf": {"jkt": "x"}},
        {"sub": None, "preferred_username": None},
    ],
)
async def test_an_id_token_that_is_not_valid_is_refused(changes: dict[str, Any]) -> None:
    async with LoginIssuer() as issuer, opened(issuer) as (tab, _):
        issuer.person["groups"] = "platform"
        issuer.changes = changes
        location, cookie = await tab.start()
        target, cookies = await tab.complete(issuer.answer(location), cookie)
        assert (FAILED, 1) == (target, len(cookies))


async def test_an_id_token_of_another_key_is_refused() -> None:
    """And of none, and one that is no token; after a change of keys a log-in works at once, once a minute."""
    async with LoginIssuer() as issuer, opened(issuer) as (tab, clock):
        issuer.now = lambda: clock.now().timestamp()
        issuer.person["groups"] = "platform"
        await tab.log_in(issuer)
        for token in ("", "x", "a.b.c", 1, None, "eyJhbGciOiJub25lIn0.e30."):
            issuer.more_response = {"id_token": token}
            location, cookie = await tab.start()
            assert (await tab.complete(issuer.answer(location), cookie))[0] in {FAILED, UNAVAILABLE}
        issuer.more_response = {}
        published = [dict(entry) for entry in [json.loads(issuer._document("/keys") or b"")["keys"][0]]]
        issuer.keys["key-1"], issuer.key_set = rsa_key(2048, 1), published
        location, cookie = await tab.start()
        assert FAILED == (await tab.complete(issuer.answer(location), cookie))[0]
        issuer.key_set = None
        clock.advance(600)
        assert (200, "operator", "corp:ada") == await tab.caller(await tab.log_in(issuer))


async def test_an_issuer_that_is_away_is_told() -> None:
    """Without a loop of redirects, and without a request for each attempt."""
    async with LoginIssuer() as issuer, opened(issuer) as (tab, clock):
        issuer.person["groups"] = "platform"
        location, cookie = await tab.start()
        await issuer.stop_listening()
        assert UNAVAILABLE == (await tab.complete(issuer.answer(location), cookie))[0]
        clock.advance(400)
        assert (303, UNAVAILABLE, []) == (await tab.get("/api/login/start"))[:3]
        await issuer.listen()
        assert UNAVAILABLE == (await tab.get("/api/login/start"))[1]
        clock.advance(5)
        assert (await tab.get("/api/login/start"))[1].startswith(issuer.origin)


async def test_a_session_ends_and_cannot_be_forged() -> None:
    async with LoginIssuer() as issuer, opened(issuer, session=3600) as (tab, clock):
        issuer.now = lambda: clock.now().timestamp()
        issuer.person["groups"] = "team-a"
        session = await tab.log_in(issuer)
        prefix, expiry, payload, signature = session.removeprefix("runward_session=").split(".")
        operator = base64.urlsafe_b64encode(b'["x","operator","corp:ada"]').rstrip(b"=").decode()
        forged = [
            f"{prefix}.{int(expiry) + 1}.{payload}.{signature}",
            f"{prefix}.{expiry}.{operator}.{signature}",
            f"{prefix}.{expiry}.{payload}.{'0' * 64}",
            f"{prefix}.{expiry}.{payload}.",
            f"{prefix}.{expiry}..{signature}",
            "oidc.",
        ]
        assert {401} == {(await tab.caller(f"runward_session={each}"))[0] for each in forged}
        assert (200, "viewer", "corp:ada") == await tab.caller(session)
        clock.advance(3599)
        assert 200 == (await tab.caller(session))[0]
        clock.advance(1)
        assert 401 == (await tab.caller(session))[0]


async def test_keys_work_beside_it_and_the_console_offers_both() -> None:
    key = new_key(SystemClock())
    keys = [{"hash": hash_key(key), "role": "viewer", "name": "vera"}]
    async with LoginIssuer() as issuer, opened(issuer, keys=keys) as (tab, _):
        status, _, _, body = await tab.get("/api/login")
        offered = json.loads(body)
        assert (200, {"keys": True, "issuer": "corp", "start": f"{OPS}/api/login/start"}) == (status, offered)
        async with tab.client.post(tab.port.url + "/api/session", json={"key": key}) as answer:
            assert 204 == answer.status
            session = answer.headers["Set-Cookie"].partition(";")[0]
        assert (200, "viewer", "vera") == await tab.caller(session)


async def test_failed_log_ins_are_limited() -> None:
    async with LoginIssuer() as issuer, opened(issuer) as (tab, _):
        answers = [(await tab.get("/api/login/callback?code=x&state=y"))[0] for _ in range(25)]
        assert [303] * 20 + [429] * 5 == answers


async def test_a_public_client_sends_no_secret() -> None:
    async with LoginIssuer(requires_secret=False) as issuer, opened(issuer, client_secret=None) as (tab, _):
        issuer.person["groups"] = "platform"
        assert 200 == (await tab.caller(await tab.log_in(issuer)))[0]


async def test_without_it_there_is_no_log_in() -> None:
    async with (
        runs_port(ManualClock()) as port,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client,
    ):
        tab = Tab(port, client)
        assert [404, 404] == [(await tab.get(f"/api/login/{name}"))[0] for name in ("start", "callback")]
        assert '"start":null' in (await tab.get("/api/login"))[3]
