"""Admin API for the console: figures of the whole gateway over time, `GET /api/overview`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from gateway.clock import Clock, format_rfc3339
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.json import strict_json
from gateway.observability.metrics_history import OUTCOMES, MetricsHistory, Step, gauge, total_of
from gateway.problems import invalid_parameter
from gateway.runs.rendering import JSON_CONTENT_TYPE
from gateway.settings import Settings

WINDOWS = {"5m": (300, 5), "15m": (900, 15), "1h": (3600, 60), "6h": (21_600, 300)}
"""Length of a window and of its steps in seconds, by name."""
DEFAULT_WINDOW = "15m"

_AVAILABLE, _DURABLE = "runward_store_available", "runward_store_durable"
_RELOAD_OK, _RELOADED_AT = (
    "runward_config_last_reload_success",
    "runward_config_last_reload_success_timestamp_seconds",
)
_GAUGES = (_AVAILABLE, _DURABLE)
_PERCENTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}


@dataclass(slots=True)
class GatewayState:
    """What the console shows of this replica, all of its workers together. `started_at`: seconds since 1970.

    `settings`: those in use.
    """

    settings: Settings
    history: MetricsHistory
    is_draining: Callable[[], bool]
    started_at: float
    workers: int = 1

    def reconfigure(self, settings: Settings) -> None:
        """Show these settings from now on."""
        self.settings = settings


@dataclass(frozen=True, slots=True)
class OverviewHandlers:
    """Handlers for the operations port."""

    state: GatewayState
    clock: Clock

    def routes(self) -> list[Route]:
        """Routes of the handlers."""
        return [Route("GET", "/api/overview", self.show, "overview", logged=False)]

    async def show(self, request: Request) -> Response:
        """Handle `GET /api/overview?window=…`: runs, durations and requests in flight, in steps of the same length."""
        name = request.query.get("window", DEFAULT_WINDOW)
        if name not in WINDOWS:
            raise invalid_parameter("window", "must be one of " + ", ".join(WINDOWS))
        window, step = WINDOWS[name]
        steps = self.state.history.steps(window, step)
        total = total_of(steps)
        document = {
            "at": format_rfc3339(self.clock.now()),
            "window_seconds": window,
            "step_seconds": step,
            "series": _series(steps),
            "totals": {
                "runs": sum(total.outcomes),
                **dict(zip(OUTCOMES, total.outcomes, strict=True)),
                **_times(total),
            },
            **self._states(),
        }
        return make_response(200, strict_json.write(document), JSON_CONTENT_TYPE)

    def _states(self) -> dict[str, object]:
        state = self.state
        gauges = state.history.read(_GAUGES)
        return {
            "store": {"available": bool(gauge(gauges, _AVAILABLE)), "durable": bool(gauge(gauges, _DURABLE))},
            "gateway": {
                "version": version("runward"),
                "started_at": _format_time(state.started_at),
                **reload_facts(state),
                "draining": state.is_draining(),
                "workers": state.workers,
            },
        }


def reload_facts(state: GatewayState) -> dict[str, object]:
    """Return when the configuration in use was loaded, and whether it is the one on disk."""
    gauges = state.history.read((_RELOAD_OK, _RELOADED_AT))
    return {
        "last_reload_at": _format_time(gauge(gauges, _RELOADED_AT)),
        "last_reload_ok": bool(gauge(gauges, _RELOAD_OK)),
    }


def milliseconds(seconds: float | None) -> float | None:
    """Return a time in milliseconds, to the microsecond."""
    return None if seconds is None else round(seconds * 1000, 3)


def _series(steps: list[Step]) -> dict[str, list[float | None]]:
    return {
        "at": [round(step.at, 3) for step in steps],
        **{name: [step.outcomes[index] for step in steps] for index, name in enumerate(OUTCOMES)},
        **{name: [milliseconds(step.duration(share)) for step in steps] for name, share in _PERCENTILES.items()},
        "overhead_p95_ms": [milliseconds(step.overhead_of(0.95)) for step in steps],
        "in_flight": [step.in_flight for step in steps],
    }


def _times(step: Step) -> dict[str, float | None]:
    return {name: milliseconds(step.duration(share)) for name, share in _PERCENTILES.items()}


def _format_time(at: float | None) -> str | None:
    return None if not at else format_rfc3339(datetime.fromtimestamp(at, UTC))
