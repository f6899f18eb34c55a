"""Heads of requests that clients send again and again, so that they are parsed once."""

from __future__ import annotations

from hashlib import blake2b

from gateway.http.request import RequestHead

MAX_HEAD = 2048
"""Maximum size in bytes of the request line and header fields of a head that is kept."""
MAX_HEADS = 1024
MAX_BYTES = 262_144
"""Maximum number and total size in bytes of the heads of one generation; in memory, they take several times that."""
_END = b"\r\n\r\n"
_SECRET_FIELDS = ("Cookie", "Proxy-Authorization")  # besides those of the key, which no head has


class HeadCache:
    """Heads of usual requests by the digest of their bytes, from the request line to the empty line.

    What the parser has accepted once, it accepts again: for the same bytes, followed by a body of the same size, it
    makes the same decision, and the routes of a server do not change. Nothing else is remembered; the key is looked up
    for each request.

    A head is kept once a request with it was authenticated, so that others can neither fill the cache nor displace
    anything. A head that differs from request to request is not kept. There are two generations: a head of the older
    one that is used moves to the younger one; once that is full, it takes the place of the older one, which is dropped.
    Neither the bytes nor the text of a key are kept, nor a head with a cookie or a token, so that a secret is in memory
    no longer than its requests.
    """

    __slots__ = ("_older", "_size", "_younger")

    def __init__(self) -> None:
        self._younger: dict[bytes, tuple[RequestHead, int]] = {}  # with the size in bytes
        self._older: dict[bytes, tuple[RequestHead, int]] = {}
        self._size = 0  # of the younger generation

    def __len__(self) -> int:
        return len(self._younger) + len(self._older)

    def find(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        """Return head and body if `data` is exactly a request whose head was kept, else None."""
        end = data.find(_END, 0, MAX_HEAD) + len(_END) if self._younger else 0
        if end < len(_END):
            return None
        digest = blake2b(data[:end]).digest()
        found = self._younger.get(digest)
        if found is None:
            found = self._older.get(digest)
            if found is None:
                return None
            self._add(digest, *found)
        head = found[0]
        return (head, data[end:]) if len(data) - end == head.content_length else None

    def offer(self, head: RequestHead, data: bytes, size: int) -> None:
        """Note the digest of a head that the parser has read, if it may be kept.

        `data`: the request, of which the first `size` bytes are the head.
        """
        varies = head.request_id or head.idempotency_keys or head.traceparents
        has_secret = head.key.may_be_token or any(field in head.headers for field in _SECRET_FIELDS)
        if head.route.requires_key and size <= MAX_HEAD and not varies and not has_secret:
            head.keep_as = blake2b(data[:size]).digest(), size

    def keep(self, head: RequestHead) -> None:
        """Keep a head that was offered, now that a request with it was authenticated."""
        if head.keep_as is not None:
            digest, size = head.keep_as
            head.keep_as = None
            head.key.forget_text()
            self._add(digest, head, size)

    def _add(self, digest: bytes, head: RequestHead, size: int) -> None:
        if digest in self._younger:
            return
        if len(self._younger) >= MAX_HEADS or self._size + size > MAX_BYTES:
            self._older, self._younger, self._size = self._younger, {}, 0
        self._size += size
        self._younger[digest] = head, size
