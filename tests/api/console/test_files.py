"""The page of the console and its files: without a key, with strict headers, and nothing outside of their directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest
from yarl import URL

from gateway.api.console.files import ConsoleFiles
from gateway.clock import SystemClock
from tests.support.runs_port import RunsPort, runs_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONFIG = {"server": {"ops_keys": [{"hash": "sha256:" + "0" * 64}]}}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@pytest.fixture(params=[False, True], ids=["one process", "workers"])
async def port(request: pytest.FixtureRequest) -> AsyncIterator[RunsPort]:
    async with runs_port(SystemClock(), supervised=request.param, config=CONFIG) as running:
        yield running


async def test_every_view_is_the_page(port: RunsPort, session: aiohttp.ClientSession) -> None:
    for path in ("/console", "/console/", "/console/runs", "/console/runs/run_1", "/console/assets"):
        async with session.get(port.url + path) as answer:
            assert (200, "text/html") == (answer.status, answer.content_type)
            assert POLICY == answer.headers["Content-Security-Policy"]
            assert "no-cache" == answer.headers["Cache-Control"]
            assert ("nosniff", "no-referrer", "DENY") == tuple(
                answer.headers[name] for name in ("X-Content-Type-Options", "Referrer-Policy", "X-Frame-Options")
            )
            tag = answer.headers["ETag"]
        async with session.get(port.url + path, headers={"If-None-Match": f'"other", W/{tag}'}) as again:
            assert (304, b"") == (again.status, await again.read())
            assert tag == again.headers["ETag"]


async def test_each_file_has_its_media_type(port: RunsPort, session: aiohttp.ClientSession) -> None:
    assets = ConsoleFiles.load().assets
    assert assets
    for name, asset in assets.items():
        async with session.get(f"{port.url}/console/assets/{name}") as answer:
            assert (200, asset.content) == (answer.status, await answer.read())
            assert asset.content_type == answer.headers["Content-Type"]
        async with session.head(f"{port.url}/console/assets/{name}") as answer:
            assert (200, b"") == (answer.status, await answer.read())


@pytest.mark.parametrize(
    "path",
    [
        "/console/assets/none.js",
        "/console/assets/",
        "/console/assets/../index.html",
        "/console/assets/..%2Findex.html",
        "/console/assets/..",
        "/console/assets/%2e%2e/%2e%2e/files.py",
        "/console/../../files.py",
        "/console/files.py",
        "/console/assets//etc/passwd.txt",
        "/console/assets/__init__.py",
        "/console/assets/%00.css",
    ],
)
async def test_no_path_leaves_the_directory(port: RunsPort, session: aiohttp.ClientSession, path: str) -> None:
    """Neither is another file of the package served."""
    async with session.get(URL(port.url + path, encoded=True)) as answer:
        content = await answer.read()
        assert answer.status in {200, 401, 404}
        assert answer.status != 200 or ConsoleFiles.load().page.content == content
