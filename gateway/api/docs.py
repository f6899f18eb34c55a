"""The face for those who read: the API's document, and a page to browse it that loads nothing from elsewhere."""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from string import Template

from aiohttp import web

from gateway import strictjson
from gateway.api import openapi
from gateway.api.server import Request, Route
from gateway.api.wire import answer

_STATIC = files("gateway.api") / "static"
_NOSNIFF = ("X-Content-Type-Options", "nosniff")
_ASSET_HEADERS = (
    _NOSNIFF,
    ("Cache-Control", "public, max-age=31536000, immutable"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Vary", "Accept-Encoding"),
)
_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self' 'unsafe-inline'",  # the viewer's templates have style attributes
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}
_PAGE_HEADERS = (
    _NOSNIFF,
    ("Cache-Control", "no-cache"),
    ("Content-Security-Policy", "; ".join(f"{name} {sources}" for name, sources in _POLICY.items())),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
)
_REFUSES_GZIP = re.compile(r"\bgzip\s*;\s*q=0(\.0*)?\s*(,|$)").search


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that the page loads. Its path has its content's hash, so that it can be cached for good."""

    path: str
    content_type: str
    body: bytes
    packed: bytes | None = None

    @classmethod
    def load(cls, name: str, content_type: str) -> Asset:
        """Read a static file; `….gz` is kept in both forms."""
        content = (_STATIC / name).read_bytes()
        stem, _, kind = name.removesuffix(".gz").rpartition(".")
        path = f"/docs/{stem}.{sha256(content).hexdigest()[:16]}.{kind}"
        if name.endswith(".gz"):
            return cls(path, content_type, gzip.decompress(content), content)
        return cls(path, content_type, content)

    async def send(self, request: Request) -> web.Response:
        """Answer with the file."""
        accepted = request.headers.get("Accept-Encoding", "").lower()
        if self.packed is None or "gzip" not in accepted or _REFUSES_GZIP(accepted):
            return answer(200, self.body, self.content_type, _ASSET_HEADERS)
        return answer(200, self.packed, self.content_type, (*_ASSET_HEADERS, ("Content-Encoding", "gzip")))


@dataclass(frozen=True, slots=True)
class Page:
    """The page as one port has it."""

    body: bytes

    async def send(self, _request: Request) -> web.Response:
        """Answer with the page."""
        return answer(200, self.body, "text/html; charset=utf-8", _PAGE_HEADERS)


@dataclass(frozen=True, slots=True)
class DocsFace:
    """The document and the page's files, made once. The page itself never needs a key: it asks for one."""

    document: bytes
    style: Asset
    viewer: Asset
    script: Asset

    @classmethod
    def load(cls) -> DocsFace:
        """Render the document and read the files."""
        return cls(
            document=strictjson.write(openapi.document()),
            style=Asset.load("docs.css", "text/css; charset=utf-8"),
            viewer=Asset.load("rapidoc-min.js.gz", "text/javascript; charset=utf-8"),
            script=Asset.load("docs.js", "text/javascript; charset=utf-8"),
        )

    def public_routes(self, *, keyed: bool) -> list[Route]:
        """The routes of the public port; `keyed`: the document needs a gateway key."""
        # A page that asked for a key needs no second form for one, which would show it too.
        fields = {"key": "required", "asks_key": "false"} if keyed else {"key": "none", "asks_key": "true"}
        page = self._page(may_try="true", **fields)
        return self._routes(page, Route("GET", "/openapi.json", self.send, "openapi", keyed=keyed))

    def ops_routes(self) -> list[Route]:
        """The routes of the operations port, where nothing needs a key, and nothing can be run."""
        return self._routes(
            self._page(key="none", asks_key="false", may_try="false"),
            Route("GET", "/openapi.json", self.send, "openapi"),
        )

    async def send(self, _request: Request) -> web.Response:
        """Answer with the document."""
        return answer(200, self.document, "application/json", (_NOSNIFF, ("Cache-Control", "no-store")))

    def _page(self, **fields: str) -> Page:
        text = Template((_STATIC / "docs.html").read_text("utf-8"))
        paths = {"style": self.style.path, "viewer": self.viewer.path, "script": self.script.path}
        # Relative, so that the page works behind a proxy's prefix too.
        relative = {name: path.removeprefix("/") for name, path in paths.items()}
        return Page(text.substitute(relative, **fields).encode())

    def _routes(self, page: Page, document: Route) -> list[Route]:
        assets = (self.style, self.viewer, self.script)
        loaded = [Route("GET", asset.path, asset.send, "docs", logged=False) for asset in assets]
        return [Route("GET", "/docs", page.send, "docs"), document, *loaded]
