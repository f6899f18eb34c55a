"""Expiry and rotation of keys (R77), and addresses behind trusted proxies (R82)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.auth.keys import hash_key, new_key
from gateway.clock import SystemClock
from providers.contract import JsonValue
from tests.security.gateway_harness import GatewayHarness, assert_problem, running_gateway
from tests.support.raw_client import build_run, raw_connection, send_request

OLD, NEW = new_key(SystemClock()), new_key(SystemClock())
BURST = 20


def client_with_keys(*keys: JsonValue) -> JsonValue:
    """Return a client with these keys."""
    return {"rotating": {"keys": list(keys), "workflows": ["*"]}}


async def statuses(harness: GatewayHarness, keys: Sequence[str]) -> list[int]:
    """Return the status of a run with each key."""
    asked = [build_run(headers={"Authorization": f"Bearer {key}"}, client=None) for key in keys]
    return [(await send_request(harness.url, data)).status for data in asked]


async def test_a_key_ends_at_its_moment(tmp_path: Path) -> None:
    """R77: it works until then and gets the 401 of an unknown key afterwards, without a restart."""
    end = datetime.now(UTC) + timedelta(seconds=2.5)
    keys = client_with_keys({"hash": hash_key(OLD), "expires": end.isoformat()}, {"hash": hash_key(NEW)})
    async with running_gateway(tmp_path, clients=keys) as harness:
        assert [200, 200] == await statuses(harness, [OLD, NEW])
        await asyncio.sleep((end - datetime.now(UTC)).total_seconds() + 0.01)
        assert [401, 200] == await statuses(harness, [OLD, NEW])
        data = [build_run(headers={"X-API-KEY": key}, client=None) for key in (OLD, new_key(SystemClock()))]
        expired, unknown = [await send_request(harness.url, each) for each in data]
        assert unknown.comparable == expired.comparable
        assert '"why":"expired"' in harness.log_output


async def test_a_key_that_has_ended_before_the_start_is_no_key(tmp_path: Path) -> None:
    """R77: a date means 00:00 UTC."""
    today = datetime.now(UTC).date().isoformat()
    keys = client_with_keys({"hash": hash_key(OLD), "expires": today}, {"hash": hash_key(NEW), "expires": "2999-01-01"})
    async with running_gateway(tmp_path, clients=keys) as harness:
        assert [401, 200] == await statuses(harness, [OLD, NEW])


async def test_a_key_is_replaced_without_a_gap(tmp_path: Path) -> None:
    """R77: first both work; a removed key is unknown from the next start on."""
    both, one = tmp_path / "both", tmp_path / "one"
    both.mkdir()
    one.mkdir()
    async with running_gateway(
        both, clients=client_with_keys({"hash": hash_key(OLD)}, {"hash": hash_key(NEW)})
    ) as harness:
        assert [200, 200, 200] == await statuses(harness, [OLD, NEW, OLD])
        assert {"rotating"} == {line["client"] for line in await harness.access_log("run", 3)}
    async with running_gateway(one, clients=client_with_keys({"hash": hash_key(NEW)})) as harness:
        assert [401, 200] == await statuses(harness, [OLD, NEW])


async def send_bad_keys(harness: GatewayHarness, source: str, forwarded: Sequence[str]) -> list[int]:
    """Send a run with an invalid key for each of these X-Forwarded-For, from that address."""
    asked = [build_run(headers={"X-Forwarded-For": each}, client=None) for each in forwarded]
    async with raw_connection(harness.url, source) as caller:
        await caller.send(b"".join(asked))
        return [(await caller.read_response()).status for _ in asked]


FORWARDED_ADDRESSES = [f"192.0.2.{number}" for number in range(BURST + 5)]
"""More addresses than one may have failures."""


async def test_a_forwarded_address_of_a_trusted_proxy_is_used(tmp_path: Path) -> None:
    """R82: failures are counted per forwarded address; elements before an untrusted address are ignored."""
    async with running_gateway(tmp_path, server={"trusted_proxies": ["127.0.4.0/24"]}) as harness:
        proxy = "127.0.4.1"
        assert {401} == set(await send_bad_keys(harness, proxy, FORWARDED_ADDRESSES))
        assert (
            429 == (await send_bad_keys(harness, proxy, [f"{each}, 198.51.100.1" for each in FORWARDED_ADDRESSES]))[-1]
        )
        assert [429] == await send_bad_keys(harness, "127.0.4.2", ["198.51.100.1, 127.0.4.9"])
        assert [401] == await send_bad_keys(harness, proxy, ["198.51.100.2"])
        assert '"peer":"198.51.100.1"' in harness.log_output


async def test_a_forwarded_address_of_an_untrusted_peer_is_ignored(tmp_path: Path) -> None:
    """R82: a client that is not a trusted proxy is counted by its own address only."""
    async with running_gateway(tmp_path, server={"trusted_proxies": ["127.0.4.0/24"]}) as harness:
        assert 429 == (await send_bad_keys(harness, "127.0.5.1", FORWARDED_ADDRESSES))[-1]
        assert 429 == (await send_bad_keys(harness, "127.0.5.2", ["127.0.5.3"] * len(FORWARDED_ADDRESSES)))[-1]
        assert [401] == await send_bad_keys(harness, "127.0.5.3", ["127.0.5.1"])
        assert '"peer":"192.0.2' not in harness.log_output
        data = build_run(headers={"X-Forwarded-For": "127.0.4.1"}, client=None)
        assert_problem(await send_request(harness.url, data, "127.0.5.1"), 429, "too_many_failures")


async def test_without_trusted_proxies_forwarded_addresses_are_ignored(tmp_path: Path) -> None:
    """R82: the default."""
    async with running_gateway(tmp_path) as harness:
        assert 429 == (await send_bad_keys(harness, "127.0.4.1", FORWARDED_ADDRESSES))[-1]
