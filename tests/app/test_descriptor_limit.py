"""Limit of open descriptors: raised to the hard limit at the start of the process, within a bound."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from gateway.app.listeners import MAX_DESCRIPTORS, raise_descriptor_limit
from tests.support.configuration import PROVIDER_SECRETS, gateway_config
from tests.support.process import start_gateway

UNLIMITED = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "after"),
    [
        (1024, 4096, 4096),
        (4096, 4096, 4096),
        (1024, 2 * MAX_DESCRIPTORS, MAX_DESCRIPTORS),
        (1024, UNLIMITED, MAX_DESCRIPTORS),
        (UNLIMITED, UNLIMITED, UNLIMITED),
        (2 * MAX_DESCRIPTORS, UNLIMITED, 2 * MAX_DESCRIPTORS),
    ],
)
def test_the_soft_limit_is_raised_to_the_hard_limit_within_a_bound(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, after: int
) -> None:
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, value: limits.append(value))
    assert (soft, after) == raise_descriptor_limit()
    assert (after, hard) == limits[-1]


@pytest.mark.parametrize("error", [OSError(), ValueError()])
def test_a_limit_that_cannot_be_raised_stays(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert (1024, 1024) == raise_descriptor_limit()


@pytest.mark.slow
async def test_the_process_raises_its_limit_and_logs_it(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        config = gateway_config("http://127.0.0.1:9", "http://127.0.0.1:9")
        gateway = await start_gateway(tmp_path, config, PROVIDER_SECRETS, fork=False)  # inherits the limit
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    expected = min(hard, MAX_DESCRIPTORS) if hard != UNLIMITED else MAX_DESCRIPTORS
    assert (expected, hard) == resource.prlimit(gateway.pid, resource.RLIMIT_NOFILE)
    [line] = gateway.logs("descriptor_limit_raised")
    assert (256, expected) == (line["before"], line["limit"])
    assert 0 == await gateway.stop()
