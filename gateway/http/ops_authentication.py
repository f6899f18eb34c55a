"""Authentication of the operations port by keys of its own (`server.ops_keys`), or by a session of the console."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.auth.failed_attempts import FailedAuthLimiter
from gateway.auth.keys import KeyRefusal, PresentedKey
from gateway.auth.oidc.login import LoginConfig, OidcLogin
from gateway.auth.oidc.login_sessions import is_session
from gateway.auth.ops_keys import OpsCaller, OpsKey, OpsKeys, Role
from gateway.auth.sessions import Sessions
from gateway.clock import Clock
from gateway.http.forwarded import Networks, client_address
from gateway.http.headers import single_value
from gateway.http.request import AnyResponse, Handler, Request
from gateway.http.same_origin import has_literal_host, is_same_origin
from gateway.observability.logger_protocol import Logger
from gateway.problems import Problem

SESSION_COOKIE = "runward_session"
CONSOLE_FILES, LOG_IN, LOG_OUT, SESSION, OIDC_LOGIN = "console", "login", "logout", "session", "oidc_login"
"""Names of the routes of the console that are treated differently from others."""

OPEN_ROUTES = frozenset({"healthz", "readyz", CONSOLE_FILES, LOG_IN, LOG_OUT, OIDC_LOGIN})
"""Routes that need no key: probes have none; the pages contain nothing secret, and ask for a key."""
_UNCOUNTED_ROUTES = frozenset({SESSION})
"""Routes to which a request without a key is no failed attempt: the console asks whether it has a session."""
_READING_METHODS = frozenset({"GET", "HEAD"})
_CHALLENGE = (("WWW-Authenticate", 'Bearer realm="runward-operations"'),)
_PRIVATE = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_NO_KEYS = "Without server.ops_keys, a page may change something only if its address is an IP address or localhost."
_OTHER_PAGE = "Cross-origin requests are not allowed. Pages of the console send X-Runward-Console: 1."
_VIEWER = "This caller has the role viewer: it may read everything, and change nothing."

_TEAM = "This key may read what belongs to its team only: its runs, its clients and its usage."


def keep_private(inner: Handler) -> Handler:
    """Middleware: no cache keeps a response, and no other site embeds it, unless the response says otherwise."""

    async def handle(request: Request) -> AnyResponse:
        response = await inner(request)
        for name, value in _PRIVATE.items():
            response.headers.setdefault(name, value)
        return response

    return handle


@dataclass(slots=True)
class OpsAuthenticator:
    """Middleware within the pipeline: sets the caller of a request, and refuses what the caller may not do.

    A viewer of a team may use the routes that show what belongs to a team, and no others.

    Every route but the open ones needs a key or the cookie of a session; none does if no key is configured. A key that
    is presented decides alone. Requests that change something need the role operator, and must not come from a page of
    another origin: a page has to send `X-Runward-Console: 1`, and with a cookie its `Origin` too.
    """

    keys: OpsKeys
    sessions: Sessions
    login: OidcLogin
    failed_auth_limiter: FailedAuthLimiter
    trusted_proxies: Networks
    clock: Clock
    log: Logger

    @property
    def requires_credentials(self) -> bool:
        """True unless neither a key nor a log-in is configured: then every caller is an operator."""
        return bool(self.keys) or bool(self.login)

    def reconfigure(self, keys: OpsKeys, login: LoginConfig | None) -> None:
        """Use these from the next request on. Sessions of a key that is not among them have ended."""
        self.keys = keys
        self.login.reconfigure(login)

    def __call__(self, inner: Handler) -> Handler:
        """Return the handler with the authentication before `inner`."""

        async def handle(request: Request) -> AnyResponse:
            await self.authenticate(request)
            return await inner(request)

        return handle

    async def authenticate(self, request: Request) -> None:
        """Set the caller of a request.

        Raises Problem: unauthorized, too_many_failures, forbidden. Raises StoreUnavailable if a session cannot be
        checked.
        """
        is_open = request.route.name in OPEN_ROUTES
        caller = None if is_open else await self._find_caller(request)
        request.ops_caller = caller
        if caller is not None and caller.team is not None and not request.route.shows_team:
            raise Problem("forbidden", _TEAM)
        if request.method in _READING_METHODS:
            return
        self._refuse_other_pages(request, is_open=is_open)
        if caller is not None and caller.role is Role.VIEWER:
            raise Problem("forbidden", _VIEWER)

    def find_key(self, presented: PresentedKey, request: Request) -> OpsKey:
        """Return the key. Raises Problem (unauthorized, too_many_failures), and counts the failure."""
        found = self.keys.find(presented, self.clock.now)
        if isinstance(found, KeyRefusal):
            raise self._reject(found, request)
        return found

    async def _find_caller(self, request: Request) -> OpsCaller:
        if not self.requires_credentials:
            return OpsCaller(Role.OPERATOR)
        presented, token = request.head.key, session_token(request)
        if presented.digest or not token:
            key = self.find_key(presented, request)
            return OpsCaller(key.role, key.name, team=key.team)
        session = await self.find_session(request)
        if session is None:  # a signature cannot be guessed, and an old cookie is no attempt to
            raise Problem("unauthorized", "The session has ended.", headers=_CHALLENGE)
        return session

    async def find_session(self, request: Request) -> OpsCaller | None:
        """Return the caller to whom the cookie of a request belongs; None without one. Raises StoreUnavailable."""
        token = session_token(request)
        if is_session(token):
            subject = await self.login.find_session(token)
            return None if subject is None else OpsCaller(subject.role, subject.name, by_session=True)
        key = await self.sessions.find(token, self.keys)
        return None if key is None else OpsCaller(key.role, key.name, by_session=True, team=key.team)

    def _refuse_other_pages(self, request: Request, *, is_open: bool) -> None:
        """Raise Problem (forbidden) for a request that changes something and comes from a page of another origin.

        Without keys there is no cookie that proves a log-in, so a page that reached this port by a host name of its own
        (DNS rebinding) would be of the same origin.
        """
        by_session = request.ops_caller is not None and request.ops_caller.by_session
        if not by_session and "Origin" not in request.headers:
            return
        marked = is_open or single_value(request.headers, "X-Runward-Console") == "1"
        if not marked or not is_same_origin(request, self.trusted_proxies):
            raise Problem("forbidden", _OTHER_PAGE)
        if not self.requires_credentials and not has_literal_host(request, self.trusted_proxies):
            raise Problem("forbidden", _NO_KEYS)

    def count_failed_login(self, request: Request) -> None:
        """Count a log-in that failed as a refused key. Raises Problem (too_many_failures) beyond the limit."""
        retry_after = self.failed_auth_limiter.record(client_address(request, self.trusted_proxies))
        if retry_after:
            raise Problem("too_many_failures", "Too many log-ins from this address failed.", retry_after=retry_after)

    def _reject(self, reason: KeyRefusal, request: Request) -> Problem:
        if reason is KeyRefusal.MISSING and request.route.name in _UNCOUNTED_ROUTES:
            return Problem("unauthorized", headers=_CHALLENGE)
        address = client_address(request, self.trusted_proxies)
        self.log.info("ops_key_refused", request_id=request.request_id, why=reason.value, peer=address)
        retry_after = self.failed_auth_limiter.record(address)
        if retry_after:
            return Problem("too_many_failures", "Too many bad keys came from this address.", retry_after=retry_after)
        return Problem("unauthorized", headers=_CHALLENGE)


def actor_fields(request: Request) -> dict[str, str]:
    """Return the name of the caller as a field of a record or a log entry; nothing if it has none."""
    name = None if request.ops_caller is None else request.ops_caller.name
    return {} if name is None else {"actor": name}


def team_of(request: Request) -> str | None:
    """Return the team to which all belongs that the caller may read; None if it may read everything."""
    return None if request.ops_caller is None else request.ops_caller.team


def session_token(request: Request) -> str:
    """Return the token of the session's cookie; "" without one, and with several."""
    return single_cookie(request, SESSION_COOKIE)


def single_cookie(request: Request, name: str) -> str:
    """Return a cookie; "" without one, and with several: another host of the domain may have set one."""
    fields = request.headers.getall("Cookie", ())
    pairs = [pair.strip(" \t").partition("=") for field in fields for pair in field.split(";")]
    values = [value for found, _, value in pairs if found == name]
    return values[0] if len(values) == 1 else ""
