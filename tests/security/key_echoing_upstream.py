"""Fake upstream that quotes the received key in every kind of response and encoding."""

from __future__ import annotations

import itertools
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote, quote_plus

from tests.support.fake_upstream.connection import UpstreamConnection
from tests.support.fake_upstream.provider_responses import promptlayer_started
from tests.support.fake_upstream.responses import RawBytes, reply


def _in_json(text: str) -> bytes:
    return json.dumps(text)[1:-1].encode()


def _escaped(text: str) -> bytes:
    return "".join(f"\\u{ord(character):04X}" for character in text).encode()


ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "plain": _in_json,
    "escaped slashes": lambda key: _in_json(key).replace(b"/", b"\\/"),
    "escaped": _escaped,
    "some escaped": lambda key: _in_json(key).replace(b"+", b"\\u002b").replace(b"&", b"\\u0026"),
    "URL": lambda key: quote(key, safe="").encode(),
    "form": lambda key: quote_plus(key).encode(),
    "base64": lambda key: b64encode(key.encode()),
    "base64 for URLs": lambda key: urlsafe_b64encode(key.encode()),
    "base64 with a name": lambda key: b64encode(b"user:" + key.encode()),
    "base64 with more": lambda key: b64encode(b"Bearer " + key.encode() + b"\n"),
    "in a trace": lambda key: b"Traceback: headers={'API_KEY': '" + _in_json(key) + b"'}",
}
"""The key as it may stand in a JSON text."""

_NODE = (
    b'{"KEY": {"status": "%b", "value": {"KEY": "KEY"}, "error_message": "it broke: KEY",'
    b' "raw_error_message": "KEY", "is_output_node": true}}'
)
TEMPLATES = [
    *((status, b'{"message": "bad KEY", "error": "KEY"}') for status in (200, 201, 202, 400, 401, 403, 404, 422)),
    *((status, b'{"detail": [{"loc": ["KEY"], "msg": "bad KEY"}], "KEY": 1}') for status in (422, 429, 500, 502, 503)),
    (200, b'{"result": {"KEY": ["KEY"]}}'),
    (200, b'{"result": "KEY", "warning": "KEY"}'),
    (201, b'{"success": true, "message": "KEY", "warning": "KEY", "workflow_version_execution_id": "KEY"}'),
    *((200, _NODE.replace(b"%b", status)) for status in (b"SUCCESS", b"FAILED", b"SKIPPED", b"KEY")),
    (200, b'{"result": "KEY'),
    (302, b"KEY"),
]
"""Answers: status and body."""

CASES = list(itertools.product(range(len(TEMPLATES)), ENCODINGS))
"""Each answer with each spelling. A run chooses one by its input, a poll by its execution's id."""


async def echo_key(connection: UpstreamConnection) -> None:
    """Respond as the case requires. A PromptLayer run with the input "later" does so at its polls."""
    request = connection.request
    assert request is not None
    key = request.header("API_KEY") or request.header("X-API-KEY") or ""
    if request.method == "GET":
        await _send_case(connection, key, int(request.target.partition("execution_id=")[2].partition("&")[0]))
        return
    body = json.loads(request.body)
    given = body.get("input") or body.get("input_variables") or {}
    if "garbage" in given:
        await RawBytes(f"{key} HTTP/1.1 500 {key}\r\nX-Key: {key}\r\n\r\n".encode())(connection)
    elif "later" in given:
        await promptlayer_started(given["later"])(connection)
    else:
        await _send_case(connection, key, given.get("now", 0))


async def _send_case(connection: UpstreamConnection, key: str, number: int) -> None:
    template, spelling = CASES[number]
    status, body = TEMPLATES[template]
    names = ("X-Key", "Set-Cookie", "WWW-Authenticate", "Server", "Location", "X-Request-Id", "Content-Language")
    await reply(status, body.replace(b"KEY", ENCODINGS[spelling](key)), [(name, key) for name in names])(connection)
