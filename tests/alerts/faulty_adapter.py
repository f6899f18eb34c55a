"""Adapter with two defects, for alerts that no fault of a provider can cause: a blocked event loop and an exception.

Its steps hold up the event loop, then divide by nothing. It is found by the entry point that `install` writes.
"""

from __future__ import annotations

import time
from pathlib import Path

from providers.contract import KeyHeader, Outcome, Pause, Run, Steps

BLOCKING_SECONDS = 0.08


class FaultyAdapter:
    """Adapter whose steps block the event loop and then raise."""

    base_url = "https://clumsy.example"
    key_header = KeyHeader("X-Key")
    supports_versions = False
    supports_nodes = False

    def __init__(self, dialect: str | None = None) -> None:
        assert dialect is None

    def steps(self, run: Run) -> Steps:
        """Block the event loop, then raise ZeroDivisionError."""
        time.sleep(BLOCKING_SECONDS)
        yield Pause(str(1 // (len(run.input) - len(run.input))))
        return Outcome(succeeded=True)

    def follow(self, provider_run_id: str) -> None:
        """Raise, because its runs cannot be polled."""


def install(directory: Path) -> None:
    """Install the adapter's entry point into `directory`, for a Python process with `directory` on its path."""
    package = directory / "clumsy-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: clumsy\nVersion: 1\n")
    (package / "entry_points.txt").write_text(f"[runward.providers]\nclumsy = {__name__}:FaultyAdapter\n")
