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
from gateway.api.promptlayer.errors import refuse
from gateway.api.promptlayer.frames import MOST_FRAME, published
from gateway.api.promptlayer.line import LEAVING, Line
from gateway.api.promptlayer.results import FORMS, final_output
from gateway.api.promptlayer.tickets import Ticket, Tickets
from gateway.api.server import Request, Route
from gateway.api.wire import answer
from gateway.clock import Clock
from gateway.problems import Pointer, Problem
from gateway.runs import answers
from gateway.runs.numbers import Numbers
from gateway.store.contract import Phase, Store, StoredRun, StoreUnavailable

_COMPLETE = "SET_WORKFLOW_COMPLETE"
MOST_PUSHED = 262_144
"""Bytes of a message; of a larger result is only said that there is one. (Python's WebSocket takes a MiB.)"""
_STEP = 5.0  # seconds until the store is asked anew, whatever it says by itself
_STORE_RETRY = 1.0
_FAREWELL = 2.0  # seconds for a client to answer that it heard the end


@dataclass(slots=True)
class Realtime:
    """At most `most` connections at once, half of them one client's. `knows`: whether there is such a client still."""

    store: Store
    numbers: Numbers
    tickets: Tickets
    knows: Callable[[str], bool]
    clock: Clock
    log: FilteringBoundLogger
    most: int
    lines: dict[Line, asyncio.Transport | None] = field(default_factory=dict)
    """Every connection, the oldest first, and what it goes over."""
    _of: Counter[str] = field(default_factory=Counter)

    def routes(self) -> list[Route]:
        """Python's SDK drops the path of its base URL for the WebSocket, JavaScript's keeps it: it is under any."""
        tickets, socket = "/ws-token-request-library", "/connection/websocket"
        return [
            *(
                Route("POST", s + tickets, self.ticket, "promptlayer_ticket", keyed=True, refuse=refuse)
                for s in ("", "/")
            ),
            *(Route("GET", s + socket, self.connect, "promptlayer_socket", refuse=refuse) for s in ("", "{path}")),
        ]

    async def ticket(self, request: Request) -> web.StreamResponse:
        """Answer `POST /ws-token-request-library?capability=CHANNEL`."""
        channel = request.query.get("capability", "")
        if channels.number_behind(channel, request.client_name, self.numbers) is None:
            raise Problem("invalid_request", "1 thing(s) are wrong.", errors=(_NO_CHANNEL,))
        token = self.tickets.write(request.client_name, channel, self.clock.now())
        told = {"success": True, "messaging_backend": "centrifugo", "token_details": {"token": token}}
        return answer(201, strictjson.write(told), answers.JSON)

    async def connect(self, request: Request) -> web.StreamResponse:
        """Answer `GET /connection/websocket`: talk until either side ends it."""
        # Python's SDK sends the field without a protocol in it. One that names any wants another encoding than ours.
        if any(value.strip() for value in request.headers.getall("Sec-WebSocket-Protocol", ())):
            raise Problem("malformed_request", "This WebSocket has no subprotocols.")
        socket = web.WebSocketResponse(
            timeout=_FAREWELL, autoping=False, protocols=("",), compress=False, max_msg_size=MOST_FRAME
        )
        if request.method != "GET" or not socket.can_prepare(request).ok:
            raise Problem("malformed_request", "This route is a WebSocket.")
        if len(self.lines) >= self.most and not self._make_room():
            raise Problem("overloaded", "This replica is at its limit of connections.", retry_after=1)
        line = Line(socket, self, self.clock)
        self.lines[line] = request.transport
        try:
            await socket.prepare(request)
            await line.talk()
        finally:
            self.lines.pop(line, None)
            if line.ticket is not None:
                request.client_name = line.ticket.client
                self._of[line.ticket.client] -= 1
        return socket

    def _make_room(self) -> bool:
        """Drop who has been longest here without a word of who it is; False where all have said it.

        A client says so at once: strangers who only take seats take them from each other.
        """
        stranger = next((line for line in self.lines if line.ticket is None), None)
        if stranger is None:
            return False
        transport = self.lines.pop(stranger)
        if transport is not None:
            transport.abort()
        return True

    async def leave(self) -> None:
        """Send everybody elsewhere; they come back to whoever takes connections now."""
        lines = list(self.lines)
        for line in lines:
            line.close(LEAVING)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await asyncio.gather(*(line.gone.wait() for line in lines))

    # What a line asks.

    def admit(self, token: str) -> Ticket | None:
        """Read who is there; None where the ticket is not good, or not any more."""
        ticket = self.tickets.read(token, self.clock.now())
        return ticket if ticket is not None and self.allows(ticket) else None

    def allows(self, ticket: Ticket) -> bool:
        """Whether the ticket is good still: it has not ended, and there is such a client."""
        return self.clock.now().timestamp() < ticket.expires_at and self.knows(ticket.client)

    def seat(self, ticket: Ticket) -> bool:
        """Count a connection in; False where the client has too many."""
        if self._of[ticket.client] * 2 >= max(self.most, 2):
            return False
        self._of[ticket.client] += 1
        return True

    async def message(self, ticket: Ticket) -> str:
        """Wait for the end of the ticket's run: the frame that tells it."""
        number = channels.number_behind(ticket.channel, ticket.client, self.numbers) or 0
        run = await self._ended(self.numbers.run_id(ticket.client, number), ticket.client)
        output = strictjson.write(final_output(run.document or b"", FORMS[answers.all_outputs(run)]))
        if len(output) <= MOST_PUSHED:
            frame = published(ticket.channel, _COMPLETE, _TOLD % (number, b"OK", b',"final_output":%b' % output))
            if len(frame.encode()) <= MOST_PUSHED:  # a text within a text has more backslashes
                return frame
        return published(ticket.channel, _COMPLETE, _TOLD % (number, b"EXCEEDS_SIZE_LIMIT", b""))

    async def _ended(self, run_id: str, client: str) -> StoredRun:
        """The run once it has ended; it need not have begun."""
        while True:
            try:
                run = await self.store.run(run_id)
                if run is not None and run.client == client and run.phase is Phase.DONE:
                    return run
                await self.store.wait([run_id], _STEP)
            except StoreUnavailable:
                await self.clock.sleep(_STORE_RETRY)


_TOLD = b'{"workflow_version_execution_id":%d,"result_code":"%b"%b}'
_NO_CHANNEL = Pointer("?capability", "must be a run's channel")
