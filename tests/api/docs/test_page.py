"""The documentation page: access, resources, headers."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import aiohttp
import pytest

from gateway.api.admin.openapi.document import openapi_document as operations_document
from gateway.api.docs.document import openapi_document
from gateway.api.docs.page import DocsHandlers
from gateway.app.listeners import Listener
from gateway.http.request import AnyResponse, Handler, Request, Route
from gateway.http.response import problem_response
from gateway.http.server import Server
from gateway.json import strict_json
from gateway.problems import Problem
from tests.support.process import ROOT

STATIC = files("gateway.api.docs") / "static"
KEY = "the-only-key"
LINKS = re.compile(r'(?:src|href)="([^"]*)"')


@pytest.fixture(scope="module")
def handlers() -> DocsHandlers:
    return DocsHandlers.load()


def key_check(inner: Handler) -> Handler:
    """Middleware that accepts `KEY` and returns problems otherwise."""

    async def handle(request: Request) -> AnyResponse:
        try:
            if request.route.requires_key and request.head.key.text != KEY:
                raise Problem("unauthorized")
            return await inner(request)
        except Problem as problem:
            return problem_response(problem, request.request_id)

    return handle


async def serve(routes: list[Route]) -> Listener:
    return await Listener.open(Server(routes, [key_check], header_timeout=10), "127.0.0.1", 0)


@pytest.fixture
async def public(handlers: DocsHandlers) -> AsyncIterator[str]:
    """URL of a public port in the default configuration."""
    listener = await serve(handlers.public_routes(requires_key=True))
    yield listener.url
    await listener.runner.cleanup()


@pytest.fixture
async def ops(handlers: DocsHandlers) -> AsyncIterator[str]:
    """URL of an operations port."""
    listener = await serve(handlers.ops_routes())
    yield listener.url
    await listener.runner.cleanup()


async def page_of(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(f"{url}/docs") as response:
        assert 200 == response.status
        return await response.text()


async def asset_links(session: aiohttp.ClientSession, url: str) -> list[str]:
    """Return the paths that the page loads from its own host."""
    return [link for link in LINKS.findall(await page_of(session, url)) if link.startswith("docs/")]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
async def test_on_the_public_port_the_document_needs_a_key(
    session: aiohttp.ClientSession, public: str, headers: dict[str, str]
) -> None:
    """R83: no schema, no version without a key."""
    async with session.get(f"{public}/openapi.json", headers=headers) as response:
        assert 401 == response.status
        assert b"RunRequest" not in await response.read()


@pytest.mark.parametrize("headers", [{"Authorization": f"Bearer {KEY}"}, {"X-API-KEY": KEY}])
async def test_the_document_is_served_with_a_key(
    session: aiohttp.ClientSession, public: str, headers: dict[str, str]
) -> None:
    async with session.get(f"{public}/openapi.json", headers=headers) as response:
        assert 200 == response.status
        assert "application/json" == response.headers["Content-Type"]
        assert "nosniff" == response.headers["X-Content-Type-Options"]
        assert "no-store" == response.headers["Cache-Control"]
        assert strict_json.read(strict_json.write(openapi_document())) == strict_json.read(await response.read())


async def test_with_open_docs_the_document_needs_no_key(session: aiohttp.ClientSession, handlers: DocsHandlers) -> None:
    listener = await serve(handlers.public_routes(requires_key=False))
    async with session.get(f"{listener.url}/openapi.json") as response:
        assert 200 == response.status
    page = await page_of(session, listener.url)
    assert 'data-key="none"' in page
    assert 'allow-try="true"' in page
    assert 'allow-authentication="true"' in page  # so that a key can be given to try a run with
    await listener.runner.cleanup()


async def test_on_the_operations_port_the_document_needs_no_key(session: aiohttp.ClientSession, ops: str) -> None:
    for path, expected in (("openapi.json", operations_document()), ("openapi-public.json", openapi_document())):
        async with session.get(f"{ops}/{path}") as response:
            assert 200 == response.status
            assert strict_json.read(strict_json.write(expected)) == strict_json.read(await response.read())


async def test_on_the_operations_port_each_document_has_its_page(session: aiohttp.ClientSession, ops: str) -> None:
    for path, document in (("docs", "openapi.json"), ("docs-public", "openapi-public.json")):
        async with session.get(f"{ops}/{path}") as response:
            page = await response.text()
        assert 'data-key="none"' in page
        assert 'allow-try="false"' in page  # runs are not to be had there
        assert f'data-document="{document}"' in page
        assert document in LINKS.findall(page)


async def test_the_page_is_public_and_discloses_nothing_without_a_key(
    session: aiohttp.ClientSession, public: str
) -> None:
    page = await page_of(session, public)
    assert 'data-key="required"' in page
    assert 'type="password"' in page
    assert "$" not in page  # every place of the template is filled
    assert [] == [word for word in ("/run", "RunRequest", "workflow") if word in page]


async def test_the_page_is_served_under_a_policy_that_keeps_everything_else_out(
    session: aiohttp.ClientSession, public: str
) -> None:
    async with session.get(f"{public}/docs") as response:
        policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
        assert "nosniff" == response.headers["X-Content-Type-Options"]
        assert "no-referrer" == response.headers["Referrer-Policy"]
        assert "no-cache" == response.headers["Cache-Control"]
        assert "text/html; charset=utf-8" == response.headers["Content-Type"]
    assert "'none'" == policy["default-src"]
    assert "'self'" == policy["script-src"]
    assert "'none'" == policy["frame-ancestors"]
    assert {"'none'", "'self'", "'unsafe-inline'", "data:"} == set(" ".join(policy.values()).split())


@pytest.mark.parametrize("name", ["docs.html", "docs.css", "docs.js"])
def test_static_files_reference_no_other_host_and_no_inline_script(name: str) -> None:
    text = (STATIC / name).read_text("utf-8")
    assert [] == re.findall(r"//[a-z0-9.-]+\.[a-z]+|\bwss?:|@import|url\(", text)
    assert [] == re.findall(r"<script>|\son[a-z]+=|javascript:", text)


async def test_the_page_loads_its_own_files_and_nothing_else(session: aiohttp.ClientSession, public: str) -> None:
    links = LINKS.findall(await page_of(session, public))
    own = await asset_links(session, public)
    assert {"data:,", "openapi.json", *own} == set(links)
    assert 3 == len(own)


async def test_its_files_can_be_kept_for_good_because_their_names_change_with_them(
    session: aiohttp.ClientSession, public: str
) -> None:
    for path in await asset_links(session, public):
        async with session.get(f"{public}/{path}") as response:
            assert 200 == response.status
            assert "public, max-age=31536000, immutable" == response.headers["Cache-Control"]
            assert "nosniff" == response.headers["X-Content-Type-Options"]
        assert re.fullmatch(r"docs/[a-z-]+\.[0-9a-f]{16}\.(css|js)", path)


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [("gzip, br", "gzip"), ("identity", None), ("gzip;q=0", None), ("br, gzip;q=0.0, *", None), ("gzip;q=0.5", "gzip")],
)
async def test_the_viewer_is_sent_gzipped_to_clients_that_accept_gzip(
    public: str, handlers: DocsHandlers, accepted: str, encoding: str | None
) -> None:
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(f"{public}{handlers.viewer.path}", headers={"Accept-Encoding": accepted}) as response,
    ):
        sent = await response.read()
        assert encoding == response.headers.get("Content-Encoding")
        assert "Accept-Encoding" == response.headers["Vary"]
    assert gzip.decompress(handlers.viewer.content) == (gzip.decompress(sent) if encoding else sent)


def test_the_viewer_has_the_reviewed_hash() -> None:
    """Version 9.3.8 of the npm package rapidoc, byte by byte, plain and compressed; its licence is included."""
    packed = (STATIC / "rapidoc-min.js.gz").read_bytes()
    assert "b083f080f1727f019ccf551228392e0fc39a0be450ba19bca451ea31d6be2ec9" == sha256(packed).hexdigest()
    unpacked = gzip.decompress(packed)
    assert "affbd173a65e870e18f392cca963113bcdafb6e50e88cd2f6a834a65b22db94d" == sha256(unpacked).hexdigest()
    assert "MIT License" in (STATIC / "rapidoc-min.js.LICENSE.txt").read_text("utf-8")


def test_a_wheel_has_the_pages_files(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=100,
    )
    (wheel,) = tmp_path.glob("*.whl")
    expected = {f"gateway/api/docs/static/{each.name}" for each in STATIC.iterdir()}
    with zipfile.ZipFile(wheel) as archive:
        assert expected <= set(archive.namelist())


async def test_the_server_of_the_document_is_the_prefix_of_the_proxy(
    handlers: DocsHandlers, session: aiohttp.ClientSession
) -> None:
    """The page's form for requests uses it."""

    def set_prefix(inner: Handler) -> Handler:
        async def handle(request: Request) -> AnyResponse:
            request.path_prefix = request.headers.get("X-Prefix", "")
            return await inner(request)

        return handle

    listener = await Listener.open(Server(handlers.ops_routes(), [set_prefix], header_timeout=10), "127.0.0.1", 0)
    try:
        for headers, expected in (({}, "/"), ({"X-Prefix": "/ai"}, "/ai")):
            async with session.get(f"{listener.url}/openapi.json", headers=headers) as response:
                assert [{"url": expected}] == (await response.json())["servers"]
    finally:
        await listener.close()
