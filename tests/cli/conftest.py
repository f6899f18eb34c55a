"""Fixtures: the command line in this process, and a stub gateway."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pytest

from gateway.cli import main
from tests.cli.stub_gateway import StubGateway


@dataclass(frozen=True, slots=True)
class CommandResult:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


class RunCommand(Protocol):
    """Type of the fixture `runward`."""

    def __call__(self, *words: str, stdin: str = "", **env: str) -> CommandResult:
        """Run a command whose environment has only these settings of Runward."""


@pytest.fixture
def runward(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunCommand:
    """Run `main` in this process."""
    for name in (name for name in os.environ if name.startswith("RUNWARD_")):
        monkeypatch.delenv(name)

    def typed(*words: str, stdin: str = "", **env: str) -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["runward", *words])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return CommandResult(int(ended.value.code or 0), out, err)

    return typed


@pytest.fixture
def stub() -> Iterator[StubGateway]:
    """Stub gateway on loopback with a scripted answer to `POST /run`."""
    with StubGateway() as running:
        yield running
