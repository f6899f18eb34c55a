"""Requests that the participants of the comparison get, and the size of what they install."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bench.compare.__main__ import PEERS
from bench.compare.native_programs import LARGE, SMALL, LoadResult, parse_result
from bench.compare.peer import Peer, Place, size_of


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_all_bodies_have_the_same_size(peer: Peer, size: int, tmp_path: Path) -> None:
    head, _, body = peer.request(Place(tmp_path, tmp_path, 1, 2), size).partition(b"\r\n\r\n")
    assert size == len(body)
    assert f"Content-Length: {size}" in head.decode().splitlines()
    assert isinstance(json.loads(body), dict)


def test_names_are_unique() -> None:
    assert len(PEERS) == len({peer.name for peer in PEERS}) == len({peer.title for peer in PEERS})


def test_lost_requests_and_other_statuses_have_failed() -> None:
    line = (
        '{"requests": 10, "per_second": 5.0, "p50": 1.5, "p99": 2.5, "lost": 2, "due": 10, "statuses": '
        '{"200": 7, "429": 3}}'
    )
    assert LoadResult(10, 5.0, 1.5, 2.5, failed=5) == parse_result(line)


def test_a_file_with_two_names_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    file = tmp_path / "below" / "file"
    file.write_bytes(os.urandom(100_000))
    alone = size_of(tmp_path)
    os.link(file, tmp_path / "other")
    assert 100_000 <= alone == size_of(tmp_path)
