"""What is written down about a run before it goes on, so that whoever finds it after a crash knows how far it was."""

from __future__ import annotations

from typing import Protocol, TypeVar

RunT_contra = TypeVar("RunT_contra", contravariant=True)


class Journal(Protocol[RunT_contra]):
    """Kept for a run that must survive the process. Each word returns once it is durable."""

    async def record_dispatch(self, run: RunT_contra) -> None:
        """A start is about to be sent. Raises StoreError where that can not be written down: then nothing is sent."""

    async def record_rejection(self, run: RunT_contra) -> None:
        """The start that was sent last is definitely none, and nothing that was sent before may be one."""

    async def record_provider_run_id(self, run: RunT_contra) -> None:
        """The provider's own id of the run is known."""
