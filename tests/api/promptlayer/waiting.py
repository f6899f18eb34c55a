"""A server that has the WebSocket of PromptLayer's SDKs, runs that end when a test says so, and a client by hand."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import structlog
from structlog.testing import LogCapture

from gateway.access.clients import Client
from gateway.access.keys import KeyRing, hash_key, new_key
from gateway.access.strangers import Strangers
from gateway.api.middleware import Porter, observe
from gateway.api.promptlayer.realtime import Realtime
from gateway.api.promptlayer.tickets import Tickets
from gateway.api.server import Server
from gateway.clock import SystemClock
from gateway.lifecycle import Listener
from gateway.metrics import Metrics
from gateway.runs.numbers import Numbers
from gateway.runs.orders import stored_run
from gateway.runs.record import Order, RunRecord
from gateway.store.contract import Finish
from gateway.store.memory import MemoryStore
from providers.contract import JsonValue
from tests.access.virtual_clock import VirtualClock

KEYS = {name: new_key(SystemClock()) for name in ("one", "two")}
SECRET = b"s" * 32


@dataclass
class Waiting:
    """The server and what is behind it. Time stands still but for `clock.run_for`."""

    url: str
    clock: VirtualClock
    store: MemoryStore
    realtime: Realtime
    session: aiohttp.ClientSession
    clients: set[str]
    capture: LogCapture
    numbers: Numbers = field(default_factory=lambda: Numbers(SECRET))

    async def ticket(self, channel: str, client: str = "one") -> str:
        """Get one, as the SDKs do."""
        url = f"{self.url}/ws-token-request-library"
        headers = {"X-API-KEY": KEYS[client]}
        async with self.session.post(url, params={"capability": channel}, headers=headers) as answer:
            assert 201 == answer.status, await answer.text()
            told = await answer.json()
        assert (True, "centrifugo") == (told["success"], told["messaging_backend"])
        return str(told["token_details"]["token"])

    async def dial(self, path: str = "/connection/websocket") -> aiohttp.ClientWebSocketResponse:
        """Open a connection."""
        return await self.session.ws_connect(self.url + path, max_msg_size=0)

    async def connect(self, token: str) -> aiohttp.ClientWebSocketResponse:
        """Open one and say who we are."""
        socket = await self.dial()
        said = await say(socket, {"id": 1, "connect": {"token": token, "name": "test"}})
        assert (25, True) == (said["connect"]["ping"], said["connect"]["pong"])
        return socket

    async def listen(self, channel: str, client: str = "one") -> aiohttp.ClientWebSocketResponse:
        """Wait on a channel."""
        socket = await self.connect(await self.ticket(channel, client))
        assert {"id": 2, "subscribe": {}} == await say(socket, {"id": 2, "subscribe": {"channel": channel}})
        return socket

    async def begin(self, number: int, client: str = "one", *, all_outputs: bool = False) -> None:
        """Keep a run that has this number."""
        order = Order(
            client=client, workflow="w", timeout=60, number=number, all_outputs=all_outputs, return_all_outputs=True
        )
        run = RunRecord.open(order, "promptlayer", self.clock, id=self.numbers.run_id(client, number))
        await self.store.begin(stored_run(run, owner="me", leased_until_at=9e9, callback_url=None), None)

    async def end(self, number: int, output: JsonValue, client: str = "one", *, status: str = "succeeded") -> None:
        """End it."""
        document = {
            "status": status,
            "output": output,
            "outputs": None,
            "error": {"code": "run_failed", "detail": "no"},
        }
        finish = Finish("me", status, json.dumps(document).encode(), self.clock.now().timestamp(), 1)
        assert await self.store.finish(self.numbers.run_id(client, number), finish)


async def say(socket: aiohttp.ClientWebSocketResponse, command: object) -> Any:
    """Say one thing; what comes back."""
    await socket.send_json(command)
    return json.loads(await socket.receive_str(timeout=10))


async def told(socket: aiohttp.ClientWebSocketResponse) -> tuple[str, dict[str, Any]]:
    """The next message: its channel, and what it says."""
    push = json.loads(await socket.receive_str(timeout=10))["push"]
    message = push["pub"]["data"]
    assert "SET_WORKFLOW_COMPLETE" == message["message_name"]
    return push["channel"], json.loads(message["data"])


async def ended(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    """Hear nothing more but the end: its code."""
    heard = await socket.receive(timeout=10)
    assert heard.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}, heard
    return socket.close_code


@contextlib.asynccontextmanager
async def waiting(*, most: int = 20) -> AsyncIterator[Waiting]:
    """Listen."""
    clock, capture, metrics = VirtualClock(), LogCapture(), Metrics()
    log = structlog.wrap_logger(None, processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(10))
    store, clients = MemoryStore(clock), set(KEYS)
    await store.open()
    realtime = Realtime(
        store, Numbers(SECRET), Tickets(SECRET), knows=clients.__contains__, clock=clock, log=log, most=most
    )
    ring = KeyRing({name: [(hash_key(key), None)] for name, key in KEYS.items()})
    porter = Porter(ring, {name: Client(name) for name in KEYS}, Strangers(clock), (), clock, log)
    server = Server(realtime.routes(), [observe(metrics, log, clock), porter.authenticate], header_timeout=5.0)
    listener = await Listener.open(server, "127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        try:
            yield Waiting(listener.url, clock, store, realtime, session, clients, capture)
        finally:
            await realtime.leave()
            await listener.runner.cleanup()
