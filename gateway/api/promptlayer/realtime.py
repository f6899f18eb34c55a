"""The WebSocket on which PromptLayer's SDKs wait for their runs, and the tickets for it.

A ticket is for one client and one channel, and a channel is one run's. Whoever subscribes is told the result once there
is one, each time anew: so nobody has to remember who was told, and a client may come back to any replica.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web
from structlog.typing import FilteringBoundLogger

from gateway import strictjson
from gateway.api.promptlayer import channels
from gateway.api.promptlayer.centrifugo import MAX_FRAME_BYTES, publication
from gateway.api.promptlayer.connection import SHUTDOWN, RealtimeConnection
from gateway.api.promptlayer.errors import render_problem
from gateway.api.promptlayer.execution_ids import ExecutionIds
from gateway.api.promptlayer.results import RESULT_FORMATS, final_output, wants_all_outputs
from gateway.api.promptlayer.tokens import ChannelToken, ChannelTokens
from gateway.clock import Clock
from gateway.http.body import make_response
from gateway.http.server import Request, Route
from gateway.problems import FieldError, Problem
from gateway.runs import rendering
from gateway.store.contract import Phase, Store, StoredRun, StoreUnavailable

_COMPLETED_MESSAGE = "SET_WORKFLOW_COMPLETE"
MAX_PUSHED_BYTES = 262_144
"""Bytes of a message; of a larger result is only said that there is one. (Python's WebSocket takes a MiB.)"""
_STORE_WAIT_SECONDS = 5.0  # seconds until the store is asked anew, whatever it says by itself
_STORE_RETRY = 1.0
_CLOSE_TIMEOUT = 2.0  # seconds for a client to answer that it heard the end


@dataclass(slots=True)
class RealtimeHub:
    """At most `most` connections at once, half of them one client's. `knows`: whether there is such a client still."""

    store: Store
    execution_ids: ExecutionIds
    channel_tokens: ChannelTokens
    is_known_client: Callable[[str], bool]
    clock: Clock
    log: FilteringBoundLogger
    max_connections: int
    connections: dict[RealtimeConnection, asyncio.Transport | None] = field(default_factory=dict)
    """Every connection, the oldest first, and what it goes over."""
    _connections_by_client: Counter[str] = field(default_factory=Counter)

    def routes(self) -> list[Route]:
        """Python's SDK drops the path of its base URL for the WebSocket, JavaScript's keeps it: it is under any."""
        token_path, socket_path = "/ws-token-request-library", "/connection/websocket"
        return [
            *(
                Route(
                    "POST",
                    s + token_path,
                    self.issue_token,
                    "promptlayer_ticket",
                    requires_key=True,
                    render_problem=render_problem,
                )
                for s in ("", "/")
            ),
            *(
                Route("GET", s + socket_path, self.connect, "promptlayer_socket", render_problem=render_problem)
                for s in ("", "{path}")
            ),
        ]

    async def issue_token(self, request: Request) -> web.StreamResponse:
        """Answer `POST /ws-token-request-library?capability=CHANNEL`."""
        channel = request.query.get("capability", "")
        if channels.execution_id_of_channel(channel, request.client_name, self.execution_ids) is None:
            raise Problem("invalid_request", "1 thing(s) are wrong.", errors=(_INVALID_CHANNEL,))
        token = self.channel_tokens.issue(request.client_name, channel, self.clock.now())
        body = {"success": True, "messaging_backend": "centrifugo", "token_details": {"token": token}}
        return make_response(201, strictjson.write(body), rendering.JSON_CONTENT_TYPE)

    async def connect(self, request: Request) -> web.StreamResponse:
        """Answer `GET /connection/websocket`: talk until either side ends it."""
        # Python's SDK sends the field without a protocol in it. One that names any wants another encoding than ours.
        if any(value.strip() for value in request.headers.getall("Sec-WebSocket-Protocol", ())):
            raise Problem("malformed_request", "This WebSocket has no subprotocols.")
        socket = web.WebSocketResponse(
            timeout=_CLOSE_TIMEOUT, autoping=False, protocols=("",), compress=False, max_msg_size=MAX_FRAME_BYTES
        )
        if request.method != "GET" or not socket.can_prepare(request).ok:
            raise Problem("malformed_request", "This route is a WebSocket.")
        if len(self.connections) >= self.max_connections and not self._drop_unauthenticated():
            raise Problem("overloaded", "This replica is at its limit of connections.", retry_after=1)
        connection = RealtimeConnection(socket, self, self.clock)
        self.connections[connection] = request.transport
        try:
            await socket.prepare(request)
            await connection.serve()
        finally:
            self.connections.pop(connection, None)
            if connection.token is not None:
                request.client_name = connection.token.client
                self._connections_by_client[connection.token.client] -= 1
        return socket

    def _drop_unauthenticated(self) -> bool:
        """Drop who has been longest here without a word of who it is; False where all have said it.

        A client says so at once: strangers who only take seats take them from each other.
        """
        oldest = next((line for line in self.connections if line.token is None), None)
        if oldest is None:
            return False
        transport = self.connections.pop(oldest)
        if transport is not None:
            transport.abort()
        return True

    async def close_all(self) -> None:
        """Send everybody elsewhere; they come back to whoever takes connections now."""
        connections = list(self.connections)
        for connection in connections:
            connection.close(SHUTDOWN)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await asyncio.gather(*(line.closed.wait() for line in connections))

    # What a line asks.

    def authenticate(self, encoded: str) -> ChannelToken | None:
        """Read who is there; None where the ticket is not good, or not any more."""
        token = self.channel_tokens.verify(encoded, self.clock.now())
        return token if token is not None and self.is_valid(token) else None

    def is_valid(self, token: ChannelToken) -> bool:
        """Whether the ticket is good still: it has not ended, and there is such a client."""
        return self.clock.now().timestamp() < token.expires_at and self.is_known_client(token.client)

    def register(self, token: ChannelToken) -> bool:
        """Count a connection in; False where the client has too many."""
        if self._connections_by_client[token.client] * 2 >= max(self.max_connections, 2):
            return False
        self._connections_by_client[token.client] += 1
        return True

    async def wait_for_message(self, token: ChannelToken) -> str:
        """Wait for the end of the ticket's run: the frame that tells it."""
        execution_id = channels.execution_id_of_channel(token.channel, token.client, self.execution_ids) or 0
        run = await self._wait_until_ended(self.execution_ids.run_id(token.client, execution_id), token.client)
        output = strictjson.write(final_output(run.document or b"", RESULT_FORMATS[wants_all_outputs(run)]))
        if len(output) <= MAX_PUSHED_BYTES:
            frame = publication(
                token.channel,
                _COMPLETED_MESSAGE,
                _RESULT_MESSAGE % (execution_id, b"OK", b',"final_output":%b' % output),
            )
            if len(frame.encode()) <= MAX_PUSHED_BYTES:  # a text within a text has more backslashes
                return frame
        return publication(
            token.channel, _COMPLETED_MESSAGE, _RESULT_MESSAGE % (execution_id, b"EXCEEDS_SIZE_LIMIT", b"")
        )

    async def _wait_until_ended(self, run_id: str, client: str) -> StoredRun:
        """The run once it has ended; it need not have begun."""
        while True:
            try:
                run = await self.store.get_run(run_id)
                if run is not None and run.client == client and run.phase is Phase.DONE:
                    return run
                await self.store.wait_for_change([run_id], _STORE_WAIT_SECONDS)
            except StoreUnavailable:
                await self.clock.sleep(_STORE_RETRY)


_RESULT_MESSAGE = b'{"workflow_version_execution_id":%d,"result_code":"%b"%b}'
_INVALID_CHANNEL = FieldError("?capability", "must be a run's channel")
