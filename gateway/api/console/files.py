"""Static files of the console, read once: a request can only name one of them, so no path leaves their directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

from gateway.http.headers import parse_list
from gateway.http.ops_authentication import CONSOLE_FILES
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.problems import Problem

_CONTENT_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "woff2": "font/woff2",
}
_VENDOR = "vendor/"
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    ("Cache-Control", "no-cache"),
    ("Content-Security-Policy", _CONTENT_SECURITY_POLICY),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
)


@dataclass(frozen=True, slots=True)
class ConsoleFile:
    """A file, its media type and its entity tag."""

    content: bytes
    content_type: str
    tag: str

    @classmethod
    def of(cls, name: str, content: bytes) -> ConsoleFile:
        """Return the file of this name. Raises KeyError for an extension without a media type."""
        return cls(content, _CONTENT_TYPES[name.rpartition(".")[2]], f'"{sha256(content).hexdigest()[:32]}"')

    def serve(self, request: Request) -> Response:
        """Return the file; 304 if the client has it."""
        headers = (*_HEADERS, ("ETag", self.tag))
        known = {element.value for element in parse_list(request.headers.getall("If-None-Match", []))}
        if "*" in known or not known.isdisjoint({self.tag, f"w/{self.tag}"}):
            return make_response(304, b"", "", headers)
        return make_response(200, self.content, self.content_type, headers)


@dataclass(frozen=True, slots=True)
class ConsoleFiles:
    """The page, and the files that it loads, by their name below `assets/`."""

    page: ConsoleFile
    assets: Mapping[str, ConsoleFile]

    @classmethod
    def load(cls) -> ConsoleFiles:
        """Read the files of the package."""
        root = files("gateway.api.console")
        folders = (("", root / "assets"), (_VENDOR, root / "assets" / "vendor"))
        found = {prefix + file.name: file for prefix, folder in folders for file in folder.iterdir()}
        served = {name: file for name, file in found.items() if name.rpartition(".")[2] in _CONTENT_TYPES}
        page = ConsoleFile.of("index.html", (root / "index.html").read_bytes())
        return cls(page, {name: ConsoleFile.of(name, file.read_bytes()) for name, file in served.items()})

    def routes(self) -> list[Route]:
        """Routes of the handlers. Every path without an extension is a view of the page."""
        return [
            Route("GET", "/console", self.serve_page, CONSOLE_FILES, logged=False),
            Route("GET", "/console/", self.serve_page, CONSOLE_FILES, logged=False),
            Route("GET", "/console/{path}", self.serve_page, CONSOLE_FILES, logged=False),
            Route("GET", "/console/assets/{id}", self.serve_asset, CONSOLE_FILES, logged=False),
            Route("GET", "/console/assets/vendor/{id}", self.serve_vendor_asset, CONSOLE_FILES, logged=False),
        ]

    async def serve_page(self, request: Request) -> Response:
        """Handle `GET /console` and the paths below it."""
        if "." in request.target_path.rpartition("/")[2]:
            raise Problem("unknown_route", "No file has this name.")
        return self.page.serve(request)

    async def serve_asset(self, request: Request) -> Response:
        """Handle `GET /console/assets/{name}`."""
        return self._serve(request.path_param, request)

    async def serve_vendor_asset(self, request: Request) -> Response:
        """Handle `GET /console/assets/vendor/{name}`: files of other projects."""
        return self._serve(_VENDOR + request.path_param, request)

    def _serve(self, name: str, request: Request) -> Response:
        asset = self.assets.get(name)
        if asset is None:
            raise Problem("unknown_route", "No file has this name.")
        return asset.serve(request)
