"""Worker status: round trip, and refusal of anything else."""

from __future__ import annotations

import pytest

from gateway.observability.metrics import Metrics
from gateway.supervisor.worker_status import WorkerStatus
from tests.observability.test_metrics import record_each_metric_once


def test_a_status_arrives_as_it_was_sent() -> None:
    """Every value of every family."""
    metrics = Metrics()
    record_each_metric_once(metrics)
    status = WorkerStatus(7, ready=True, metrics=metrics.export(), store_fails=True)
    line = status.encode()
    assert (1, b"\n") == (line.count(b"\n"), line[-1:])
    received = WorkerStatus.decode(line)
    assert (7, True, True) == (received.reply_to, received.ready, received.store_fails)
    assert metrics.render() == Metrics.from_export(received.metrics).render()


@pytest.mark.parametrize("line", [b"", b"\n", b"{}", b'{"question":1', b"[1]", b"\xff"])
def test_a_malformed_status_is_refused(line: bytes) -> None:
    """A worker killed during a write leaves a partial line."""
    with pytest.raises(ValueError, match="is not a worker status"):
        WorkerStatus.decode(line)
