"""What a worker process is handed at birth: whose place it takes, and the files that it inherits."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from gateway.app.listeners import Listener, OpenListeners, TlsContexts
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """`channel` and `listeners` are file descriptors; `ops` is where the supervisor's operations port is.

    `store` is the URL of the store that all workers use.
    """

    worker: int
    channel: int
    listeners: tuple[int, ...]
    ops: tuple[str, int]
    store: str

    @classmethod
    def parse(cls, text: str) -> WorkerSpec:
        """Understand what `text` made; ValueError where it is something else."""
        try:
            return _WORKER_SPEC.validate_json(text)
        except ValidationError:
            raise ValueError("is not what a supervisor says") from None

    def to_json(self) -> str:
        """As it stands on the worker's command line. Nothing of it is secret."""
        return _WORKER_SPEC.dump_json(self).decode()

    def apply_to(self, settings: Settings) -> Settings:
        """Keep to the store of the others: the file may name another by now, which they use after a restart only.

        Two stores side by side would be two memories of which runs were started already.
        """
        return settings.model_copy(update={"store": settings.store.model_copy(update={"url": self.store})})

    @property
    def open_listeners(self) -> OpenListeners:
        """The public port is the supervisor's, shared by all workers; the operations port it keeps to itself."""

        async def open_inherited(
            public: web.Server, watched: web.Server, tls: TlsContexts
        ) -> tuple[Listener, Listener]:
            shared = [socket.socket(fileno=descriptor) for descriptor in self.listeners]
            return (
                await Listener.from_sockets(public, shared, tls.public),
                await Listener.for_external_port(watched, *self.ops),
            )

        return open_inherited


_WORKER_SPEC = TypeAdapter(WorkerSpec)
