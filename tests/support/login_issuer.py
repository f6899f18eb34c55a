"""OpenID Connect provider on loopback: log-ins of persons, codes that are used once, and id tokens."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

from aiohttp import web

from tests.support.token_issuer import TokenIssuer

if TYPE_CHECKING:
    from collections.abc import Callable

CLIENT_ID, CLIENT_SECRET = "runward-console", "ls_4f9a8b7c6d5e"


@dataclass
class LoginIssuer(TokenIssuer):
    """Its page logs everyone in as `person`. `changes` replace claims of the id token; `now`: seconds since 1970."""

    person: dict[str, Any] = field(default_factory=lambda: {"sub": "4711", "preferred_username": "ada"})
    changes: dict[str, Any] = field(default_factory=dict)
    now: Callable[[], float] = lambda: 1_795_262_400.0
    requires_secret: bool = True
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    exchanges: list[int] = field(default_factory=list)
    more_response: dict[str, Any] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.handlers = {"/authorize": self._authorize, "/token": self._exchange}
        self.more_discovery = {
            "authorization_endpoint": f"{self.origin}/authorize",
            "token_endpoint": f"{self.origin}/token",
        }
        return self

    def answer(self, location: str) -> str:
        """Log the person in, and return the URL to which the browser is sent back."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        assert (query["response_type"], query["code_challenge_method"]) == ("code", "S256")
        assert query["client_id"] == CLIENT_ID
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state'], 'iss': self.url})}"

    async def _authorize(self, request: web.BaseRequest) -> web.StreamResponse:
        link = self.answer(str(request.url)).replace("&", "&amp;")
        return web.Response(text=f'<title>Login</title><a href="{link}">I am ada</a>', content_type="text/html")

    async def _exchange(self, request: web.BaseRequest) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}
        issued = self.codes.pop(form.get("code", ""), None)
        status = 200
        if self.requires_secret:
            expected = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
            status = 200 if request.headers.get("Authorization") == f"Basic {expected}" else 401
        elif form.get("client_id") != CLIENT_ID:
            status = 401
        if status == 200 and (issued is None or not _fits(issued, form)):
            status = 400
        self.exchanges.append(status)
        if status != 200 or issued is None:
            return web.json_response({"error": "invalid_grant"}, status=status)
        now = int(self.now())
        claims = {"aud": CLIENT_ID, "nonce": issued["nonce"], "iat": now, "nbf": None, "exp": now + 300}
        token = self.token(**{**claims, **self.person, **self.changes})
        return web.json_response({"access_token": "x", "token_type": "Bearer", "id_token": token, **self.more_response})


def _fits(issued: dict[str, str], form: dict[str, str]) -> bool:
    digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return challenge == issued["code_challenge"] and form.get("redirect_uri") == issued["redirect_uri"]
