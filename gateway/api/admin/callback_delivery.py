"""Admin API for callbacks: a test delivery, and delivery again of all that were given up since a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from gateway.api.admin.cross_site import refuse_cross_site
from gateway.clock import Clock, format_rfc3339
from gateway.http.body import parse_json_body, read_json_body
from gateway.http.ops_authentication import actor_fields
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.observability.logger_protocol import Logger
from gateway.runs.callbacks.recovery import RecoveryStore, plan_recovery, recover
from gateway.runs.callbacks.trial_delivery import CallbackTester, host_of
from gateway.runs.rendering import JSON_CONTENT_TYPE

_MAX_BODY = 8192
_BODY_TIMEOUT = 10.0  # seconds


def _parse_time(value: object) -> datetime:
    """Return a time in UTC. Raises PydanticCustomError."""
    try:
        parsed = datetime.fromisoformat(value.upper()) if isinstance(value, str) and len(value) <= 40 else None
        parsed = None if parsed is None or parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        parsed = None
    if parsed is None:
        raise PydanticCustomError("time", "must be a time such as 2026-11-21T12:00:00Z")
    return parsed


class CallbackTestRequest(BaseModel):
    """The body of `POST /api/callbacks/test`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    url: Annotated[
        str, Field(min_length=1, max_length=2048, description="As `callback_url` of `POST /run`: the same rules.")
    ]


class CallbackRecoveryRequest(BaseModel):
    """The body of `POST /api/callbacks/recover`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    since: Annotated[
        datetime,
        PlainValidator(_parse_time),
        WithJsonSchema({"type": "string", "format": "date-time"}),
        Field(description="Callbacks of runs that ended then or later."),
    ]
    host: Annotated[str | None, Field(max_length=256, description="Callbacks of this receiver only.")] = None
    dry_run: Annotated[bool, Field(description="Only count them.")] = True


@dataclass(frozen=True, slots=True)
class CallbackDeliveryHandlers:
    """Handlers for the operations port.

    StoreUnavailable becomes the problem `store_unavailable` in the `access_log` middleware.
    """

    store: RecoveryStore
    tester: CallbackTester
    clock: Clock
    log: Logger

    def routes(self) -> list[Route]:
        """Routes of the handlers."""
        return [
            Route("POST", "/api/callbacks/test", self.test, "callbacks", action="callbacks.test"),
            Route("POST", "/api/callbacks/recover", self.recover, "callbacks", action="callbacks.recover"),
        ]

    async def test(self, request: Request) -> Response:
        """Handle `POST /api/callbacks/test`: 200 with what became of the delivery, whatever the receiver answered."""
        refuse_cross_site(request, body='the body is an object with "url"')
        raw = await read_json_body(request, max_bytes=_MAX_BODY, timeout=_BODY_TIMEOUT)
        url = parse_json_body(CallbackTestRequest, raw).url
        request.audit_target = host_of(url)
        delivered = await self.tester.deliver(url)
        result = delivered.fault or str(delivered.status)
        request.audit_details = {"result": result}
        self.log.info("callback_tested", receiver=delivered.host, why=result, **actor_fields(request))
        document = {
            "accepted": delivered.accepted,
            "status": delivered.status,
            "fault": delivered.fault,
            "duration_ms": round(delivered.seconds * 1000, 1),
            "sent_bytes": delivered.sent_bytes,
            "webhook_id": delivered.message_id,
        }
        return make_response(200, strict_json.write(document), JSON_CONTENT_TYPE)

    async def recover(self, request: Request) -> Response:
        """Handle `POST /api/callbacks/recover`: 200 with the number of callbacks, and of those that are due now."""
        refuse_cross_site(request, body='the body is an object with "since"')
        raw = await read_json_body(request, max_bytes=_MAX_BODY, timeout=_BODY_TIMEOUT)
        wanted = parse_json_body(CallbackRecoveryRequest, raw)
        planned = await plan_recovery(self.store, wanted.since.timestamp(), wanted.host)
        due, since = None, format_rfc3339(wanted.since)
        request.audit_target = wanted.host or ""
        request.audit_details = {"since": since, "step": "plan" if wanted.dry_run else "start"}
        if not wanted.dry_run:
            due = await recover(self.store, planned, self.clock.now().timestamp())
            request.audit_details = {**request.audit_details, "runs": str(due)}
            self.log.warning("callbacks_recovered", since=since, runs=due, **actor_fields(request))
        document = {
            "count": len(planned.run_ids),
            "hosts": [{"host": host, "count": count} for host, count in planned.top_hosts()],
            "more": planned.more,
            "due": due,
        }
        return make_response(200, strict_json.write(document), JSON_CONTENT_TYPE)
