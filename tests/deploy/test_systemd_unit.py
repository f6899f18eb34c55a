"""systemd unit: syntax and hardening, verified by systemd-analyze."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.process import ROOT

REQUIRED = "RUNWARD_REQUIRE_SYSTEMD"
"""Set to 1 where systemd-analyze has to be there: then its absence is a failure."""
UNIT = ROOT / "deploy" / "systemd" / "runward.service"
_WORST = 2.0  # of 10; up to 4.9 systemd says "OK"
_PATIENCE = 60.0


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze; the test is skipped without it, or fails where it is required."""
    path = shutil.which("systemd-analyze")
    if path is None:
        reason = "systemd-analyze is not installed (Debian: apt-get install systemd)"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{reason}, and {REQUIRED}=1 demands it")
        pytest.skip(reason)
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=False, timeout=_PATIENCE)


def settings() -> dict[str, list[str]]:
    """Settings of the unit by name; a repeated setting has several values."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def test_its_hardening_is_rated_ok_or_better() -> None:
    """R101: by `systemd-analyze security`."""
    told = analyze("security", "--offline=true", "--no-pager", str(UNIT))
    exposure = re.search(r"Overall exposure level for runward\.service: ([\d.]+) (\w+)", told.stdout)
    assert exposure is not None, told.stdout + told.stderr
    print(f"systemd-analyze security: {exposure[1]} {exposure[2]}")  # noqa: T201
    assert float(exposure[1]) <= _WORST


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """Unknown settings and values are reported; programs are replaced by an existing one."""
    unit = tmp_path / "runward.service"
    unit.write_text(UNIT.read_text().replace("/opt/runward/bin/runward", "/bin/true"))
    told = analyze("verify", "--man=no", str(unit))
    assert (0, "") == (told.returncode, told.stderr)
    unit.write_text(unit.read_text().replace("ProtectHome=yes", "ProtectHomes=yes"))
    assert "ProtectHomes" in analyze("verify", "--man=no", str(unit)).stderr


def test_it_is_stopped_after_the_gateway_could_have_drained() -> None:
    """With the durations of config/gateway.yaml."""
    server = yaml.safe_load((ROOT / "config" / "gateway.yaml").read_text())["server"]
    [stop] = settings()["TimeoutStopSec"]
    assert seconds(stop) >= seconds(server["drain"]) + seconds(server["grace"]) + 5


def test_secrets_come_as_credentials_and_are_in_no_variable() -> None:
    found = settings()
    assert ["runward:/etc/runward/secrets"] == found["LoadCredential"]
    assert ["RUNWARD_SECRETS_DIR=%d"] == found["Environment"]
    assert {"EnvironmentFile", "PassEnvironment", "SetCredential"} & set(found) == set()
