"""The sandbox put together, and served on the loopback interface only."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from aiohttp import web

from gateway.clock import Clock
from gateway.sandbox.callbacks import CallBack
from gateway.sandbox.calls import Calls
from gateway.sandbox.defaults import DEFAULT_WORKFLOWS
from gateway.sandbox.prompt_studio import PromptStudio
from gateway.sandbox.promptlayer import PromptLayer
from gateway.sandbox.promptlayer_catalogue import WorkflowPages
from gateway.sandbox.workflows import Catalogue

_MOST_BODY = 1024 * 1024
_IDLE_SECONDS = 75.0
_SHUTDOWN_SECONDS = 1.0
_BACKLOG = 1024

CALLS = web.AppKey("calls", Calls)
"""Where an application keeps its counts: `application[CALLS].promptlayer.workflows["echo"].starts`."""


@dataclass(frozen=True, slots=True)
class SandboxKeys:
    """The keys that the two providers accept."""

    promptlayer: str
    prompt_studio: str


@dataclass(frozen=True, slots=True)
class RunningSandbox:
    """A sandbox that listens: `url` has no path and no slash at its end."""

    url: str
    runner: web.AppRunner

    async def close(self) -> None:
        """Stop listening, and drop what hangs."""
        await self.runner.cleanup()


def application(
    clock: Clock, *, keys: SandboxKeys, workflows: Catalogue = DEFAULT_WORKFLOWS, call_back: CallBack | None = None
) -> web.Application:
    """Both providers in one application (their paths do not collide); bodies of more than 1 MiB are refused.

    `call_back` posts to the `callback_url` of a run that has ended; without it nobody is called.
    """
    calls = Calls()
    by_name = {key: w for w in workflows.workflows for key in (str(w.id), w.name)}
    deployments = {d.id: d for d in workflows.deployments}
    served = web.Application(client_max_size=_MOST_BODY)
    served[CALLS] = calls
    promptlayer = PromptLayer(clock, keys.promptlayer, by_name, calls.promptlayer, call_back=call_back)
    served.cleanup_ctx.append(promptlayer.callbacks.until_closed)
    for face in (
        calls,
        PromptStudio(clock, keys.prompt_studio, deployments, calls.prompt_studio),
        promptlayer,
        WorkflowPages(keys.promptlayer, by_name),
    ):
        served.add_routes(face.routes())
    return served


async def serve(served: web.Application, host: str, port: int) -> RunningSandbox:
    """Listen on `host` (an address of the loopback interface, or "localhost") and `port` (0: any free one).

    ValueError for any other host, since the sandbox is not built to be reached by others. OSError: the port is taken.
    """
    address = _loopback(host)
    runner = web.AppRunner(
        served,
        access_log=None,
        handler_cancellation=True,  # nobody waits for what hangs once its caller has gone
        keepalive_timeout=_IDLE_SECONDS,
        shutdown_timeout=_SHUTDOWN_SECONDS,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, str(address), port, backlog=_BACKLOG).start()
    except OSError:
        await runner.cleanup()
        raise
    shown = f"[{address}]" if address.version == 6 else str(address)
    return RunningSandbox(f"http://{shown}:{runner.addresses[0][1]}", runner)


def _loopback(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    # "localhost" is what the resolver says it is; the sandbox goes by the number.
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise ValueError("the sandbox listens on loopback addresses only") from None
    if not address.is_loopback:
        raise ValueError("the sandbox listens on loopback addresses only")
    return address
