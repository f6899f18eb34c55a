"""What a receiver of callbacks makes of the requests that reached it."""

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
    """Every attempt that arrived, in order."""
    return receiver.requests("POST", path)


def message_ids(receiver: FakeUpstream, path: str = CALLBACK_PATH) -> set[str | None]:
    """The webhook-ids by which a receiver tells repetitions: one for each run."""
    return {request.header("webhook-id") for request in deliveries(receiver, path)}


def delivered_run(delivery: ReceivedRequest) -> dict[str, JsonValue]:
    """The run that a delivery tells of."""
    message = json.loads(delivery.body)
    assert "run.finished" == message["type"]
    data = message["data"]
    assert isinstance(data, dict)
    return data


def verify_signature(delivery: ReceivedRequest, secret: str) -> None:
    """Check the signature over the raw bytes, as a stranger's library does it; raises where it is wrong."""
    Webhook(secret).verify(delivery.body, dict(delivery.headers))
