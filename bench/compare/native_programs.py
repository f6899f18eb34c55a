"""The fake upstream and the load generator: C programs, so that they are not the limit of what is measured."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bench.compare.peer import NotAvailable, run_installer
from bench.processes import pinned

SOURCES = Path(__file__).with_name("native")
SMALL, LARGE = 400, 150_000  # bytes of a body, of requests and answers alike
_CORE = 1  # of the load generator and the upstream; the gateway has core 0


@dataclass(frozen=True, slots=True)
class Load:
    """Load of one round; `rate` 0 is a closed loop. Requests still under way at its end are waited for up to 10 s."""

    connections: int
    seconds: float
    rate: int = 0


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Times in milliseconds; `failed` counts lost requests and those with another status than 200."""

    requests: int
    per_second: float
    p50: float
    p99: float
    failed: int


def compile_programs(folder: Path) -> None:
    """Compile the programs into `folder`. Raises NotAvailable."""
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if compiler is None:
        raise NotAvailable("a C compiler is required (cc)")
    for source in SOURCES.glob("*.c"):
        run_installer([compiler, "-O2", "-D_GNU_SOURCE", "-o", str(folder / source.stem), str(source)])


class FakeUpstream(AbstractContextManager["FakeUpstream"]):
    """Answers chat completions and runs, with bodies of equal size."""

    def __init__(self, programs: Path, small: int = SMALL, large: int = LARGE) -> None:
        command = [str(programs / "fake_upstream"), str(small), str(large)]
        with pinned(_CORE):
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def run_load(
    programs: Path, port: int, request: bytes, load: Load, *, meanwhile: Callable[[], None] | None = None
) -> LoadResult:
    """Run one round; `meanwhile` is called about ten times a second during it."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(request)
        file.flush()
        program = str(programs / "load_generator")
        numbers = [str(port), str(load.connections), str(load.seconds), str(load.rate)]
        with pinned(_CORE):
            process = subprocess.Popen([program, *numbers, file.name], stdout=subprocess.PIPE, text=True)
        while meanwhile is not None and process.poll() is None:
            meanwhile()
            time.sleep(0.1)
        out, _ = process.communicate(timeout=load.seconds + 30)
    if process.returncode:
        raise NotAvailable("the load generator could not connect")
    return parse_result(out)


def parse_result(line: str) -> LoadResult:
    """Read the load generator's line of JSON."""
    found = json.loads(line)
    not_200 = sum(count for status, count in found["statuses"].items() if status != "200")
    return LoadResult(found["requests"], found["per_second"], found["p50"], found["p99"], found["lost"] + not_200)
