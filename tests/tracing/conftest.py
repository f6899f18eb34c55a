"""A receiver of spans, and gateways that send to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.configuration import merged
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.otlp_receiver import OtlpReceiver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.process import GatewayProcess


@pytest.fixture
async def collector() -> AsyncIterator[OtlpReceiver]:
    """Receiver of spans and metrics on loopback."""
    async with FakeUpstream() as server:
        yield OtlpReceiver(server)


@pytest.fixture
def traced_gateway(gateway: StartGateway, collector: OtlpReceiver) -> Callable[..., Awaitable[GatewayProcess]]:
    """Start a gateway that sends to `collector`; `variables` are more of its environment."""

    async def start(variables: dict[str, str] | None = None, **overrides: JsonValue) -> GatewayProcess:
        return await gateway(
            None, collector.environment | (variables or {}), **merged({"tracing": {"enabled": True}}, overrides)
        )

    return start
