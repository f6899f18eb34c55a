"""Propagation of `traceparent`."""

from __future__ import annotations

import re

import pytest

from gateway.http.traceparent import read_traceparent
from tests.support.clock import ManualClock

VALID = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_valid_traceparent_is_carried_as_it_is() -> None:
    """R94."""
    assert VALID == read_traceparent([VALID], ManualClock())
    assert VALID == read_traceparent([f" {VALID}\t"], ManualClock())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("01" + VALID[2:], VALID),
        ("fe" + VALID[2:53] + "ff-more.of-it", VALID),
        ("cc" + VALID[2:53] + "02", VALID[:53] + "00"),
    ],
)
def test_a_later_version_is_read_as_far_as_version_00_defines_it(value: str, expected: str) -> None:
    """W3C Trace Context, 4.3: trace id, parent id and the flag `sampled`; the propagated version is 00."""
    assert expected == read_traceparent([value], ManualClock())


def test_without_one_there_is_none() -> None:
    """The gateway does not start traces."""
    assert read_traceparent([], ManualClock()) == ""


@pytest.mark.parametrize(
    "values",
    [
        [""],
        ["00"],
        [VALID.upper()],
        [VALID + "-extra"],
        ["ff" + VALID[2:]],
        ["00-" + "0" * 32 + VALID[35:]],
        [VALID[:36] + "0" * 16 + "-01"],
        [VALID + "\r\nX-Evil: 1"],
        [VALID, VALID],
        [VALID + "-"],
        ["01" + VALID[2:] + "x"],
        ["1-" + VALID[3:]],
    ],
)
def test_an_invalid_traceparent_is_replaced(values: list[str]) -> None:
    """R94: by a new, valid one."""
    made = read_traceparent(values, ManualClock())
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", made)
    assert made not in values
