"""Test kit for adapters: the contract test, `drive`, a fake provider and a gateway process. Needs pytest.

from providers.testing import AdapterContract, FakeProvider, GatewayProcess, calls, drive, reply

class TestMyAdapter(AdapterContract):
    factory = MyAdapter
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("providers.testing.contract")

from providers.testing.contract import AdapterContract  # noqa: E402 - after its registration
from providers.testing.driver import calls, drive  # noqa: E402
from providers.testing.fake_provider import FakeProvider, FakeReply, FakeRequest, reply  # noqa: E402
from providers.testing.gateway import GatewayProcess, RunResponse  # noqa: E402

__all__ = [
    "AdapterContract",
    "FakeProvider",
    "FakeReply",
    "FakeRequest",
    "GatewayProcess",
    "RunResponse",
    "calls",
    "drive",
    "reply",
]
