"""What a worker process is handed at birth: whose place it takes, and the files that it inherits."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from gateway.lifecycle import Listener, Ports


@dataclass(frozen=True, slots=True)
class Berth:
    """`channel` and `listeners` are file descriptors; `ops` is where the supervisor's operations port is."""

    worker: int
    channel: int
    listeners: tuple[int, ...]
    ops: tuple[str, int]

    @classmethod
    def read(cls, text: str) -> Berth:
        """Understand what `text` made; ValueError where it is something else."""
        try:
            return _BERTH.validate_json(text)
        except ValidationError:
            raise ValueError("is not what a supervisor says") from None

    def text(self) -> str:
        """As it stands on the worker's command line. Nothing of it is secret."""
        return _BERTH.dump_json(self).decode()

    @property
    def ports(self) -> Ports:
        """The public port is the supervisor's, shared by all workers; the operations port it keeps to itself."""

        async def open_ports(public: web.Server, watched: web.Server) -> tuple[Listener, Listener]:
            shared = [socket.socket(fileno=descriptor) for descriptor in self.listeners]
            return await Listener.inherit(public, shared), await Listener.elsewhere(watched, *self.ops)

        return open_ports


_BERTH = TypeAdapter(Berth)
