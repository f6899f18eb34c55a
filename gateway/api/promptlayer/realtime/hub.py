"""Hub of the WebSocket connections on which PromptLayer's SDKs wait for runs, and the token route.

A token is valid for one client and one channel, and a channel belongs to one run. Each subscription gets the result
once there is one: deliveries are not recorded, and a client may reconnect to any replica.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import cast

from aiohttp import web

from gateway.api.promptlayer.errors import render_problem
from gateway.api.promptlayer.execution_ids import ExecutionIds
from gateway.api.promptlayer.realtime.centrifugo import MAX_FRAME_BYTES, publication
from gateway.api.promptlayer.realtime.connection import SHUTDOWN, RealtimeConnection
from gateway.api.promptlayer.realtime.tokens import ChannelToken, ChannelTokens
from gateway.api.promptlayer.result_formats import RESULT_FORMATS, final_output, wants_all_outputs
from gateway.auth.failed_attempts import network_of
from gateway.clock import Clock
from gateway.http.forwarded import Networks, client_address
from gateway.http.request import AiohttpRequest, AnyResponse, Request, Route, always
from gateway.http.response import make_response
from gateway.http.router import with_double_slash
from gateway.json import strict_json
from gateway.observability.logger_protocol import Logger
from gateway.problems import Problem, invalid_parameter
from gateway.runs import rendering
from gateway.runs.durable.uncollected_results import ignore_result
from gateway.runs.run_reader import RunReader
from gateway.store.contract import StoreUnavailable
from gateway.store.records import Phase, RunOverview, StoredRun

_COMPLETED_MESSAGE = "SET_WORKFLOW_COMPLETE"
MAX_PUSHED_BYTES = 262_144
"""Maximum size of a message in bytes. For a larger result only its existence is sent; Python's client accepts 1 MiB."""
_STORE_WAIT_SECONDS = 5.0  # seconds between two reads of the run if there is no notification
_STORE_RETRY = 1.0
_CLOSE_TIMEOUT = 2.0  # seconds for the closing handshake
_MIN_UNAUTHENTICATED = 4  # connections of one address


