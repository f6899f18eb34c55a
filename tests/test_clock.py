"""Times as text, and ids, which are made many at once."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest

from gateway.clock import SystemClock, format_rfc3339


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC), "2026-11-21T12:00:00.000Z"),
        (datetime(2026, 11, 21, 12, 0, 0, 999, tzinfo=UTC), "2026-11-21T12:00:00.000Z"),
        (datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), "2026-12-31T23:59:59.999Z"),
        (datetime(2028, 2, 29, 1, 2, 3, 45_678, tzinfo=UTC), "2028-02-29T01:02:03.045Z"),
        (datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC), "1969-12-31T23:59:59.500Z"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000Z"),
        (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), "9999-12-31T23:59:59.999Z"),
        (datetime(2026, 11, 21, 14, tzinfo=timezone(timedelta(hours=2))), "2026-11-21T12:00:00.000Z"),
    ],
)
def test_a_time_is_shown_in_milliseconds(time: datetime, text: str) -> None:
    """Cut off, not rounded, which could show a later second; again from the cache."""
    assert [text, text] == [format_rfc3339(time), format_rfc3339(time)]


def test_ids_are_distinct() -> None:
    """Also those of several blocks, and of threads that take them at the same time."""
    taken: list[list[str]] = [[] for _ in range(4)]

    def take(ids: list[str]) -> None:
        ids += [SystemClock().new_id() for _ in range(5_000)]

    threads = [threading.Thread(target=take, args=(ids,)) for ids in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [each for group in taken for each in group]
    assert 20_000 == len(set(ids))
    assert {24} == {len(each) for each in ids}
    assert len(ids) * 24 * 0.05 < "".join(ids).count("7") < len(ids) * 24 * 0.075  # 1/16 of the digits


def test_a_forked_process_has_other_ids() -> None:
    """Its parent and its siblings have none of them."""
    SystemClock.new_id()  # a block is in use
    made = [_ids_of_child(), _ids_of_child(), {SystemClock.new_id() for _ in range(1000)}]
    assert 3000 == len(set.union(*made))


def _ids_of_child() -> set[str]:
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write_end, " ".join(SystemClock.new_id() for _ in range(1000)).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        ids = pipe.read().split()
    os.waitpid(child, 0)
    assert 1000 == len(ids)
    return set(ids)
