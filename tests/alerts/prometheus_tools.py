"""Programs `promtool` and `prometheus`: look-up, skip if absent, and execution."""

from __future__ import annotations

import asyncio
import os
import shutil

import pytest

REQUIRED = "RUNWARD_REQUIRE_PROMETHEUS"
"""Set to 1 where the programs have to be there: then their absence is a failure."""

_TIMEOUT = 60.0


def find_program(name: str) -> str:
    """Return the path of `promtool` or `prometheus`; skip the test if absent, or fail if it is required."""
    path = shutil.which(name)
    if path is None:
        reason = f"{name} is not installed (Debian: apt-get install --no-install-recommends prometheus)"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{reason}, and {REQUIRED}=1 says that it has to be")
        pytest.skip(reason)
    return path


async def run_promtool(*arguments: str, stdin: bytes = b"") -> tuple[int, str]:
    """Run promtool; returns the exit code and the output."""
    process = await asyncio.create_subprocess_exec(
        find_program("promtool"), *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_TIMEOUT):
            written, _ = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, written.decode()
