"""API documentation: the OpenAPI documents, and pages to browse them that load nothing from other hosts."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from string import Template

from gateway.http.headers import accepts_gzip
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.json import strict_json

_STATIC = files("gateway.api.docs") / "static"
_NOSNIFF = ("X-Content-Type-Options", "nosniff")
_ASSET_HEADERS = (
    _NOSNIFF,
    ("Cache-Control", "public, max-age=31536000, immutable"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Vary", "Accept-Encoding"),
)
_CONTENT_SECURITY_POLICY = {
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
    ("Content-Security-Policy", "; ".join(f"{name} {sources}" for name, sources in _CONTENT_SECURITY_POLICY.items())),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
)


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that the page loads. Its path contains a hash of its content, so that it can be cached indefinitely."""

    path: str
    content_type: str
    content: bytes
    gzipped: bool = False

    @classmethod
    def load(cls, name: str, content_type: str) -> StaticFile:
        """Load a static file; a `.gz` file is served in both forms."""
        content = (_STATIC / name).read_bytes()
        stem, _, extension = name.removesuffix(".gz").rpartition(".")
        path = f"/docs/{stem}.{sha256(content).hexdigest()[:16]}.{extension}"
        return cls(path, content_type, content, gzipped=name.endswith(".gz"))

    async def serve(self, request: Request) -> Response:
        """Handle `GET` of the file."""
        if not self.gzipped:
            return make_response(200, self.content, self.content_type, _ASSET_HEADERS)
        if not accepts_gzip(request.headers):
            body = await asyncio.to_thread(gzip.decompress, self.content)
            return make_response(200, body, self.content_type, _ASSET_HEADERS)
        return make_response(200, self.content, self.content_type, (*_ASSET_HEADERS, ("Content-Encoding", "gzip")))


@dataclass(frozen=True, slots=True)
class DocsPage:
    """The page of one document."""

    body: bytes

    async def serve(self, _request: Request) -> Response:
        """Handle `GET` of the page."""
        return make_response(200, self.body, "text/html; charset=utf-8", _PAGE_HEADERS)


@cache
def _encode_public_document() -> bytes:
    """Encode the document of the public port; takes a tenth of a second when it is first called."""
    from gateway.api.docs.document import openapi_document

    return strict_json.write(openapi_document())


@cache
def _encode_operations_document() -> bytes:
    """Encode the document of the operations port; takes some hundredths of a second when it is first called."""
    from gateway.api.admin.openapi.document import openapi_document

    return strict_json.write(openapi_document())


@dataclass(frozen=True, slots=True)
class DocsHandlers:
    """The documents and the pages' files. The page of the public port is public and asks for a key."""

    style: StaticFile
    viewer: StaticFile
    script: StaticFile

    @classmethod
    def load(cls) -> DocsHandlers:
        """Load the files."""
        return cls(
            style=StaticFile.load("docs.css", "text/css; charset=utf-8"),
            viewer=StaticFile.load("rapidoc-min.js.gz", "text/javascript; charset=utf-8"),
            script=StaticFile.load("docs.js", "text/javascript; charset=utf-8"),
        )

    def public_routes(self, *, requires_key: bool) -> list[Route]:
        """Routes of the public port. `requires_key`: the document requires a gateway key."""
        # If the page asks for a key, the viewer needs no second form, which would also display the key.
        fields = {"key": "required", "asks_key": "false"} if requires_key else {"key": "none", "asks_key": "true"}
        page = self._page("Runward API", "openapi.json", may_try="true", **fields)
        document = Route("GET", "/openapi.json", self.serve_public_document, "openapi", requires_key=requires_key)
        return [Route("GET", "/docs", page.serve, "docs"), document, *self._asset_routes()]

    def ops_routes(self) -> list[Route]:
        """Routes of the operations port: its own document, that of the public port, and a page for each.

        No gateway key is required, and no requests can be tried.
        """
        fields = {"key": "none", "asks_key": "false", "may_try": "false"}
        own = self._page("Runward operations API", "openapi.json", **fields)
        public = self._page("Runward API", "openapi-public.json", **fields)
        return [
            Route("GET", "/docs", own.serve, "docs"),
            Route("GET", "/openapi.json", self.serve_operations_document, "openapi"),
            Route("GET", "/docs-public", public.serve, "docs"),
            Route("GET", "/openapi-public.json", self.serve_public_document, "openapi"),
            *self._asset_routes(),
        ]

    async def serve_public_document(self, request: Request) -> Response:
        """Handle `GET` of the document of the public port."""
        return await self._serve_document(_encode_public_document, request)

    async def serve_operations_document(self, request: Request) -> Response:
        """Handle `GET` of the document of the operations port."""
        return await self._serve_document(_encode_operations_document, request)

    @staticmethod
    async def _serve_document(encode: Callable[[], bytes], request: Request) -> Response:
        """Respond with the document. Its server is the prefix of a proxy, if there is one."""
        server = b'"servers":[{"url":%b}]'
        document = await asyncio.to_thread(encode)
        body = document.replace(server % b'"/"', server % strict_json.write(request.path_prefix or "/"), 1)
        return make_response(200, body, "application/json", (_NOSNIFF, ("Cache-Control", "no-store")))

    def _page(self, title: str, document: str, **fields: str) -> DocsPage:
        text = Template((_STATIC / "docs.html").read_text("utf-8"))
        paths = {"style": self.style.path, "viewer": self.viewer.path, "script": self.script.path}
        # Relative, so that the page works behind a prefix of a proxy.
        relative = {name: path.removeprefix("/") for name, path in paths.items()}
        return DocsPage(text.substitute(relative, title=title, document=document, **fields).encode())

    def _asset_routes(self) -> list[Route]:
        assets = (self.style, self.viewer, self.script)
        return [Route("GET", asset.path, asset.serve, "docs", logged=False) for asset in assets]
