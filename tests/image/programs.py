"""Programs required to build and run the image; skip or failure if absent."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

REQUIRED = "RUNWARD_REQUIRE_IMAGE"
"""Set to 1 where the image has to be built: then an obstacle is a failure."""
PROGRAMS = ("buildah", "debootstrap", "runc")
_LONGEST = 900.0  # seconds; a slow mirror is no failure of the image


def demand() -> None:
    """Skip the test if images cannot be built here, or fail if they are required."""
    reason = _obstacle()
    if reason is None:
        return
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{reason}, and {REQUIRED}=1 demands it")
    pytest.skip(f"the image is not built: {reason}")


def _obstacle() -> str | None:
    if platform.system() != "Linux" or codename() is None:
        return "this is no Debian"
    if os.geteuid() != 0:
        return "this is not root"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (apt-get install --no-install-recommends {' '.join(PROGRAMS)})"
    return None


def codename() -> str | None:
    """Return Debian's codename of this release; None on other systems."""
    try:
        fields = platform.freedesktop_os_release()
    except OSError:
        return None
    return fields.get("VERSION_CODENAME") if fields.get("ID") == "debian" else None


def output(command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Return the standard output of a command. Raises AssertionError with all output if it fails."""
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False, timeout=_LONGEST,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout[-8000:]}\n{done.stderr[-8000:]}"
    return done.stdout
