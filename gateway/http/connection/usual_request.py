"""Parser of requests of the usual form, one after the other; any other request is left to aiohttp's parser.

The parser is llhttp (of Node.js, through httptools), as in aiohttp. A request is of the usual form if it has arrived as
a whole, is small, and its route answers with a `Response`: no transfer coding, no `Expect`, no upgrade.
"""

from __future__ import annotations

import httptools
from multidict import CIMultiDict

from gateway.http.connection.head_cache import HeadCache
from gateway.http.headers import KEY_FIELDS
from gateway.http.request import RequestHead, is_valid_host, never
from gateway.http.router import Router

_MAX_REQUEST = 65_536  # bytes of a request that is collected here
_MAX_FIELDS = 64
_UNUSUAL_FIELDS = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"sec-websocket-key1"})
_FRAGMENT = ord("#")  # CPython 3.11 finds a number in bytes in a tenth of the time that it takes for bytes
_METHODS = {b"GET": "GET", b"POST": "POST"}


class UsualRequestParser:
    """Parser of one connection. `parts`: what has arrived of a request that is not complete, or not of the usual form.

    `is_unusual`: the request that begins with `parts` is not of the usual form; the parser cannot continue.
    """

    __slots__ = (
        "_body",
        "_complete",
        "_fields",
        "_head_cache",
        "_keep_alive",
        "_max_head",
        "_method",
        "_parser",
        "_router",
        "_size",
        "_url",
        "is_unusual",
        "parts",
    )

    def __init__(self, router: Router, head_cache: HeadCache, max_head: int) -> None:
        """`max_head`: bytes of the request line and header fields of a usual request."""
        self._router, self._head_cache, self._max_head = router, head_cache, max_head
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._reset()

    def _reset(self) -> None:
        self.parts: list[bytes] = []
        self._size = 0
        self._url = self._method = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._complete = self._keep_alive = self.is_unusual = False

    def close(self) -> None:
        """Free the parser, which refers to this object."""
        self._parser = None

    def feed(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        """Parse a part of a request. Returns its head and body once it is complete."""
        parser = self._parser
        if parser is None:
            return None
        self.parts.append(data)
        self._size += len(data)
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.is_unusual = True
        if self.is_unusual or not self._complete:
            self.is_unusual = self.is_unusual or not self._awaits_small_body()
            return None
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        head = self._read_head(parser, len(body))
        if head is None:
            self.is_unusual = True
            return None
        if len(self.parts) == 1:
            self._head_cache.offer(head, data, self._size - len(body))
        self._reset()
        return head, body

    def _read_head(self, parser: httptools.HttpRequestParser, body_size: int) -> RequestHead | None:
        """Return the head of a complete request; None if it is not of the usual form."""
        fields, url = self._fields, self._url
        names = {name.lower() for name, _ in fields}
        method = _METHODS.get(self._method)
        if (
            method is None
            or len(names) != len(fields)  # repeated fields: aiohttp knows which may be
            or len(fields) > _MAX_FIELDS
            or b"host" not in names
            or not names.isdisjoint(_UNUSUAL_FIELDS)
            or self._size - body_size > self._max_head
            or not url.isascii()
            or _FRAGMENT in url
            or url[:1] != b"/"
            or parser.get_http_version() != "1.1"
        ):
            return None
        headers: CIMultiDict[str] = CIMultiDict(
            [
                (name.decode("utf-8", "surrogateescape"), value.rstrip(b" \t").decode("utf-8", "surrogateescape"))
                for name, value in fields
            ]
        )
        path, _, query = url.decode().partition("?")
        route, parameter = self._router.find(method, path)
        if (route.streams is not never and route.streams(headers)) or not is_valid_host(headers["Host"]):
            return None
        head = RequestHead(
            method,
            (path, query),
            headers,
            route,
            parameter,
            content_length=body_size,
            keep_alive=self._keep_alive,
        )
        for name in (*KEY_FIELDS, *route.key_headers):
            headers.popall(name, None)
        return head

    def _awaits_small_body(self) -> bool:
        """Return whether the rest of the body is all that is missing, and the client sends it without being asked."""
        fields = {name.lower(): value for name, value in self._fields}
        length = fields.get(b"content-length", b"")
        return (
            b"\r\n\r\n" in self.parts[0]
            and b"expect" not in fields
            and 0 < len(length) <= len(str(_MAX_REQUEST))
            and int(length) <= _MAX_REQUEST
            and self._size <= _MAX_REQUEST
        )

    # Callbacks of the parser.

    def on_message_begin(self) -> None:
        """Refuse a second request in the same data, of which the parser has taken some bytes already."""
        self.is_unusual = self.is_unusual or self._complete

    def on_url(self, url: bytes) -> None:
        """Store a part of the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header field."""
        self._fields.append((name, value))

    def on_body(self, body: bytes) -> None:
        """Store a part of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Note the end of the request, its method, and whether another one may follow."""
        if self._parser is None or self._complete:
            return
        self._complete = True
        self._method = self._parser.get_method()
        self._keep_alive = self._parser.should_keep_alive()
