"""Application of the sandbox, served on the loopback interface only."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from aiohttp import web

from gateway.clock import Clock
from gateway.sandbox.call_counts import CallCounts
from gateway.sandbox.default_workflows import DEFAULT_WORKFLOWS
from gateway.sandbox.model import SandboxCatalog
from gateway.sandbox.prompt_studio import PromptStudioEmulator
from gateway.sandbox.promptlayer.callbacks import PostCallback
from gateway.sandbox.promptlayer.catalog import WorkflowCatalogRoutes
from gateway.sandbox.promptlayer.handlers import PromptLayerEmulator

_MAX_BODY = 1024 * 1024
_IDLE_SECONDS = 75.0
_SHUTDOWN_SECONDS = 1.0
_BACKLOG = 1024

CALL_COUNTS = web.AppKey("calls", CallCounts)
"""Key of the counters: `application[CALL_COUNTS].promptlayer.workflows["echo"].starts`."""


@dataclass(frozen=True, slots=True)
class SandboxKeys:
    """API keys of the two emulated providers."""

    promptlayer: str
    prompt_studio: str


@dataclass(frozen=True, slots=True)
class RunningSandbox:
    """A listening sandbox: `url` has no path and no trailing slash."""

    url: str
    runner: web.AppRunner

    async def close(self) -> None:
        """Stop listening, and cancel pending requests."""
        await self.runner.cleanup()


def create_application(
    clock: Clock,
    *,
    keys: SandboxKeys,
    workflows: SandboxCatalog = DEFAULT_WORKFLOWS,
    post_callback: PostCallback | None = None,
) -> web.Application:
    """Both providers in one application (their paths do not collide); bodies of more than 1 MiB are refused.

    `post_callback` posts to the `callback_url` of a run that has ended; without it there are no callbacks.
    """
    calls = CallCounts()
    by_name = {key: w for w in workflows.workflows for key in (str(w.id), w.name)}
    deployments = {d.id: d for d in workflows.deployments}
    app = web.Application(client_max_size=_MAX_BODY)
    app[CALL_COUNTS] = calls
    promptlayer = PromptLayerEmulator(clock, keys.promptlayer, by_name, calls.promptlayer, post_callback=post_callback)
    app.cleanup_ctx.append(promptlayer.callbacks.cleanup_context)
    for handlers in (
        calls,
        PromptStudioEmulator(clock, keys.prompt_studio, deployments, calls.prompt_studio),
        promptlayer,
        WorkflowCatalogRoutes(keys.promptlayer, by_name),
    ):
        app.add_routes(handlers.routes())
    return app


async def serve(app: web.Application, host: str, port: int) -> RunningSandbox:
    """Listen on `host` (a loopback address or "localhost") and `port` (0: any free one).

    Raises ValueError for any other host, as the sandbox has no protection, and OSError if the port is in use.
    """
    address = _loopback(host)
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,  # a pending fault ends with its caller
        keepalive_timeout=_IDLE_SECONDS,
        shutdown_timeout=_SHUTDOWN_SECONDS,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, str(address), port, backlog=_BACKLOG).start()
    except OSError:
        await runner.cleanup()
        raise
    host_text = f"[{address}]" if address.version == 6 else str(address)
    return RunningSandbox(f"http://{host_text}:{runner.addresses[0][1]}", runner)


def _loopback(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    # "localhost" depends on the resolver; the sandbox uses the address.
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise ValueError("the sandbox listens on loopback addresses only") from None
    if not address.is_loopback:
        raise ValueError("the sandbox listens on loopback addresses only")
    return address
