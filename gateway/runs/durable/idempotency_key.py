"""Idempotency-Key header: parsing, and the fingerprint that tells whether two requests are the same."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

import orjson

from gateway.errors import InvalidIdempotencyKey
from gateway.json import strict_json
from gateway.store.records import IdempotencyKey
from providers.contract import JsonValue

_match_key = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?").fullmatch


def parse_key(client: str, values: Sequence[str], body: bytes, *, path_name: str = "") -> IdempotencyKey | None:
    """Parse the header's values; None if there are none.

    A key is exactly one value of 1 to 255 printable ASCII characters. `body` is valid JSON; `path_name`: a name in the
    path that is part of the fingerprint. Raises InvalidIdempotencyKey.
    """
    if not values:
        return None
    if len(values) > 1 or not _match_key(values[0]):
        raise InvalidIdempotencyKey("Send one key, of 1 to 255 printable ASCII characters.")
    digest = fingerprint(strict_json.read(body))
    return IdempotencyKey(
        client, values[0], hashlib.sha256(digest + path_name.encode()).digest() if path_name else digest
    )


def internal_key(client: str, name: str, digest: bytes) -> IdempotencyKey:
    """Return a key that no client can send: it begins with a space, which no value of a header field does."""
    return IdempotencyKey(client, " " + name, digest)


def fingerprint(body: JsonValue) -> bytes:
    """Return the SHA-256 of a JSON value; the order of keys, white space and escapes make no difference."""
    try:
        text = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # integers beyond 64 bits
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return hashlib.sha256(text).digest()
