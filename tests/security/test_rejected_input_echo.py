"""Refused input is not echoed: no key in a response or a log entry, and no version (R71)."""

from __future__ import annotations

import re

import pytest

from tests.security.gateway_harness import GatewayHarness, find_leaks
from tests.security.rejections import assert_rejected, split_at
from tests.support.configuration import CLIENT_KEYS
from tests.support.raw_client import build_get, build_run, send_request

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEY = CLIENT_KEYS["one"].encode()
MALFORMED = build_run().replace(b"Host:", b"H st:")


@pytest.mark.parametrize(
    "line",
    [
        b"Authorization: Bearer %b\0",
        b"Authorization : Bearer %b",
        b"Authorization: Bearer\r\n %b",
        b"X-API-KEY: \x01%b",
        b"X-API-KEY %b",
        b"%b: x\0",
        b"Content-Length: %b",
        b"Transfer-Encoding: %b",
        b"Cookie: " + b"a" * 9000 + b"%b",
    ],
)
async def test_a_key_in_a_malformed_line_is_not_repeated(harness: GatewayHarness, line: bytes) -> None:
    """R71: neither in the response nor in the log."""
    data = b"POST /run HTTP/1.1\r\nHost: gateway.test\r\n" + line % KEY + b"\r\n\r\n"
    for pieces in ([data], split_at(data, 30, len(data) - 3)):
        code = "header_too_large" if len(line) > 8190 else "malformed_request"
        await assert_rejected(harness, *pieces, code=code)
    assert [] == find_leaks(harness.log_output)


@pytest.mark.parametrize("line", [b"%b /run HTTP/1.1", b"POST %b HTTP/1.1", b"POST /run %b", b"%b"])
async def test_a_key_in_a_malformed_first_line_is_not_repeated(harness: GatewayHarness, line: bytes) -> None:
    """R71."""
    await assert_rejected(harness, line % KEY + b"\r\nHost: gateway.test\r\n\r\n")
    assert [] == find_leaks(harness.log_output)


async def test_a_key_in_a_good_first_line_is_not_repeated(harness: GatewayHarness) -> None:
    """R71, R79: a misplaced key is not logged."""
    key = KEY.decode()
    for target in (f"/run?key={key}", f"/{key}", f"/docs/{key}", f"http://{key}/run", f"/run#{key}"):
        reply = await send_request(harness.url, build_get(target))
        assert (True, []) == (reply.status in {404, 405}, find_leaks(reply.raw.decode("latin-1")))
    assert [] == find_leaks(harness.log_output)


async def test_no_answer_names_a_version(harness: GatewayHarness) -> None:
    """R71: neither Runward's nor a library's."""
    asked = (
        build_run(),
        build_get("/run"),
        build_get("/none"),
        build_get("/healthz"),
        build_get("/docs"),
        build_get("/openapi.json"),
        MALFORMED,
    )
    for data in asked:
        reply = await send_request(harness.url, data)
        assert "runward" == reply.header("Server")
        fields = "\n".join(f"{name}: {value}" for name, value in reply.headers)
        assert not re.search(r"aiohttp|python|\d+\.\d+\.\d+", fields, re.IGNORECASE)
        assert reply.status == 200 or not re.search(rb"aiohttp|python|Traceback", reply.body, re.IGNORECASE)
