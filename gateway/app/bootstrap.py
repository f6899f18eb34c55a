"""Composition root and bootstrap: builds the components, opens the ports, starts the background tasks."""

from __future__ import annotations

import asyncio
import ctypes
from concurrent.futures import ThreadPoolExecutor

from gateway import garbage_collection
from gateway.api.docs.page import DocsHandlers
from gateway.api.promptlayer.execution_ids import ExecutionIds
from gateway.app import routes
from gateway.app.application import Application
from gateway.app.components import Components, build_components
from gateway.app.listeners import Listener, OpenListeners, listeners_from_settings, raise_descriptor_limit
from gateway.app.reload import ConfigSource, Reloader
from gateway.app.system_audit import SystemAudit
from gateway.clock import Clock
from gateway.http.server import Server
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.settings import Settings

_EXECUTOR_THREADS = 32
_M_MMAP_THRESHOLD = -3  # mallopt(3)
_MMAP_THRESHOLD = 1 << 20  # bytes


async def start_gateway(
    settings: Settings,
    clock: Clock,
    log: Logger,
    source: ConfigSource | None = None,
    open_listeners: OpenListeners | None = None,
) -> Application:
    """Build and start a gateway; it listens at the addresses of the settings, or where `open_listeners` says.

    With a `source`, the configuration is reloaded when it changes. Raises SettingsError if the configuration cannot be
    used (an adapter or a certificate, for example), OSError if a port cannot be opened, StoreUnavailable.
    """
    loop = asyncio.get_running_loop()
    json_logging.log_unhandled_exceptions(loop, log)
    before, limit = raise_descriptor_limit()
    if limit != before:
        log.info("descriptor_limit_raised", before=before, limit=limit)
    # For name resolution and the rendering of metrics: a call that hangs must not block the others.
    loop.set_default_executor(ThreadPoolExecutor(_EXECUTOR_THREADS, thread_name_prefix="runward"))
    components = build_components(settings, clock, log)
    await components.open()
    docs = DocsHandlers.load()
    token_secret = await components.token_secret()
    realtime = routes.realtime_hub(components, token_secret)
    public, ops = await _open_listeners(
        components,
        routes.public_server(components, docs, realtime, ExecutionIds(token_secret)),
        routes.ops_server(components, docs),
        open_listeners or listeners_from_settings(settings.server),
    )
    if components.store.durability_warning is not None:
        log.warning("store_not_durable", why=components.store.durability_warning)
    await components.start([*public.addresses, *ops.addresses], attends=open_listeners is None)
    SystemAudit(components.audit).started(settings)
    garbage_collection.resume_after_start()
    return_large_blocks()
    return Application(components, public, ops, realtime, _start_reloader(components, source))


async def _open_listeners(
    components: Components, public_server: Server, ops_server: Server, open_listeners: OpenListeners
) -> tuple[Listener, Listener]:
    """Open the ports before stored runs are recovered: if a port is taken, no start may be on its way."""
    try:
        return await open_listeners(public_server, ops_server, components.tls)
    except OSError:
        await components.background_tasks.close()
        raise


def _start_reloader(components: Components, source: ConfigSource | None) -> Reloader | None:
    if source is None:
        return None
    reloader = Reloader(
        source,
        components.snapshot,
        components.reload_hooks(),
        components.clock,
        components.metrics,
        components.log,
        SystemAudit(components.audit),
    )
    reloader.start()
    return reloader


def return_large_blocks() -> None:
    """Let glibc return blocks over 1 MiB to the system as soon as they are freed; other allocators are not changed.

    By default it does so only until the first large block was freed; then it keeps them, fragmented, in its heap.
    """
    try:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
    except (AttributeError, OSError, TypeError):  # no glibc
        return
