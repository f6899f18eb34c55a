"""Bootstrap: settings of the process."""

from __future__ import annotations

import pytest

from gateway.app.bootstrap import return_large_blocks


def test_an_allocator_other_than_glibc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    return_large_blocks()
