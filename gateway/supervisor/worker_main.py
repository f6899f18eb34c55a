"""Main function of a worker process: serves, executes commands of the supervisor, and drains."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass, field

from gateway.api.admin.operator_run import MAX_BODY
from gateway.api.operator_cancellations import OperatorCancellations
from gateway.app.application import Application, drain_and_close
from gateway.app.bootstrap import start_gateway
from gateway.app.reload import ConfigSource
from gateway.app.routes import operator_runs
from gateway.clock import Clock
from gateway.observability.logger_protocol import Logger
from gateway.settings import Settings
from gateway.supervisor.worker_handle import ANSWER
from gateway.supervisor.worker_runs import RunCommands
from gateway.supervisor.worker_spec import WorkerSpec
from gateway.supervisor.worker_status import WorkerStatus

_MAX_COMMAND = 4 * MAX_BODY  # bytes
_FINAL_STATUS_TIMEOUT = 1.0  # seconds to send the last status; then the worker exits anyway


async def run_worker(
    spec: WorkerSpec, settings: Settings, clock: Clock, log: Logger, source: ConfigSource | None = None
) -> None:
    """Serve until the graceful shutdown has ended; `source` as for `start_gateway`, which also defines the errors.

    If the supervisor has exited, its successor needs the port: the worker closes it, and exits after its last run.
    """
    channel = socket.socket(fileno=spec.channel)
    reader, writer = await asyncio.open_unix_connection(sock=channel, limit=_MAX_COMMAND)
    drain = asyncio.Event()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the supervisor handles SIGHUP, and sends a command
    for number in (
        signal.SIGTERM,
        signal.SIGINT,
    ):  # may arrive twice, when a whole control group is signalled; only a command ends at once
        asyncio.get_running_loop().add_signal_handler(number, drain.set)
    application = await start_gateway(settings, clock, log, source, spec.open_listeners)
    commands = _CommandHandler(application, writer, drain)
    log.info("ready", pid=os.getpid())
    commands.send_status()
    command_task = asyncio.create_task(commands.handle_commands(reader))
    await commands.drain.wait()
    log.info("draining")
    await drain_and_close(application, commands.terminate.wait(), drain_period=0.0 if commands.orphaned else None)
    commands.send_status()  # the final metrics
    command_task.cancel()
    with suppress(OSError, TimeoutError):
        writer.close()
        async with asyncio.timeout(_FINAL_STATUS_TIMEOUT):
            await writer.wait_closed()


@dataclass(slots=True)
class _CommandHandler:
    application: Application
    writer: asyncio.StreamWriter
    drain: asyncio.Event = field(default_factory=asyncio.Event)
    terminate: asyncio.Event = field(default_factory=asyncio.Event)
    orphaned: bool = False
    _answering: set[asyncio.Task[None]] = field(default_factory=set)

    async def handle_commands(self, reader: asyncio.StreamReader) -> None:
        """Execute commands of the supervisor. The end of the channel is a command to drain."""
        commands = {b"drain": self.drain.set, b"hurry": self.terminate.set}
        if self.application.reloader is not None:
            commands[b"reload"] = self.application.reloader.request
        with suppress(OSError):
            while line := await reader.readline():
                command, _, argument = line.strip().partition(b" ")
                if command == b"ask":
                    self.send_status(int(argument))
                elif command == b"log-level":
                    self.application.components.log_level.apply_encoded(argument.decode())
                elif command in RunCommands.names:
                    task = asyncio.create_task(self._answer(command, argument))
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)
                elif command in commands:
                    commands[command]()
        self.orphaned = True
        self.drain.set()

    async def _answer(self, command: bytes, argument: bytes) -> None:
        """Carry out a command about a run, with the number of the request and a JSON value, and send the answer."""
        number, _, value = argument.partition(b" ")
        components = self.application.components
        cancellations = OperatorCancellations(components.cancellation)
        commands = RunCommands(operator_runs(components), cancellations, components.log)
        answer = await commands.answer(command, value)
        if not self.writer.is_closing():
            self.writer.write(b"%b%b %b\n" % (ANSWER, number, answer))

    def send_status(self, reply_to: int = 0) -> None:
        """Send the status. The supervisor has one request in flight at a time, so no messages accumulate."""
        components = self.application.components
        fails = components.store.failing
        status = WorkerStatus(
            reply_to,
            not components.in_flight_limiter.draining,
            components.metrics.export(),
            store_fails=fails,
            exemplars=components.metrics.export_exemplars(),
        )
        if not self.writer.is_closing():
            self.writer.write(status.encode())
