"""Baseline of the benchmark: a minimal aiohttp relay that replaces the key and does nothing else.

python bench/bare_relay.py UPSTREAM_URL [PORT]
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import ClientSession, TCPConnector, web


async def main(upstream: str, port: int = 0) -> None:
    """Serve on loopback until killed."""
    async with ClientSession(connector=TCPConnector(limit=0), headers={"API_KEY": "secret"}) as session:

        async def relay(request: web.Request) -> web.Response:
            body = await request.read()
            headers = {"Content-Type": "application/json"}
            async with session.post(f"{upstream}/v1/workflows/dep/run", data=body, headers=headers) as answer:
                return web.Response(body=await answer.read(), status=answer.status, content_type="application/json")

        app = web.Application()
        app.router.add_post("/run", relay)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, backlog=4096)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], *map(int, sys.argv[2:])))
