"""HTTP functions of both emulators: request body, JSON response, comparison of keys."""

from __future__ import annotations

import hmac

from aiohttp import web

from gateway.json import strict_json

JSON = "application/json"


def json_response(document: object, status: int = 200) -> web.Response:
    """Return a JSON response."""
    return web.Response(status=status, body=strict_json.write(document), content_type=JSON)


async def read_request_body(request: web.Request) -> bytes:
    """Return the request body, empty if its Content-Encoding is wrong. aiohttp answers 413 above the size limit."""
    try:
        return await request.read()
    except web.RequestPayloadError:
        return b""


def header_equals(request: web.Request, name: str, value: str) -> bool:
    """Return True if the header field equals `value`; in constant time."""
    sent = request.headers.get(name, "").encode("utf-8", "surrogateescape")
    return hmac.compare_digest(sent, value.encode())
