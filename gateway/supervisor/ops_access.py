"""Settings of a supervisor that are hot reloaded: TLS and keys of its operations port, and the level of its log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.app import access_factories, tls
from gateway.app.file_watcher import watch_config_files
from gateway.app.reload import ConfigSource
from gateway.app.tokens import login_config
from gateway.clock import Clock
from gateway.http.ops_authentication import OpsAuthenticator
from gateway.observability.level_control import LevelControl
from gateway.observability.logger_protocol import Logger
from gateway.settings import Settings, SettingsError
from gateway.supervisor.attention import AttentionSnapshot
from gateway.supervisor.lazy_store import LazyStore


@dataclass(slots=True)
class OpsAccess:
    """TLS context and authenticator of the operations port, and the level of the log.

    `reload_hooks` apply another configuration of the attention list and of the console.
    """

    authenticator: OpsAuthenticator
    context: tls.ReloadableContext | None
    log_level: LevelControl
    reload_hooks: Sequence[Callable[[AttentionSnapshot], None]] = ()

    @classmethod
    def build(cls, settings: Settings, store: LazyStore, clock: Clock, log: Logger) -> OpsAccess:
        """Build all from the settings. Raises SettingsError."""
        authenticator = access_factories.ops_authenticator(
            settings, access_factories.ops_keys(settings), store, clock, log
        )
        context = tls.server_context(settings.server.resolved_ops_tls, "server.ops_tls")
        log_level = LevelControl(settings.logs.level, clock, log)
        return cls(authenticator, tls.make_reloadable(context), log_level)

    async def follow(self, source: ConfigSource, clock: Clock, log: Logger) -> None:
        """Apply changes of the configuration until cancelled; invalid ones are ignored, as the workers log them."""
        async for _ in watch_config_files(source.watched, clock, log):
            if await asyncio.to_thread(source.changed):
                await self._reload(source)

    async def _reload(self, source: ConfigSource) -> None:
        try:
            settings = await asyncio.to_thread(source.load)
            context = await asyncio.to_thread(tls.server_context, settings.server.resolved_ops_tls, "server.ops_tls")
            attention, login = AttentionSnapshot.build(settings), login_config(settings)
        except SettingsError:
            return
        self.authenticator.reconfigure(access_factories.ops_keys(settings), login)
        tls.replace(self.context, context)
        self.log_level.reconfigure(settings.logs.level)
        for hook in self.reload_hooks:
            hook(attention)
