"""Failed asserts of helper modules name the values."""

from __future__ import annotations

import pytest

from tests.support import callback_receiver
from tests.support.fake_upstream.connection import ConnectionRecord, ReceivedRequest


def test_an_assert_of_a_helper_module_shows_what_differs() -> None:
    delivery = ReceivedRequest(ConnectionRecord(1, 0.0), 0.0, 0.0, b"POST /hook HTTP/1.1", b'{"type": "run.started"}')
    with pytest.raises(AssertionError, match=r"'run\.finished' == 'run\.started'"):
        callback_receiver.delivered_run(delivery)
