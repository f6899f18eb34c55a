"""What both of the sandbox's faces need of HTTP: a body in, JSON out, and a key that is right or not."""

from __future__ import annotations

import hmac

from aiohttp import web

from gateway import strictjson

JSON = "application/json"


def json_response(document: object, status: int = 200) -> web.Response:
    """`document` as JSON."""
    return web.Response(status=status, body=strictjson.write(document), content_type=JSON)


async def read_request_body(request: web.Request) -> bytes:
    """The request's body; nothing where its Content-Encoding is a lie. aiohttp answers 413 to one that is too large."""
    try:
        return await request.read()
    except web.RequestPayloadError:
        return b""


def header_equals(request: web.Request, name: str, value: str) -> bool:
    """Whether the request's header is exactly `value`."""
    sent = request.headers.get(name, "").encode("utf-8", "surrogateescape")
    return hmac.compare_digest(sent, value.encode())
