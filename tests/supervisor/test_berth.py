"""A worker's place survives its way through a command line."""

from __future__ import annotations

import pytest

from gateway.supervisor.berth import Berth


def test_a_berth_is_read_as_it_was_written() -> None:
    berth = Berth(3, 7, (4, 5), ("::1", 9090), "redis://h/1")
    assert berth == Berth.read(berth.text())


@pytest.mark.parametrize("text", ["", "{}", "1", '{"worker":"x","channel":3,"listeners":[],"ops":["a",1]}'])
def test_what_is_no_berth_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not what a supervisor says"):
        Berth.read(text)
