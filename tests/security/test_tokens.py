"""Tokens of an issuer at a running gateway: in all three APIs, for the WebSocket, and across a reload."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.app.tls_harness import HOST, TestAuthority
from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.config_files import wait_for_reloads, write_gateway_config
from tests.support.fake_upstream.provider_responses import prompt_studio_reply
from tests.support.process import metric_sum
from tests.support.token_issuer import TokenIssuer, rsa_key
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.process import GatewayProcess

DONE = prompt_studio_reply({"completion": "because"})
STUDIO_RUN = {"inputs": {"question": "why?"}}


def token(issuer: TokenIssuer, key_id: str = "key-1", **claims: Any) -> str:
    now = int(time.time())
    return issuer.token(key_id, **{"iat": now, "nbf": now, "exp": now + 600, **claims})


def tokens_of(issuer_name: str = "test", sub: str = "system:serviceaccount:shop:checkout") -> JsonValue:
    return [{"issuer": issuer_name, "audience": "runward", "match": {"sub": sub}}]


def additions(url: str, **issuer: JsonValue) -> dict[str, Any]:
    """Return settings with a client that has tokens, and no keys."""
    return {
        "issuers": {"test": {"url": url, **issuer}},
        "clients": {"pods": {"workflows": ["*"], "tokens": tokens_of()}},
    }


async def post(session: aiohttp.ClientSession, url: str, presented: str, body: Any = None) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {presented}"}
    async with session.post(url, json=body or dict(PROMPT_STUDIO_BODY), headers=headers) as answer:
        return answer.status, await answer.read()


async def fetched(gateway: GatewayProcess) -> None:
    await wait_until(lambda: bool(gateway.logs("issuer_keys_changed")))


async def test_a_token_is_taken_where_a_key_is(
    gateway: StartGateway, upstream: FakeUpstream, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """R75: through TLS with an authority of its own; a forged one gets the same refusal as a wrong key."""
    upstream.default = DONE
    authority = TestAuthority.create(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("issuer", HOST))
    (tmp_path / "bearer").write_text("from-the-file\n")
    async with TokenIssuer(tls=context) as issuer:
        files: dict[str, JsonValue] = {"ca_file": str(authority.ca_file), "bearer_token_file": str(tmp_path / "bearer")}
        running = await gateway(**additions(issuer.url, **files))
        await fetched(running)
        assert {"Bearer from-the-file"} == {authorization for _, authorization in issuer.requests}
        valid = token(issuer, sub="system:serviceaccount:shop:checkout")
        assert 200 == (await post(session, f"{running.url}/run", valid))[0]
        assert 200 == (await post(session, f"{running.url}/v1/workflows/studio/run", valid, STUDIO_RUN))[0]
        async with session.get(f"{running.url}/workflows", headers={"X-API-KEY": valid}) as answer:
            assert 200 == answer.status
        capability = {"capability": "workflows:3:run:x"}
        url = f"{running.url}/ws-token-request-library"
        async with session.post(url, params=capability, headers={"X-API-KEY": valid}) as answer:
            assert answer.status in {200, 201, 422}, await answer.text()
        assert {"pods"} == {line["client"] for line in running.logs("request") if line["status"] == 200}
        forged = token(issuer, sub="system:serviceaccount:shop:other")
        refused = await post(session, f"{running.url}/run", forged)
        wrong = await post(session, f"{running.url}/run", "rw_wrong")
        ids = [str(line["request_id"]).encode() for line in running.logs("request") if line["status"] == 401]
        assert [401, 401] == [refused[0], wrong[0]]
        assert refused[1].replace(ids[0], b"") == wrong[1].replace(ids[1], b"")
        assert "token_no_match" == running.logs("key_refused")[0]["why"]
        samples = await running.metrics()
        assert 1 == metric_sum(samples, "runward_tokens_refused_total", reason="token_no_match")
        assert 1 == metric_sum(samples, "runward_issuer_fetches_total", issuer="test", result="ok")
        assert time.time() - 60 < metric_sum(samples, "runward_issuer_keys_timestamp_seconds", issuer="test")
        assert not any(secret in running.stdout for secret in (valid, forged, "from-the-file"))


async def test_a_reload_applies_changed_tokens_and_issuers(
    gateway: StartGateway, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    """A gateway without issuers gets one, then other rules, then none."""
    upstream.default = DONE
    async with TokenIssuer() as issuer:
        running = await gateway()
        valid = token(issuer, sub="system:serviceaccount:shop:checkout")
        url = f"{running.url}/run"
        assert 401 == (await post(session, url, valid))[0]
        write_gateway_config(running, upstream.url, **additions(issuer.url))
        await wait_for_reloads(running, 1)
        await fetched(running)
        assert 200 == (await post(session, url, valid))[0]
        changed = additions(issuer.url)
        changed["clients"] = {"pods": {"workflows": ["*"], "tokens": tokens_of(sub="system:serviceaccount:shop:other")}}
        write_gateway_config(running, upstream.url, **changed)
        await wait_for_reloads(running, 2)
        assert 401 == (await post(session, url, valid))[0]
        write_gateway_config(running, upstream.url)
        await wait_for_reloads(running, 3)
        assert 401 == (await post(session, url, valid))[0]
        assert not [s for s in await running.metrics() if s.name == "runward_issuer_keys_timestamp_seconds"]
        assert 1 == issuer.count("/keys")
        assert 0 == await running.stop()


async def test_a_passed_through_request_may_have_a_token(
    gateway: StartGateway, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    """Also with a key that the issuer has just made; the provider gets its own key, not the token."""
    upstream.default = DONE
    async with TokenIssuer() as issuer:
        settings = additions(issuer.url)
        settings["clients"] = {
            "pods": {"workflows": ["*"], "tokens": tokens_of(), "passthrough": {"promptlayer": ["POST /log-request"]}}
        }
        running = await gateway(**settings)
        await fetched(running)
        issuer.keys["key-2"] = rsa_key(2048, 1)
        valid = token(issuer, "key-2", sub="system:serviceaccount:shop:checkout")
        async with session.post(f"{running.url}/log-request", json={}, headers={"X-API-KEY": valid}) as answer:
            assert 200 == answer.status, await answer.text()
        assert 2 == issuer.count("/keys")
        assert not any(valid in str(request.headers) for request in upstream.requests())


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("another issuer", "the discovery document is of another issuer"),
        ("keys at plain http", "names an address that is not https"),
        ("redirect", "answered with status 302"),
        ("too large", "gave no usable answer"),
        ("no keys", "the key set has no list of keys"),
    ],
)
async def test_an_issuer_that_cannot_be_trusted_lets_in_nobody(
    gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path, case: str, why: str
) -> None:
    """503 for its tokens, and the log says why; other documents are not fetched."""
    authority = TestAuthority.create(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("issuer", HOST))
    async with TokenIssuer(tls=context) as issuer, TokenIssuer() as other:
        if case == "another issuer":
            issuer.more_discovery = {"issuer": issuer.url + "/"}
        elif case == "keys at plain http":
            issuer.more_discovery = {"jwks_uri": f"{other.url}/keys"}
        elif case == "redirect":
            issuer.status = 302
        elif case == "too large":
            issuer.documents["/keys"] = b'{"keys": [' + b" " * 1_000_001 + b"]}"
        else:
            issuer.documents["/keys"] = b'{"keys": {}}'
        running = await gateway(**additions(issuer.url, ca_file=str(authority.ca_file)))
        await wait_until(lambda: bool(running.logs("issuer_keys_not_fetched")))
        assert why in str(running.logs("issuer_keys_not_fetched")[0]["why"])
        status, body = await post(session, f"{running.url}/run", token(issuer))
        assert (503, True) == (status, b"issuer_unavailable" in body)
        assert [] == other.requests
        assert 0 == issuer.count("/elsewhere")
