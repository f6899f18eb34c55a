"""`runward check --connect` names stored keys without effect, and writes nothing to the store."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
import yaml
from redis.asyncio import Redis

from gateway.auth.stored_keys.terms import KeyTerms
from gateway.clock import SystemClock
from gateway.store import factory
from gateway.store.client_key import StoredKey
from tests.support.configuration import PROVIDER_SECRETS, gateway_config
from tests.support.fake_upstream.upstream import closed_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import RunCommand
    from tests.support.valkey import ValkeyServer


@pytest.fixture
def check(runward: RunCommand, tmp_path: Path, valkey: ValkeyServer) -> Callable[[], tuple[str, str]]:
    """Run `check --connect`; returns status and detail of the check of keys."""

    def run() -> tuple[str, str]:
        with closed_port() as url:
            config = gateway_config(url, url, store={"url": valkey.url})
        first = next(iter(config["clients"].values()))  # type: ignore[union-attr]
        first["keys"].append({"hash": "sha256:" + "03" * 32})  # type: ignore[index,call-overload,union-attr]
        path = tmp_path / "gateway.yaml"
        path.write_text(yaml.safe_dump(config))
        result = runward("check", str(path), "--connect", "--json", **PROVIDER_SECRETS)
        [found] = [each for each in json.loads(result.out)["checks"] if each["check"] == "keys"]
        return found["status"], found["detail"]

    return run


async def add_keys(url: str) -> None:
    """Store five keys, of which two have no client, and one has its hash in the configuration."""
    store = factory.create_store(url, SystemClock())
    await store.open()
    for number, client in enumerate(("one", "two", "gone", "one", "gone")):
        key = StoredKey(f"key_{number}", client, bytes([number]) * 32, KeyTerms("app").encode(), 1e9)
        assert await store.client_keys.add(key, most=9)
    await store.close()


async def names(url: str) -> set[bytes]:
    async with Redis.from_url(url) as server:
        return {name async for name in server.scan_iter("*")}


def test_an_empty_server_stays_empty(check: Callable[[], tuple[str, str]], valkey: ValkeyServer) -> None:
    assert ("ok", "stored keys have effect") == check()
    assert set() == asyncio.run(names(valkey.url))


def test_keys_without_effect_are_named(check: Callable[[], tuple[str, str]], valkey: ValkeyServer) -> None:
    asyncio.run(add_keys(valkey.url))
    before = asyncio.run(names(valkey.url))
    status, detail = check()
    assert "warning" == status
    assert "not configured: key_4 (gone), key_2 (gone);" in detail
    assert "goes first: key_3 (clients." in detail
    assert before == asyncio.run(names(valkey.url))
