"""What a worker process is handed at birth: whose place it takes, and the files that it inherits."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from gateway.lifecycle import Listener, Ports
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Berth:
    """`channel` and `listeners` are file descriptors; `ops` is where the supervisor's operations port is.

    `store` is the URL of the store that all workers use.
    """

    worker: int
    channel: int
    listeners: tuple[int, ...]
    ops: tuple[str, int]
    store: str

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

    def applied(self, settings: Settings) -> Settings:
        """Keep to the store of the others: the file may name another by now, which they use after a restart only.

        Two stores side by side would be two memories of which runs were started already.
        """
        return settings.model_copy(update={"store": settings.store.model_copy(update={"url": self.store})})

    @property
    def ports(self) -> Ports:
        """The public port is the supervisor's, shared by all workers; the operations port it keeps to itself."""

        async def open_ports(public: web.Server, watched: web.Server) -> tuple[Listener, Listener]:
            shared = [socket.socket(fileno=descriptor) for descriptor in self.listeners]
            return await Listener.inherit(public, shared), await Listener.elsewhere(watched, *self.ops)

        return open_ports


_BERTH = TypeAdapter(Berth)
