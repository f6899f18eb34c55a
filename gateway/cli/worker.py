"""`runward worker`: one of the processes behind `runward serve --workers`."""

from __future__ import annotations

from pathlib import Path

from gateway import logs
from gateway.cli.failure import Failure
from gateway.cli.serve import event_loop, starting
from gateway.clock import SystemClock
from gateway.settings import ConfigFiles
from gateway.supervisor import duty
from gateway.supervisor.berth import Berth


def worker(berth: str, config: Path | None) -> None:
    """Serve in the place that `berth` describes; Failure as `serve` has it."""
    try:
        place = Berth.read(berth)
    except ValueError:
        raise Failure("only `runward serve --workers` starts workers") from None
    source = ConfigFiles(config)
    with starting():
        settings = place.applied(source.load())

    async def work() -> None:
        clock = SystemClock()
        log = logs.configure(settings.logs.level, settings.logs.format, clock, worker=place.worker)
        with starting():
            await duty.serve(place, settings, clock, log, source)

    event_loop()(work())
