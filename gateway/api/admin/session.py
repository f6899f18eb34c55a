"""Sessions of the console: log-in with a key of the operations port, log-out, and the role of the session."""

from __future__ import annotations

import platform
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from gateway.auth.keys import PresentedKey
from gateway.auth.ops_keys import OpsCaller, Role
from gateway.auth.sessions import SESSION_SECONDS
from gateway.http.body import parse_json_body, read_json_body
from gateway.http.ops_authentication import LOG_IN, LOG_OUT, SESSION, SESSION_COOKIE, OpsAuthenticator
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.http.same_origin import is_secure
from gateway.json import strict_json
from gateway.observability.logger_protocol import Logger
from gateway.runs.rendering import JSON_CONTENT_TYPE
from gateway.store.contract import StoreUnavailable

_MAX_BODY = 4096
_BODY_TIMEOUT = 10.0  # seconds


class LogInRequest(BaseModel):
    """The body of `POST /api/session`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    key: Annotated[str, Field(min_length=1, max_length=512, repr=False)]


@dataclass(frozen=True, slots=True)
class SessionHandlers:
    """Handlers for the operations port. The cookie is not readable by scripts, and not sent by pages of other sites."""

    authenticator: OpsAuthenticator
    log: Logger

    def routes(self) -> list[Route]:
        """Routes of the handlers."""
        return [
            Route("POST", "/api/session", self.log_in, LOG_IN, action="console.log_in"),
            Route("GET", "/api/session", self.show, SESSION, shows_team=True),
            Route("DELETE", "/api/session", self.log_out, LOG_OUT, action="console.log_out"),
        ]

    async def log_in(self, request: Request) -> Response:
        """Handle `POST /api/session`: 204 with the cookie of a new session."""
        body = await read_json_body(request, max_bytes=_MAX_BODY, timeout=_BODY_TIMEOUT)
        presented = PresentedKey(parse_json_body(LogInRequest, body).key)
        key = self.authenticator.find_key(presented, request)
        token = await self.authenticator.sessions.issue(key)
        request.ops_caller = OpsCaller(key.role, key.name)
        actor = {} if key.name is None else {"actor": key.name}
        self.log.info("console_logged_in", request_id=request.request_id, role=key.role.value, **actor)
        return self._with_cookie(request, token, SESSION_SECONDS)

    async def show(self, request: Request) -> Response:
        """Handle `GET /api/session`: role, name and team of the caller, and the replica that answers."""
        caller = request.ops_caller or OpsCaller(Role.VIEWER)
        document = {
            "role": caller.role.value,
            "name": caller.name,
            "team": caller.team,
            "keys_required": self.authenticator.requires_credentials,
            "version": version("runward"),
            "replica": platform.node(),
        }
        return make_response(200, strict_json.write(document), JSON_CONTENT_TYPE)

    async def log_out(self, request: Request) -> Response:
        """Handle `DELETE /api/session`: 204, and the browser drops the cookie."""
        with suppress(StoreUnavailable):  # without the secret of sessions, whose it was is not known
            request.ops_caller = await self.authenticator.find_session(request)
        return self._with_cookie(request, "", 0)

    def _with_cookie(self, request: Request, token: str, seconds: int) -> Response:
        secure = is_secure(request, self.authenticator.trusted_proxies)
        return make_response(204, b"", "", (("Set-Cookie", session_cookie(token, seconds, secure=secure)),))


def session_cookie(token: str, seconds: float, *, secure: bool) -> str:
    """Return the value of `Set-Cookie` for a session."""
    flags = "HttpOnly; SameSite=Strict" + "; Secure" * secure
    return f"{SESSION_COOKIE}={token}; Path=/; Max-Age={int(seconds)}; {flags}"
