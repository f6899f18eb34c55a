"""Audit records of what the gateway itself does: start, reload of the configuration, graceful shutdown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version

from gateway.audit.entry import AuditEntry, Result
from gateway.audit.recorder import AuditRecorder
from gateway.settings import Settings
from gateway.settings.configuration_hash import configuration_hash

START, RELOAD, DRAIN = "gateway.start", "configuration.reload", "gateway.drain"
ACTIONS = (START, RELOAD, DRAIN)


@dataclass(frozen=True, slots=True)
class SystemAudit:
    """Records with the actor `system`. A configuration is told by its hash, which has no secrets."""

    recorder: AuditRecorder

    def started(self, settings: Settings) -> None:
        """Record that the ports are open, with the configuration in use."""
        details = {"configuration": configuration_hash(settings), "version": version("runward")}
        self.recorder.record_later(AuditEntry(self.recorder.new_act(), START, "succeeded", details=details))

    def reload_refused(self, before: Settings, after: Settings | None, errors: int) -> None:
        """Record that the configuration was not replaced. `after`: None if it could not be read."""
        details = {**_hashes(before, after), "errors": str(errors)}
        self.recorder.record_later(AuditEntry(self.recorder.new_act(), RELOAD, "refused", details=details))

    @asynccontextmanager
    async def reload(self, before: Settings, after: Settings) -> AsyncIterator[None]:
        """Record that the configuration is replaced within the context, and how that ends."""
        act, details = self.recorder.new_act(), _hashes(before, after)
        await self.recorder.record(AuditEntry(act, RELOAD, "begun", details=details))
        result: Result = "failed"
        try:
            yield
            result = "succeeded"
        finally:
            self.recorder.record_later(AuditEntry(act, RELOAD, result, details=details))

    @asynccontextmanager
    async def drain(self) -> AsyncIterator[None]:
        """Record that the graceful shutdown is within the context, and how it ends; nothing waits for the store."""
        act = self.recorder.new_act()
        self.recorder.record_later(AuditEntry(act, DRAIN, "begun"))
        result: Result = "failed"
        try:
            yield
            result = "succeeded"
        finally:
            self.recorder.record_later(AuditEntry(act, DRAIN, result))


def _hashes(before: Settings, after: Settings | None) -> dict[str, str]:
    return {"before": configuration_hash(before), "after": "" if after is None else configuration_hash(after)}
