"""Contract of every installed adapter: each entry point of the group is found and tested."""

from __future__ import annotations

from importlib.metadata import entry_points

from gateway.app.factories import ADAPTER_ENTRY_POINTS
from providers.testing import AdapterContract

globals().update(
    {
        f"Test_{entry.name}": type(f"Test_{entry.name}", (AdapterContract,), {"factory": staticmethod(entry.load())})
        for entry in entry_points(group=ADAPTER_ENTRY_POINTS)
    }
)
