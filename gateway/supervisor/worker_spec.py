"""Start parameters of a worker process: its slot, and the file descriptors that it inherits."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from gateway.app.listeners import Listener, OpenListeners, TlsContexts
from gateway.settings import Settings
from gateway.supervisor.accepting.server import TurnTakingSite
from gateway.supervisor.accepting.turns import AcceptCounts, AcceptTurns


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """`channel`, `listeners` and `accept_counts` are file descriptors.

    `ops` is the address of the operations port of the supervisor, `store` the URL of the store that all workers use.
    """

    worker: int
    channel: int
    listeners: tuple[int, ...]
    accept_counts: int
    ops: tuple[str, int]
    store: str

    @classmethod
    def parse(cls, text: str) -> WorkerSpec:
        """Parse the output of `to_json`. Raises ValueError."""
        try:
            return _WORKER_SPEC.validate_json(text)
        except ValidationError:
            raise ValueError("is not a worker spec") from None

    def to_json(self) -> str:
        """Return the spec for the command line of the worker. It contains no secrets."""
        return _WORKER_SPEC.dump_json(self).decode()

    def apply_to(self, settings: Settings) -> Settings:
        """Return the settings with the store URL of the other workers, even if the configuration has changed since.

        With two stores, the workers would disagree on which runs were started.
        """
        return settings.model_copy(update={"store": settings.store.model_copy(update={"url": self.store})})

    @property
    def open_listeners(self) -> OpenListeners:
        """The function that opens the inherited public port; the operations port stays in the supervisor."""

        async def open_inherited(
            public: web.Server, watched: web.Server, tls: TlsContexts
        ) -> tuple[Listener, Listener]:
            turns = AcceptTurns(AcceptCounts.attach(self.accept_counts), self.worker)

            def create_sites(runner: web.ServerRunner) -> list[TurnTakingSite]:
                shared = [socket.socket(fileno=descriptor) for descriptor in self.listeners]
                return [TurnTakingSite(runner, sock, turns, tls.public) for sock in shared]

            return (
                await Listener.from_sites(public, create_sites, secure=tls.public is not None),
                await Listener.for_external_port(watched, *self.ops),
            )

        return open_inherited


_WORKER_SPEC = TypeAdapter(WorkerSpec)
