"""Sessions of subjects after a change of the configuration, and with another replica's store."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gateway.auth.oidc.issuer_keys import IssuerConfig
from gateway.auth.oidc.login import LoginConfig, LoginRefused, OidcLogin
from gateway.auth.oidc.login_sessions import Subject, issue_session
from gateway.auth.ops_keys import Role
from gateway.auth.sessions import load_secret
from gateway.claim_patterns import ClaimPattern
from gateway.outbound.issuer_client import IssuerEndpoint
from gateway.store.memory.store import MemoryStore
from tests.support.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG = LoginConfig(
    issuer=IssuerConfig("corp", IssuerEndpoint("https://login.example.com")),
    client_id="console",
    client_secret=None,
    url="https://ops.example.com",
    scopes=("openid",),
    operator=[ClaimPattern(("groups",), "platform")],
    viewer=[ClaimPattern(("groups",), "team")],
    name=("name",),
    session_seconds=3600,
)
ADA = Subject(Role.OPERATOR, "corp:ada")


async def opened(clock: ManualClock) -> MemoryStore:
    store = MemoryStore(clock)
    await store.open()
    return store


async def token_of(store: MemoryStore, clock: ManualClock) -> str:
    secret = await load_secret(store, clock)
    return issue_session(secret, CONFIG.policy, ADA, clock.now().timestamp() + 3600)


async def test_every_replica_on_the_store_accepts_a_session() -> None:
    """And none with another store."""
    clock = ManualClock()
    store = await opened(clock)
    token = await token_of(store, clock)
    assert ADA == await OidcLogin(CONFIG, store, clock).find_session(token)
    assert await OidcLogin(CONFIG, await opened(clock), clock).find_session(token) is None


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        (lambda config: replace(config, session_seconds=60), True),
        (lambda config: replace(config, scopes=("openid", "email")), True),
        (lambda config: replace(config, client_id="other"), False),
        (lambda config: replace(config, operator=[*config.operator, *config.viewer], viewer=[]), False),
        (lambda config: replace(config, operator=[], viewer=[*config.operator, *config.viewer]), False),
        (lambda config: replace(config, viewer=[ClaimPattern(("groups",), "other")]), False),
        (lambda config: replace(config, issuer=IssuerConfig("corp", IssuerEndpoint("https://o.example"))), False),
        (lambda _: None, False),
    ],
)
async def test_a_changed_mapping_of_roles_ends_all_sessions(
    change: Callable[[LoginConfig], LoginConfig | None], stays: object
) -> None:
    clock = ManualClock()
    store = await opened(clock)
    token = await token_of(store, clock)
    login = OidcLogin(CONFIG, store, clock)
    login.reconfigure(change(CONFIG))
    assert stays is (await login.find_session(token) == ADA)
    login.reconfigure(CONFIG)
    assert ADA == await login.find_session(token)


async def test_without_a_configuration_nothing_begins() -> None:
    clock = ManualClock()
    login = OidcLogin(None, await opened(clock), clock)
    assert not login
    with pytest.raises(LoginRefused, match="not configured"):
        await login.begin()
    with pytest.raises(LoginRefused, match="not configured"):
        await login.complete("", {})
