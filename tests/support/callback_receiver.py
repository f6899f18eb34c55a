"""Callback receiver: analysis and verification of received requests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from standardwebhooks import Webhook

if TYPE_CHECKING:
    from providers.contract import JsonValue
    from tests.support.fake_upstream.connection import ReceivedRequest
    from tests.support.fake_upstream.upstream import FakeUpstream

CALLBACK_PATH = "/hook"


def deliveries(receiver: FakeUpstream, path: str = CALLBACK_PATH) -> list[ReceivedRequest]:
    """Return every received attempt, in order."""
    return receiver.requests("POST", path)


def message_ids(receiver: FakeUpstream, path: str = CALLBACK_PATH) -> set[str | None]:
    """Return the webhook-ids by which receivers detect repetitions: one per run."""
    return {request.header("webhook-id") for request in deliveries(receiver, path)}


def delivered_run(delivery: ReceivedRequest) -> dict[str, JsonValue]:
    """Return the run in a delivery."""
    message = json.loads(delivery.body)
    assert "run.finished" == message["type"]
    data = message["data"]
    assert isinstance(data, dict)
    return data


def verify_signature(delivery: ReceivedRequest, secret: str) -> None:
    """Verify the signature over the raw bytes with an independent library; raises if it is invalid."""
    Webhook(secret).verify(delivery.body, dict(delivery.headers))
