"""Log-in to the console through an OpenID Connect provider: the way to the issuer, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from gateway.api.admin.session import session_cookie
from gateway.auth.oidc.login import LoginConfig, LoginRefusal, LoginRefused
from gateway.auth.oidc.login_sessions import ATTEMPT_SECONDS
from gateway.auth.ops_keys import OpsCaller
from gateway.http.forwarded import client_address
from gateway.http.ops_authentication import OIDC_LOGIN, OpsAuthenticator, single_cookie
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.observability.logger_protocol import Logger
from gateway.problems import Problem
from gateway.runs.rendering import JSON_CONTENT_TYPE

_MAX_PARAMETERS = 20


@dataclass(frozen=True, slots=True)
class OidcLoginHandlers:
    """Handlers for the operations port. Redirects go to the issuer and to the console only, never where a request says.

    The cookie of an attempt is bound to this host (`__Host-`) where the console is reached by https: no other host of
    its domain can make a browser complete a log-in that another person began.
    """

    authenticator: OpsAuthenticator
    log: Logger

    def routes(self) -> list[Route]:
        """Routes of the handlers."""
        return [
            Route("GET", "/api/login", self.show, OIDC_LOGIN),
            Route("GET", "/api/login/start", self.start, OIDC_LOGIN),
            Route("GET", "/api/login/callback", self.complete, OIDC_LOGIN, action="console.log_in"),
        ]

    async def show(self, _request: Request) -> Response:
        """Handle `GET /api/login`: the ways to log in."""
        config = self.authenticator.login.config
        document = {
            "keys": bool(self.authenticator.keys),
            "issuer": None if config is None else config.issuer.name,
            "start": None if config is None else config.url + "/api/login/start",
        }
        return make_response(200, strict_json.write(document), JSON_CONTENT_TYPE)

    async def start(self, request: Request) -> Response:
        """Handle `GET /api/login/start`: 303 to the issuer."""
        config = self._config()
        try:
            location, attempt = await self.authenticator.login.begin()
        except LoginRefused as refused:
            return self._refuse(request, config, refused)
        return _redirect(location, _attempt_cookie(config, attempt, ATTEMPT_SECONDS))

    async def complete(self, request: Request) -> Response:
        """Handle `GET /api/login/callback`: 303 to the console, with the cookie of a session if all is well."""
        config = self._config()
        forget = _attempt_cookie(config, "", 0)
        try:
            parameters = parse_qs(request.target_query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
        except ValueError:
            parameters = {}
        cookie = single_cookie(request, _attempt_cookie_name(config))
        try:
            subject, session = await self.authenticator.login.complete(cookie, parameters)
        except LoginRefused as refused:
            response = self._refuse(request, config, refused, forget)
            if refused.refusal is not LoginRefusal.UNAVAILABLE:
                self.authenticator.count_failed_login(request)
            return response
        self.log.info("console_logged_in", request_id=request.request_id, role=subject.role.value, actor=subject.name)
        request.ops_caller = OpsCaller(subject.role, subject.name, by_session=True)
        secure = _is_https(config)
        return _redirect(
            config.url + "/console/", forget, session_cookie(session, config.session_seconds, secure=secure)
        )

    def _config(self) -> LoginConfig:
        config = self.authenticator.login.config
        if config is None:
            raise Problem("unknown_route", "console.login is not configured.")
        return config

    def _refuse(self, request: Request, config: LoginConfig, refused: LoginRefused, *cookies: str) -> Response:
        peer = client_address(request, self.authenticator.trusted_proxies)
        self.log.info("console_login_refused", request_id=request.request_id, why=refused.why, peer=peer)
        return _redirect(f"{config.url}/console/?login={refused.refusal.value}", *cookies)


def _is_https(config: LoginConfig) -> bool:
    return urlsplit(config.url).scheme == "https"


def _attempt_cookie_name(config: LoginConfig) -> str:
    return "__Host-runward_login" if _is_https(config) else "runward_login"


def _attempt_cookie(config: LoginConfig, value: str, seconds: int) -> str:
    """Return the value of `Set-Cookie`. Lax: the issuer's page sends the browser back."""
    flags = "HttpOnly; SameSite=Lax" + "; Secure" * _is_https(config)
    return f"{_attempt_cookie_name(config)}={value}; Path=/; Max-Age={seconds}; {flags}"


def _redirect(location: str, *cookies: str) -> Response:
    headers = (("Location", location), ("Referrer-Policy", "no-referrer"))
    return make_response(303, b"", "", (*headers, *(("Set-Cookie", cookie) for cookie in cookies)))
