"""Components together: the order in which they are closed."""

from __future__ import annotations

from pathlib import Path

import structlog
from structlog.testing import LogCapture

from gateway.app.components import build_components
from gateway.clock import SystemClock
from gateway.settings import Settings
from gateway.store.sqlite.store import SqliteStore
from tests.app.test_snapshot import A

DAILY = 1000


async def test_the_exact_daily_usage_is_stored_at_the_end(tmp_path: Path) -> None:
    """While requests are served, the store is a part of the quota ahead."""
    path, clock, captured = tmp_path / "runs.db", SystemClock(), LogCapture()
    log = structlog.wrap_logger(None, processors=[captured])
    given = {
        "providers": {"a": A},
        "clients": {"c": {"workflows": ["*"], "limits": {"daily": DAILY}}},
        "store": {"url": f"sqlite:///{path}"},
    }
    components = build_components(Settings.model_validate(given), clock, log)
    await components.open()
    (await components.limiter.admit("c", "w", "a", deadline=clock.monotonic() + 10)).release()
    await components.close()
    assert [] == captured.entries
    store = SqliteStore(path, clock)
    await store.open()
    ((client, (used, _)),) = (await store.get_daily_usage()).items()
    await store.close()
    assert ("c", 1) == (client, used)
