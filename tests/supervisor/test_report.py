"""What a worker says arrives as it was said, and nothing else is taken for it."""

from __future__ import annotations

import pytest

from gateway.metrics import Metrics
from gateway.supervisor.report import Report
from tests.test_metrics import everything_once


def test_a_report_arrives_as_it_was_said() -> None:
    """Each number of each family."""
    metrics = Metrics()
    everything_once(metrics)
    report = Report(7, ready=True, numbers=metrics.numbers(), store_fails=True)
    line = report.line()
    assert (1, b"\n") == (line.count(b"\n"), line[-1:])
    heard = Report.read(line)
    assert (7, True, True) == (heard.question, heard.ready, heard.store_fails)
    assert metrics.render() == Metrics.showing(heard.numbers).render()


@pytest.mark.parametrize("line", [b"", b"\n", b"{}", b'{"question":1', b"[1]", b"\xff"])
def test_what_is_no_report_is_refused(line: bytes) -> None:
    """Half a line is what one leaves who is killed while it speaks."""
    with pytest.raises(ValueError, match="not what a worker says"):
        Report.read(line)
