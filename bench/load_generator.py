"""Closed-loop load generator: each connection sends its next request after the last response.

    python bench/load_generator.py PORT CONNECTIONS REQUESTS KEY [KIND]     -> one line of JSON

KIND is plain, keyed (each request has an Idempotency-Key of its own), async (the result is not waited for) or held (a
plain request for the workflow `held`).

It parses only the status of responses, so that it costs far less than the measured server.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import time
from collections import Counter
from typing import cast

import uvloop

BODY = json.dumps(
    {
        "workflow": "studio",
        "input": {"prompt": "what is the fastest car in the world?", "tone": "plain", "words": 50},
        "metadata": {"environment": "benchmark"},
    }
).encode()
FIELDS = {
    "plain": b"",
    "keyed": b"Idempotency-Key: %s-%%d\r\n" % os.urandom(8).hex().encode(),
    "async": b"Prefer: respond-async\r\n",
    "held": b"",
}


class LoadRound:
    """Result of one round."""

    def __init__(self, requests: int, key: str, kind: str) -> None:
        self.left = requests
        self.open = 0
        self.seconds: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.done = asyncio.get_running_loop().create_future()
        self._numbers = itertools.count()
        self._field = FIELDS[kind]
        self._head = b"POST /run HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n" % key.encode()
        body = BODY.replace(b'"studio"', b'"held"') if kind == "held" else BODY
        self._rest = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def request(self) -> bytes:
        """Next request."""
        field = self._field
        return self._head + (field % next(self._numbers) if b"%" in field else field) + self._rest


class LoadConnection(asyncio.Protocol):
    """Connection of the load generator."""

    def __init__(self, run: LoadRound) -> None:
        self._run = run
        self._buffer = b""
        self._began = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass
        self._run.open += 1
        self._next()

    def _next(self) -> None:
        assert self._transport is not None
        if self._run.left <= 0:
            self._transport.close()
            return
        self._run.left -= 1
        self._began = time.perf_counter()
        self._transport.write(self._run.request())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        _, _, rest = head.lower().partition(b"content-length:")
        if len(body) < int(rest.partition(b"\r\n")[0]):
            return
        self._run.seconds.append(time.perf_counter() - self._began)
        self._run.statuses[int(head[9:12])] += 1
        self._buffer = b""
        self._next()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._run.open -= 1
        if self._run.open == 0 and not self._run.done.done():
            self._run.done.set_result(None)


async def main(port: int, connections: int, requests: int, key: str, kind: str) -> None:
    """Run one round and print its result; times in milliseconds."""
    run = LoadRound(requests, key, kind)
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    for _ in range(connections):
        await loop.create_connection(lambda: LoadConnection(run), "127.0.0.1", port)
    await run.done
    took = time.perf_counter() - began
    ordered = sorted(run.seconds)
    print(
        json.dumps(
            {
                "per_second": len(ordered) / took,
                "p50": ordered[len(ordered) // 2] * 1000,
                "p99": ordered[len(ordered) * 99 // 100] * 1000,
                "statuses": dict(run.statuses),
            }
        )
    )


if __name__ == "__main__":
    kind = sys.argv[5] if len(sys.argv) > 5 else "plain"
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], kind))
