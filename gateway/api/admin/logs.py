"""Admin API for the log: its level at run time, of all processes of this replica."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.api.admin.cross_site import refuse_cross_site
from gateway.clock import format_rfc3339
from gateway.http.body import parse_json_body, read_json_body
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.observability.level_control import LevelControl
from gateway.problems import FieldError, Problem
from gateway.runs.rendering import JSON_CONTENT_TYPE

MAX_SECONDS = 7 * 86_400
_MAX_BODY = 4096
_BODY_TIMEOUT = 10.0  # seconds


class LevelRequest(BaseModel):
    """The body of `PUT /logs/level`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    level: Literal["debug", "info", "warning", "error", "configured"]
    duration: Annotated[
        float | None,
        Field(
            alias="for",
            gt=0,
            le=MAX_SECONDS,
            description="Seconds after which the configured level is back; without it, the level stays until it is "
            "changed or the gateway restarts. Not with `configured`.",
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class LogAdminHandlers:
    """Handlers for the operations port. `changed`: called after a change, to pass it on to worker processes."""

    control: LevelControl
    changed: Callable[[], None] = lambda: None

    def routes(self) -> list[Route]:
        """Routes of the handlers."""
        return [
            Route("GET", "/logs/level", self.get_level, "logs"),
            Route("PUT", "/logs/level", self.set_level, "logs", action="logs.set_level"),
        ]

    async def get_level(self, _request: Request) -> Response:
        """Handle `GET /logs/level`: the level that is in effect, until when, and the configured one."""
        return self._document()

    async def set_level(self, request: Request) -> Response:
        """Handle `PUT /logs/level`: set the level, for some time or until it is undone. Is idempotent."""
        refuse_cross_site(request, body='the body is an object with "level"')
        wanted = parse_json_body(
            LevelRequest, await read_json_body(request, max_bytes=_MAX_BODY, timeout=_BODY_TIMEOUT)
        )
        duration = {} if wanted.duration is None else {"seconds": f"{wanted.duration:g}"}
        request.audit_details = {"level": wanted.level, **duration}
        if wanted.level != "configured":
            self.control.set_override(wanted.level, wanted.duration)
        elif wanted.duration is not None:
            error = FieldError("/for", "must be absent: the configured level has no end")
            raise Problem("invalid_request", "The body is invalid.", errors=(error,))
        else:
            self.control.set_override(None)
        self.changed()
        return self._document()

    def _document(self) -> Response:
        override = self.control.override
        ends_at = None if override is None else override.ends_at
        document = {
            "level": self.control.level,
            "configured": self.control.configured,
            "overridden": override is not None,
            "until": None if ends_at is None else format_rfc3339(ends_at),
        }
        return make_response(200, strict_json.write(document), JSON_CONTENT_TYPE)
