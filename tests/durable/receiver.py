"""What a receiver of callbacks makes of the requests that reached it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from standardwebhooks import Webhook

if TYPE_CHECKING:
    from providers.contract import JsonValue
    from tests.faults.upstream import Upstream
    from tests.faults.wire import Request

HOOK = "/hook"


def deliveries(receiver: Upstream, path: str = HOOK) -> list[Request]:
    """Every attempt that arrived, in order."""
    return receiver.requests("POST", path)


def message_ids(receiver: Upstream, path: str = HOOK) -> set[str | None]:
    """The webhook-ids by which a receiver tells repetitions: one for each run."""
    return {request.header("webhook-id") for request in deliveries(receiver, path)}


def document(delivery: Request) -> dict[str, JsonValue]:
    """The run that a delivery tells of."""
    message = json.loads(delivery.body)
    assert "run.finished" == message["type"]
    data = message["data"]
    assert isinstance(data, dict)
    return data


def verify(delivery: Request, secret: str) -> None:
    """Check the signature over the raw bytes, as a stranger's library does it; raises where it is wrong."""
    Webhook(secret).verify(delivery.body, dict(delivery.headers))
