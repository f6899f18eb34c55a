"""Tokens at the port: valid ones stand for their client, every forged one gets the same refusal."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from gateway.auth.oidc.issuer_keys import IssuerConfig
from gateway.auth.oidc.refusals import TokenRefusal
from gateway.auth.oidc.verifier import TokenConfig, TokenRule, TokenVerifier
from gateway.claim_patterns import ClaimPattern
from gateway.outbound.issuer_client import IssuerEndpoint
from tests.auth.oidc.forged_tokens import forged_tokens, issuer_keys
from tests.http.server_harness import KEY, ServerHarness, running_server
from tests.support.token_issuer import TokenIssuer, encode, public_jwk, rsa_key, sign, signature_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.http.server_harness import ParsedResponse

RULES = [
    TokenRule("one", "runward", [ClaimPattern.parse("sub", "app")]),
    TokenRule("two", "runward", [ClaimPattern.parse("groups", "left")]),
    TokenRule("three", "runward", [ClaimPattern.parse("groups", "right")]),
]


def config(issuer: TokenIssuer, keys_for: float = 86400.0) -> TokenConfig:
    return TokenConfig({"test": IssuerConfig("test", IssuerEndpoint(issuer.url), keys_for)}, {"test": RULES})


@asynccontextmanager
async def token_server(issuer: TokenIssuer, keys_for: float = 86400.0) -> AsyncIterator[ServerHarness]:
    """Server whose clients have tokens of the issuer; keys are fetched when the test says so."""
    async with running_server(max_header=65_536) as server:
        log = structlog.wrap_logger(None, processors=[server.capture])
        tokens = TokenVerifier(config(issuer, keys_for), server.clock, server.metrics, log)
        server.authenticator.tokens = tokens
        yield server
        await tokens.close()


def verifier_of(server: ServerHarness) -> TokenVerifier:
    assert server.authenticator.tokens is not None
    return server.authenticator.tokens


async def refresh(server: ServerHarness) -> None:
    for issuer in verifier_of(server).issuers:
        await issuer.refresh()


def without_id(answer: ParsedResponse) -> tuple[str, bytes]:
    kept = {name: value for name, value in answer.headers.items() if name not in {"x-request-id", "date"}}
    return str(kept), answer.body.replace(answer.headers["x-request-id"].encode(), b"ID")


async def test_no_forged_token_passes() -> None:
    """R75: identical bytes except request id and date; only log and metrics have the reason, and none of the token."""
    keys, key_set = issuer_keys()
    async with TokenIssuer(keys=keys, key_set=key_set) as issuer, token_server(issuer) as server:
        await refresh(server)
        answers = {"no key": without_id(await server.send_request("POST", "/run"))}
        forged = forged_tokens(issuer)
        for name, (_, token) in forged.items():
            answer = await server.send_request("POST", "/run", f"Authorization: Bearer {token}".encode())
            if answer.status == 429:  # twenty refusals; a new address would not have it
                server.authenticator.failed_auth_limiter = type(server.authenticator.failed_auth_limiter)(server.clock)
                answer = await server.send_request("POST", "/run", f"Authorization: Bearer {token}".encode())
            assert 401 == answer.status, name
            answers[name] = without_id(answer)
        assert 1 == len(set(answers.values()))
        tokens = verifier_of(server)
        reasons = {name: getattr(tokens.find(token), "value", "accepted") for name, (_, token) in forged.items()}
        assert {name: reason for name, (reason, _) in forged.items()} == reasons
        logged = {line["why"] for line in server.log_entries if line["event"] == "key_refused"}
        assert {reason for reason, _ in forged.values()} | {"missing"} == logged
        texts = repr(server.log_entries).encode() + server.metrics.render()
        assert [] == [
            name
            for name, (_, token) in forged.items()
            if token.rpartition(".")[2].encode() in texts and len(token.rpartition(".")[2]) > 20
        ]
        accepted = {"one": issuer.token(), "two": issuer.token("ec", "ES256", sub="x", groups=["left"])}
        for client, token in accepted.items():
            assert 200 == (await server.post_run(key=token)).status
            assert client == server.log_entries[-1]["client"]


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "EdDSA"])
async def test_a_valid_token_stands_for_its_client(algorithm: str) -> None:
    """By each allowed algorithm, in either header; the next request with it needs no key of the issuer."""
    keys, key_set = issuer_keys()
    key_id = {"ES256": "ec", "EdDSA": "ed"}.get(algorithm, "key-1")
    async with TokenIssuer(keys=keys, key_set=key_set) as issuer, token_server(issuer) as server:
        await refresh(server)
        token = issuer.token(key_id, algorithm)
        assert 200 == (await server.post_run(key=token)).status
        assert "one" == server.log_entries[-1]["client"]
        other = await server.send_request("POST", "/run", f"X-API-KEY: {token}", "Content-Length: 0")
        assert 401 != other.status
        assert 200 == (await server.post_run(key=KEY)).status


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["runward"]},
        {"aud": ["runward", "other"], "azp": "runward"},
        {"azp": "another-client"},
        {"exp": 1_795_262_400 - 59},
        {"nbf": 1_795_262_400 + 60, "iat": 1_795_262_400.5},
        {"nbf": None, "iat": None},
        {"sub": ["other", "app"]},
        {"more": "\u00e4\U0001f600"},
    ],
)
async def test_what_a_valid_token_may_have(changes: dict[str, Any]) -> None:
    async with TokenIssuer() as issuer, token_server(issuer) as server:
        await refresh(server)
        assert 200 == (await server.post_run(key=issuer.token(**changes))).status


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+jwt", None])
async def test_types_of_access_tokens(kind: str | None) -> None:
    """Kubernetes writes no type."""
    async with TokenIssuer() as issuer, token_server(issuer) as server:
        await refresh(server)
        header = {"alg": "RS256", "kid": "key-1"} if kind is None else {"alg": "RS256", "kid": "key-1", "typ": kind}
        assert 200 == (await server.post_run(key=sign(rsa_key(), header, issuer.claims()))).status


@pytest.mark.parametrize("space", ["", " ", "\n", "\t"])
async def test_the_header_may_have_white_space(space: str) -> None:
    async with TokenIssuer() as issuer, token_server(issuer) as server:
        await refresh(server)
        header = encode("{" + space + '"alg": "RS256", "kid": "key-1"}')
        content = f"{header}.{encode(issuer.claims())}"
        token = f"{content}.{encode(signature_of(rsa_key(), 'RS256', content))}"
        assert 200 == (await server.post_run(key=token)).status


async def test_a_token_ends() -> None:
    """Also one that was accepted before: 60 seconds after its `exp`, for the clocks may differ."""
    async with TokenIssuer() as issuer, token_server(issuer) as server:
        await refresh(server)
        token = issuer.token(exp=1_795_262_400 + 100)
        assert 200 == (await server.post_run(key=token)).status
        server.clock.advance(159)
        assert 200 == (await server.post_run(key=token)).status
        server.clock.advance(1)
        assert 401 == (await server.post_run(key=token)).status
        assert "token_expired" == [e for e in server.log_entries if e["event"] == "key_refused"][-1]["why"]


async def test_failed_tokens_count_as_failed_keys_do() -> None:
    """R76."""
    async with TokenIssuer() as issuer, token_server(issuer) as server:
        await refresh(server)
        forged, valid = issuer.token(sub="stranger"), issuer.token()
        codes = [(await server.post_run(key=forged)).code for _ in range(22)]
        assert ["unauthorized"] * 20 + ["too_many_failures"] * 2 == codes
        assert 200 == (await server.post_run(key=valid)).status


async def test_a_new_key_of_the_issuer_is_fetched_at_once() -> None:
    """The first request with it waits for the fetch; further unknown keys cause none for a minute."""
    async with TokenIssuer() as issuer, token_server(issuer) as server:
        await refresh(server)
        issuer.keys["key-2"] = rsa_key(2048, 1)
        assert 200 == (await server.post_run(key=issuer.token("key-2"))).status
        assert 2 == issuer.count("/keys")
        issuer.keys["key-3"] = rsa_key(2048, 2)
        for _ in range(3):
            assert 401 == (await server.post_run(key=issuer.token("key-3"))).status
        assert 2 == issuer.count("/keys")
        server.clock.advance(60)
        assert 200 == (await server.post_run(key=issuer.token("key-3"))).status
        assert 3 == issuer.count("/keys")


async def test_many_requests_wait_for_one_fetch() -> None:
    """With a bound; those that do not wait are refused."""
    async with TokenIssuer() as issuer, token_server(issuer) as server:
        await refresh(server)
        issuer.keys["key-2"] = rsa_key(2048, 1)
        issuer.hold = asyncio.Event()
        token = issuer.token("key-2")
        waiting = [asyncio.create_task(server.post_run(key=token)) for _ in range(20)]
        while issuer.count("/.well-known/openid-configuration") < 2:
            await asyncio.sleep(0.01)
        assert 200 == (await server.post_run(key=KEY)).status
        issuer.hold.set()
        assert {200} == {answer.status for answer in await asyncio.gather(*waiting)}
        assert 2 == issuer.count("/keys")


async def test_a_removed_key_is_refused_after_the_next_fetch() -> None:
    """Also for tokens that were accepted before."""
    async with TokenIssuer() as issuer, token_server(issuer) as server:
        issuer.keys["key-2"] = rsa_key(2048, 1)
        await refresh(server)
        old, new = issuer.token(), issuer.token("key-2")
        assert [200, 200] == [(await server.post_run(key=token)).status for token in (old, new)]
        del issuer.keys["key-1"]
        await refresh(server)
        assert [401, 200] == [(await server.post_run(key=token)).status for token in (old, new)]
        issuer.key_set = []
        await refresh(server)
        assert 401 == (await server.post_run(key=new)).status


async def test_keys_are_used_for_a_bounded_time_while_the_issuer_is_away() -> None:
    """Then tokens get 503 with `not_run`: they may be valid, and the client may repeat the request."""
    async with TokenIssuer() as issuer, token_server(issuer, keys_for=3600) as server:
        await refresh(server)
        await issuer.stop_listening()
        token = issuer.token(exp=1_795_262_400 + 10_000)
        server.clock.advance(3599)
        await refresh(server)
        assert 200 == (await server.post_run(key=token)).status
        server.clock.advance(300)
        refused = await server.post_run(key=token)
        assert (503, "issuer_unavailable", "15") == (refused.status, refused.code, refused.headers["retry-after"])
        assert ("not_run", True) == (refused.json["outcome"], refused.json["retryable"])
        assert 401 == (await server.post_run(key=issuer.token(iss="https://other.example"))).status
        assert 200 == (await server.post_run(key=KEY)).status
        for _ in range(30):  # an outage is no failed attempt
            assert 503 == (await server.post_run(key=token)).status
        await issuer.listen()
        await refresh(server)
        assert 200 == (await server.post_run(key=token)).status


async def test_a_reload_applies_to_the_next_request() -> None:
    """Also for tokens that were accepted before; an unchanged issuer keeps its keys."""
    async with TokenIssuer() as issuer, token_server(issuer) as server:
        await refresh(server)
        tokens, token = verifier_of(server), issuer.token()
        assert 200 == (await server.post_run(key=token)).status
        tokens.reconfigure(TokenConfig(config(issuer).issuers, {"test": RULES[1:]}))
        assert TokenRefusal.NO_MATCH is tokens.find(token)
        tokens.reconfigure(config(issuer))
        assert "one" == tokens.find(token)
        assert 1 == issuer.count("/keys")
        tokens.reconfigure(TokenConfig())
        assert (401, "malformed") == (
            (await server.post_run(key=token)).status,
            [e for e in server.log_entries if e["event"] == "key_refused"][-1]["why"],
        )


async def test_verified_tokens_are_kept_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.auth.oidc.verifier._MAX_KEPT", 10)
    async with TokenIssuer() as issuer, token_server(issuer) as server:
        await refresh(server)
        tokens = verifier_of(server)
        assert {"one"} == {tokens.find(issuer.token(number=number)) for number in range(30)}
        assert 10 == len(tokens._kept)


async def test_a_key_with_the_same_id_and_other_content_replaces_it() -> None:
    async with TokenIssuer() as issuer, token_server(issuer) as server:
        await refresh(server)
        old = issuer.token()
        assert 200 == (await server.post_run(key=old)).status
        issuer.keys["key-1"] = rsa_key(2048, 1)
        assert public_jwk(rsa_key(2048, 1), "key-1") != public_jwk(rsa_key(), "key-1")
        await refresh(server)
        assert [401, 200] == [(await server.post_run(key=token)).status for token in (old, issuer.token())]
