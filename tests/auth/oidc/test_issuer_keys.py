"""Keys of an issuer: when they are fetched, and what is logged and counted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog
from structlog.testing import LogCapture

from gateway.auth.oidc.issuer_keys import IssuerConfig, IssuerKeys
from gateway.auth.oidc.verifier import TokenConfig, TokenVerifier
from gateway.observability.metrics import Metrics
from gateway.outbound.issuer_client import IssuerEndpoint
from tests.support.process import metric_sum, parse_metrics
from tests.support.token_issuer import TokenIssuer, public_jwk, rsa_key
from tests.support.virtual_clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable


class Harness:
    """Keys of an issuer, with a clock that the test advances."""

    def __init__(self, issuer: TokenIssuer) -> None:
        self.clock, self.metrics, self.capture = VirtualClock(), Metrics(), LogCapture()
        log = structlog.wrap_logger(None, processors=[self.capture])
        self.keys = IssuerKeys(IssuerConfig("test", IssuerEndpoint(issuer.url)), self.clock, self.metrics, log)

    def fetches(self, result: str) -> float:
        samples = parse_metrics(self.metrics.render().decode())
        return metric_sum(samples, "runward_issuer_fetches_total", issuer="test", result=result)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for real I/O; virtual time stands still."""
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)
        await self.clock.run_ready_tasks()


async def test_keys_are_fetched_at_the_start_and_every_ten_minutes() -> None:
    async with TokenIssuer() as issuer:
        harness = Harness(issuer)
        harness.keys.start()
        harness.keys.start()
        await harness.until(lambda: harness.fetches("ok") == 1)
        await harness.clock.run_for(599)
        assert 1 == issuer.count("/keys")
        await harness.clock.run_for(1)
        await harness.until(lambda: harness.fetches("ok") == 2)
        assert ["issuer_keys_changed"] == [line["event"] for line in harness.capture.entries]
        assert (["key-1"], 0) == (harness.capture.entries[0]["keys"], harness.capture.entries[0]["ignored"])
        await harness.keys.close()
        await harness.clock.run_for(600)
        assert 2 == issuer.count("/keys")


async def test_a_failed_fetch_is_repeated_soon_and_logged_once() -> None:
    """Keys of before stay in use; a key set that is not valid is a failure too."""
    async with TokenIssuer() as issuer:
        harness = Harness(issuer)
        harness.keys.start()
        await harness.until(lambda: harness.fetches("ok") == 1)
        issuer.documents["/keys"] = b"{}"
        await harness.clock.run_for(600)
        await harness.until(lambda: harness.fetches("failed") == 1)
        await harness.clock.run_for(15)
        await harness.until(lambda: harness.fetches("failed") == 2)
        assert {"key-1"} == set(harness.keys.keys)
        del issuer.documents["/keys"]
        issuer.key_set = [public_jwk(rsa_key(2048, 1), "key-2")]
        await harness.clock.run_for(15)
        await harness.until(lambda: harness.fetches("ok") == 2)
        assert {"key-2"} == set(harness.keys.keys)
        assert ["issuer_keys_changed", "issuer_keys_not_fetched", "issuer_keys_changed"] == [
            line["event"] for line in harness.capture.entries
        ]
        await harness.keys.close()


async def test_a_fetch_ends_with_its_issuer() -> None:
    """A reload may remove an issuer while its keys are fetched."""
    async with TokenIssuer() as issuer:
        issuer.hold = asyncio.Event()
        harness = Harness(issuer)
        refreshing = asyncio.create_task(harness.keys.refresh())
        await harness.until(lambda: bool(issuer.requests))
        assert harness.keys.may_wait_for_fetch()
        refreshing.cancel()
        await harness.keys.close()
        assert not harness.keys.may_wait_for_fetch()
        issuer.hold.set()


async def test_an_issuer_with_changed_settings_is_fetched_anew() -> None:
    """Its metric is there until then, so that an alert can be raised if it fails."""
    async with TokenIssuer() as issuer:
        harness = Harness(issuer)
        before = TokenConfig({"test": harness.keys.config}, {"test": []})
        after = TokenConfig({"test": replace(harness.keys.config, keys_for=60)}, {"test": []})
        tokens = TokenVerifier(before, harness.clock, harness.metrics, harness.keys.log)
        tokens.start()
        await harness.until(lambda: harness.fetches("ok") == 1)
        await issuer.stop_listening()
        tokens.reconfigure(after)
        await harness.until(lambda: harness.fetches("failed") == 1)
        assert {"test": (0.0, 1)} == harness.metrics.issuer_keys()
        tokens.reconfigure(TokenConfig())
        assert {} == harness.metrics.issuer_keys()
        await tokens.close()