@dataclass(slots=True)
class RealtimeHub:
    """Hub of at most `max_connections` connections, at most half of them of one client.

    Of connections that have not authenticated, one address has at most an eighth; a further one displaces its oldest.
    `is_known_client`: False once a reload has removed the client. `result_collected` is called with the id of a run
    before its result is sent.
    """

    reader: RunReader
    execution_ids: ExecutionIds
    channel_tokens: ChannelTokens
    is_known_client: Callable[[str], bool]
    clock: Clock
    log: Logger
    max_connections: int
    trusted_proxies: Networks = ()
    result_collected: Callable[[str], Awaitable[None]] = ignore_result
    connections: dict[RealtimeConnection, asyncio.Transport | None] = field(default_factory=dict)
    """Every connection with its transport, oldest first."""
    _connections_by_client: Counter[str] = field(default_factory=Counter)
    _unauthenticated: dict[str, dict[RealtimeConnection, None]] = field(default_factory=dict)
    """Connections by address, oldest first, without those found to have authenticated."""

    def routes(self) -> list[Route]:
        """Routes. The WebSocket is served under any prefix: the JavaScript SDK keeps the path of its base URL."""
        token_path, socket_path = "/ws-token-request-library", "/connection/websocket"
        token_route = Route(
            "POST", token_path, self.issue_token, "promptlayer_ticket", requires_key=True, render_problem=render_problem
        )
        socket_route = Route(
            "GET", socket_path, self.connect, "promptlayer_socket", render_problem=render_problem, streams=always
        )
        return [
            *with_double_slash([token_route]),
            socket_route,
            replace(socket_route, path="{path}" + socket_path),
        ]

    async def issue_token(self, request: Request) -> AnyResponse:
        """Handle `POST /ws-token-request-library?capability=CHANNEL`."""
        channel = request.query.get("capability", "")
        if self.execution_ids.of_channel(request.client_name, channel) is None:
            raise invalid_parameter("capability", "must be the channel of a run")
        token = self.channel_tokens.issue(request.client_name, channel, self.clock.now())
        body = {"success": True, "messaging_backend": "centrifugo", "token_details": {"token": token}}
        return make_response(201, strict_json.write(body), rendering.JSON_CONTENT_TYPE)

    async def connect(self, request: Request) -> AnyResponse:
        """Handle `GET /connection/websocket`: serve the connection until either side closes it."""
        # The Python SDK sends an empty field. A named subprotocol means an encoding that is not supported here.
        if any(value.strip() for value in request.headers.getall("Sec-WebSocket-Protocol", ())):
            raise Problem("malformed_request", "WebSocket subprotocols are not supported.")
        socket = web.WebSocketResponse(
            timeout=_CLOSE_TIMEOUT, autoping=False, protocols=("",), compress=False, max_msg_size=MAX_FRAME_BYTES
        )
        aiohttp_request = cast("AiohttpRequest", request)
        if request.method != "GET" or not socket.can_prepare(aiohttp_request).ok:
            raise Problem("malformed_request", "A WebSocket upgrade is required.")
        address = network_of(client_address(request, self.trusted_proxies))
        if not self._make_room(address):
            raise Problem("overloaded", "This replica is at its limit of WebSocket connections.", retry_after=1)
        if not request.connection_check()():
            raise Problem("client_closed_request")
        connection = RealtimeConnection(socket, self, self.clock)
        self.connections[connection] = aiohttp_request.transport
        self._unauthenticated.setdefault(address, {})[connection] = None
        try:
            await socket.prepare(aiohttp_request)
            await connection.serve()
        finally:
            self._remove(connection, address)
            if connection.token is not None:
                request.client_name = connection.token.client
                self._connections_by_client[connection.token.client] -= 1
        return socket

    def _make_room(self, address: str) -> bool:
        """Make room for a connection of the address. Returns False if all others are authenticated.

        SDKs authenticate at once. So a flood of connections that never do displaces its own, and another address has
        the time to authenticate.
        """
        if self._count_unauthenticated(address) >= max(self.max_connections // 8, _MIN_UNAUTHENTICATED):
            self._drop_oldest(address)
        if len(self.connections) < self.max_connections:
            return True
        crowded = max(list(self._unauthenticated), key=self._count_unauthenticated, default=address)
        return self._drop_oldest(crowded)

    def _count_unauthenticated(self, address: str) -> int:
        """Count the connections of the address that have not authenticated, and forget the others."""
        connections = self._unauthenticated.get(address, {})
        for connection in [each for each in connections if each.token is not None]:
            self._forget(connection, address)
        return len(connections)

    def _drop_oldest(self, address: str) -> bool:
        """Abort the oldest unauthenticated connection of the address. Returns False if there is none."""
        oldest = next((each for each in self._unauthenticated.get(address, {}) if each.token is None), None)
        if oldest is None:
            return False
        transport = self._remove(oldest, address)
        if transport is not None:
            transport.abort()
        return True

    def _remove(self, connection: RealtimeConnection, address: str) -> asyncio.Transport | None:
        self._forget(connection, address)
        return self.connections.pop(connection, None)

    def _forget(self, connection: RealtimeConnection, address: str) -> None:
        """Remove a connection from those that have not authenticated."""
        connections = self._unauthenticated.get(address, {})
        connections.pop(connection, None)
        if not connections:
            self._unauthenticated.pop(address, None)

    async def close_all(self) -> None:
        """Close every connection, so that clients reconnect to another replica."""
        connections = list(self.connections)
        for connection in connections:
            connection.close(SHUTDOWN)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await asyncio.gather(*(connection.closed.wait() for connection in connections))

    # Methods of `ConnectionHub`.

    def authenticate(self, encoded: str) -> ChannelToken | None:
        """Verify a token. None if it is not or no longer valid."""
        token = self.channel_tokens.verify(encoded, self.clock.now())
        return token if token is not None and self.is_valid(token) else None

    def is_valid(self, token: ChannelToken) -> bool:
        """True until the token expires or its client is removed."""
        return self.clock.now().timestamp() < token.expires_at and self.is_known_client(token.client)

    def register(self, token: ChannelToken) -> bool:
        """Count a connection. Returns False if the client has too many."""
        if self._connections_by_client[token.client] * 2 >= max(self.max_connections, 2):
            return False
        self._connections_by_client[token.client] += 1
        return True

    async def wait_for_message(self, token: ChannelToken) -> str:
        """Wait until the run of the token's channel has ended; returns the frame to send."""
        execution_id = self.execution_ids.of_channel(token.client, token.channel) or 0
        run = await self._wait_until_ended(self.execution_ids.run_id(token.client, execution_id), token.client)
        output = strict_json.write(final_output(run.document or b"", RESULT_FORMATS[wants_all_outputs(run)]))
        if len(output) <= MAX_PUSHED_BYTES:
            frame = publication(
                token.channel,
                _COMPLETED_MESSAGE,
                _RESULT_MESSAGE % (execution_id, b"OK", b',"final_output":%b' % output),
            )
            if len(frame.encode()) <= MAX_PUSHED_BYTES:  # escaping of JSON within JSON makes it larger
                await self.result_collected(run.id)
                return frame
        return publication(
            token.channel, _COMPLETED_MESSAGE, _RESULT_MESSAGE % (execution_id, b"EXCEEDS_SIZE_LIMIT", b"")
        )

    async def _wait_until_ended(self, run_id: str, client: str) -> StoredRun:
        """The run once it has ended. It may not exist yet."""
        find = self.reader.find
        while True:
            try:
                run = await find(run_id)
                if run is not None and run.client == client and run.phase is Phase.DONE:
                    whole = await self.reader.find_whole(run)
                    if whole is not None:
                        return whole
                find = self._find_later
            except StoreUnavailable:
                await self.clock.sleep(_STORE_RETRY)
                find = self.reader.find

    async def _find_later(self, run_id: str) -> RunOverview | None:
        return await self.reader.find_later(run_id, period=_STORE_WAIT_SECONDS)


_RESULT_MESSAGE = b'{"workflow_version_execution_id":%d,"result_code":"%b"%b}'
