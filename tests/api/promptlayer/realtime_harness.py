"""Harness of the realtime API: a server, runs that end on demand, and a WebSocket client."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import aiohttp
import structlog
from structlog.testing import LogCapture

from gateway.api.promptlayer.execution_ids import ExecutionIds
from gateway.api.promptlayer.realtime.hub import RealtimeHub
from gateway.api.promptlayer.realtime.tokens import ChannelTokens
from gateway.api.promptlayer.result_formats import client_context
from gateway.app.listeners import Listener
from gateway.auth.client import Client
from gateway.auth.failed_attempts import FailedAuthLimiter
from gateway.auth.keys import KeyRing, hash_key, new_key
from gateway.clock import SystemClock
from gateway.http.authentication import Authenticator
from gateway.http.pipeline import RequestPipeline
from gateway.http.server import Server
from gateway.observability.metrics import Metrics
from gateway.runs.durable.codec import encode_run
from gateway.runs.model import RunRecord, RunSpec
from gateway.runs.run_reader import RunReader
from gateway.store.memory.store import MemoryStore
from gateway.store.records import FinalState
from providers.contract import JsonValue
from tests.support.virtual_clock import VirtualClock

KEYS = {name: new_key(SystemClock()) for name in ("one", "two")}
SECRET = b"s" * 32


@dataclass
class RealtimeHarness:
    """The server and its dependencies. Time advances only in `clock.run_for`."""

    url: str
    clock: VirtualClock
    store: MemoryStore
    realtime: RealtimeHub
    session: aiohttp.ClientSession
    known_clients: set[str]
    capture: LogCapture
    execution_ids: ExecutionIds = field(default_factory=lambda: ExecutionIds(SECRET))
    sockets: list[aiohttp.ClientWebSocketResponse] = field(default_factory=list)

    async def issue_token(self, channel: str, client: str = "one") -> str:
        """Request a token as the SDKs do."""
        url = f"{self.url}/ws-token-request-library"
        headers = {"X-API-KEY": KEYS[client]}
        async with self.session.post(url, params={"capability": channel}, headers=headers) as answer:
            assert 201 == answer.status, await answer.text()
            document = await answer.json()
        assert (True, "centrifugo") == (document["success"], document["messaging_backend"])
        return str(document["token_details"]["token"])

    async def open_socket(
        self, path: str = "/connection/websocket", *, address: str = "192.0.2.1"
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a connection, forwarded from `address`."""
        socket = await self.session.ws_connect(
            self.url + path,
            max_msg_size=0,
            headers={"X-Forwarded-For": address},
            timeout=aiohttp.ClientWSTimeout(ws_close=1),
        )
        self.sockets.append(socket)
        return socket

    async def connect(self, token: str) -> aiohttp.ClientWebSocketResponse:
        """Open a connection and authenticate."""
        socket = await self.open_socket()
        reply = await send_command(socket, {"id": 1, "connect": {"token": token, "name": "test"}})
        assert (25, True) == (reply["connect"]["ping"], reply["connect"]["pong"])
        return socket

    async def subscribe(self, channel: str, client: str = "one") -> aiohttp.ClientWebSocketResponse:
        """Subscribe to a channel."""
        socket = await self.connect(await self.issue_token(channel, client))
        assert {"id": 2, "subscribe": {}} == await send_command(socket, {"id": 2, "subscribe": {"channel": channel}})
        return socket

    async def store_run(self, number: int, client: str = "one", *, all_outputs: bool = False) -> None:
        """Store a run with this execution id."""
        spec = RunSpec(
            client=client,
            workflow="w",
            timeout=60,
            client_context=client_context(number, all_outputs=all_outputs),
            return_all_outputs=True,
        )
        run = RunRecord.create(spec, "promptlayer", self.clock, id=self.execution_ids.run_id(client, number))
        await self.store.create_run(encode_run(run, owner="me", leased_until_at=9e9, callback_url=None), None)

    async def finish_run(
        self, number: int, output: JsonValue, client: str = "one", *, status: str = "succeeded"
    ) -> None:
        """Store the end of the run."""
        document = {
            "status": status,
            "output": output,
            "outputs": None,
            "error": {"code": "run_failed", "detail": "no"},
        }
        finish = FinalState("me", status, json.dumps(document).encode(), self.clock.now().timestamp(), 1)
        assert await self.store.finish(self.execution_ids.run_id(client, number), finish)


async def send_command(socket: aiohttp.ClientWebSocketResponse, command: object) -> Any:
    """Send one command; returns the reply."""
    await socket.send_json(command)
    return json.loads(await socket.receive_str(timeout=10))


async def receive_message(socket: aiohttp.ClientWebSocketResponse) -> tuple[str, dict[str, Any]]:
    """Channel and data of the next message."""
    push = json.loads(await socket.receive_str(timeout=10))["push"]
    message = push["pub"]["data"]
    assert "SET_WORKFLOW_COMPLETE" == message["message_name"]
    return push["channel"], json.loads(message["data"])


async def wait_closed(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    """Wait until the connection is closed without further messages; returns the close code."""
    message = await socket.receive(timeout=10)
    assert message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}, message
    return socket.close_code


@contextlib.asynccontextmanager
async def realtime_server(*, max_connections: int = 20) -> AsyncIterator[RealtimeHarness]:
    """Start the server."""
    clock, capture, metrics = VirtualClock(), LogCapture(), Metrics()
    log = structlog.wrap_logger(None, processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(10))
    store, clients = MemoryStore(clock), set(KEYS)
    await store.open()
    realtime = RealtimeHub(
        RunReader(store, clock),
        ExecutionIds(SECRET),
        ChannelTokens(SECRET),
        is_known_client=clients.__contains__,
        clock=clock,
        log=log,
        max_connections=max_connections,
        trusted_proxies=[ip_network("127.0.0.0/8")],
    )
    keys = KeyRing({name: [(hash_key(key), None)] for name, key in KEYS.items()})
    authenticator = Authenticator(keys, {name: Client(name) for name in KEYS}, FailedAuthLimiter(clock), (), clock, log)
    server = Server(
        realtime.routes(), [RequestPipeline(metrics, log, clock, authenticator.authenticate)], header_timeout=5.0
    )
    listener = await Listener.open(server, "127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        harness = RealtimeHarness(listener.url, clock, store, realtime, session, clients, capture)
        try:
            yield harness
        finally:
            await realtime.close_all()
            await listener.runner.cleanup()
            await asyncio.gather(*(socket.close() for socket in harness.sockets))
