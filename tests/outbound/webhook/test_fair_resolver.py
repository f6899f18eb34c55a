"""Look-ups of receivers: silent name servers of one client do not hold those of others."""

from __future__ import annotations

import asyncio

import pytest

from gateway.errors import CallbackUrlRefused
from gateway.outbound.webhook.egress_policy import EgressPolicy
from gateway.outbound.webhook.fair_resolver import FairResolver

ADDRESS = "93.184.215.14"


class NameServers:
    """Resolver that does not answer for names below `silent.example`, until it is told to; cancelling has no effect."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = asyncio.Event()

    async def __call__(self, host: str, _port: int) -> list[str]:
        self.asked.append(host)
        if host.endswith("silent.example"):
            await asyncio.shield(asyncio.ensure_future(self.answer.wait()))
            raise OSError("no name server")
        return [ADDRESS]


async def leave(waiting: list[asyncio.Task[object]]) -> None:
    """Cancel callers, as their time-outs do."""
    await asyncio.sleep(0)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


def ask(resolver: FairResolver, client: str, host: str) -> asyncio.Task[object]:
    return asyncio.ensure_future(resolver.resolve(client, host, 443))


async def test_silent_name_servers_of_one_client_leave_places_to_others() -> None:
    """Also when their callers wait no longer: the look-ups go on."""
    servers = NameServers()
    resolver = FairResolver(servers, lookups=8)
    await leave([ask(resolver, "one", f"{number}.silent.example") for number in range(50)])
    assert 4 == len(servers.asked)
    assert [ADDRESS] == await asyncio.wait_for(resolver.resolve("two", "good.example", 443), 5)


async def test_look_ups_of_one_name_share_a_place() -> None:
    servers = NameServers()
    resolver = FairResolver(servers, lookups=8)
    await leave([ask(resolver, client, "silent.example") for client in ("one", "two") for _ in range(20)])
    assert ["silent.example"] == servers.asked
    assert [[ADDRESS]] * 3 == await asyncio.gather(*(resolver.resolve("one", "good.example", 443) for _ in range(3)))
    assert ["silent.example", "good.example"] == servers.asked


async def test_those_that_wait_go_on_when_a_look_up_ends() -> None:
    servers = NameServers()
    resolver = FairResolver(servers, lookups=2)
    silent = ask(resolver, "one", "a.silent.example")
    await asyncio.sleep(0)
    waiting = ask(resolver, "one", "good.example")
    await asyncio.sleep(0)
    assert not waiting.done()
    servers.answer.set()
    assert [ADDRESS] == await asyncio.wait_for(waiting, 5)
    with pytest.raises(OSError, match="no name server"):
        await silent
    assert not any((resolver._running, resolver._running_of_client, resolver._waiting))


async def test_the_policy_counts_look_ups_by_client() -> None:
    """A client without a free look-up is refused after the time-out, and another one is not."""
    servers = NameServers()
    policy = EgressPolicy([], resolver=servers, lookup_timeout=0.2)

    async def resolve(host: str, client: str) -> str:
        try:
            return str((await policy.resolve(policy.check(f"https://{host}/"), client))[0])
        except CallbackUrlRefused:
            return "refused"

    silent = [resolve(f"{number}.silent.example", "one") for number in range(100)]
    verdicts = await asyncio.gather(*silent, resolve("good.example", "two"))
    assert ["refused"] * 100 + [ADDRESS] == verdicts
    assert ["refused", ADDRESS] == [await resolve("good.example", client) for client in ("one", "two")]
