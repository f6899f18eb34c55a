"""Garbage collection of a server: none while it starts, and less often afterwards."""

from __future__ import annotations

import gc

_THRESHOLD = 10_000
"""Objects from one collection of the youngest to the next."""


def pause() -> None:
    """Collect nothing for now: a start makes many objects, of which a few hundred at most are garbage."""
    gc.disable()


def resume_after_start() -> None:
    """Collect from now on, but not what the start has made, which stays."""
    gc.freeze()
    gc.set_threshold(_THRESHOLD, 20, 50)
    gc.enable()
