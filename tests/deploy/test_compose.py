"""compose.yaml, validated by Docker's parser; configurations of its services, validated by each program."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from gateway.settings import load
from tests.alerts.prometheus_tools import run_promtool
from tests.support.process import ROOT
from tests.support.valkey import bundled_server, free_port

COMPOSE = ROOT / "compose.yaml"
FOLDER = ROOT / "deploy" / "compose"
_PARSER = Path(sys.executable).with_name("docker-compose")
_PATIENCE = 60.0
_START = 20.0

needs_parser = pytest.mark.skipif(not _PARSER.exists(), reason="Docker's parser comes for Linux only")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="secrets.sh gives files to the containers' users: root only")


def parsed(path: Path) -> subprocess.CompletedProcess[str]:
    """Return a file as Docker Compose resolves it (JSON)."""
    command = [str(_PARSER), "--file", str(path), "config", "--format", "json"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """Return the services by name, as Docker Compose resolves them."""
    found: dict[str, Any] = json.loads(parsed(COMPOSE).stdout)["services"]
    return found


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """Folder of secrets written by deploy/compose/secrets.sh."""
    script = tmp_path / "secrets.sh"
    shutil.copyfile(FOLDER / "secrets.sh", script)
    subprocess.run(["sh", script], input="pl_0123456789\nps_0123456789\n", text=True, check=True, timeout=_PATIENCE)
    return tmp_path / "secrets"


@needs_parser
def test_dockers_parser_accepts_it_and_refuses_a_key_that_it_does_not_know(tmp_path: Path) -> None:
    told = parsed(COMPOSE)
    assert (0, "") == (told.returncode, told.stderr)
    (tmp_path / "compose.yaml").write_text(COMPOSE.read_text().replace("read_only:", "readonly:"))
    told = parsed(tmp_path / "compose.yaml")
    assert 0 != told.returncode
    assert re.search(r"services\.\w+\.readonly ", told.stderr)


@needs_parser
def test_every_service_is_hardened_and_bounded(services: dict[str, Any]) -> None:
    """R101."""
    assert {"gateway", "grafana", "prometheus", "valkey"} == set(services)
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert ["ALL"] == service["cap_drop"], name
        assert ["no-new-privileges:true"] == service["security_opt"], name
        assert {"mem_limit", "pids_limit", "restart"} <= set(service), name
        assert re.search(r":v?\d+\.\d+\.\d+|^runward:local$", service["image"]), name
        assert "privileged" not in service, name


@needs_parser
def test_only_the_public_port_of_the_gateway_is_reachable_from_other_machines(services: dict[str, Any]) -> None:
    ports = {(name, port["target"], port["host_ip"]) for name in services for port in services[name].get("ports", [])}
    assert {("gateway", 8080, "0.0.0.0"), ("prometheus", 9090, "127.0.0.1"), ("grafana", 3000, "127.0.0.1")} == ports


@needs_parser
def test_it_is_stopped_after_the_gateway_could_have_drained(services: dict[str, Any]) -> None:
    server = yaml.safe_load((FOLDER / "gateway" / "gateway.yaml").read_text())["server"]
    minutes, seconds = re.fullmatch(r"(\d+)m(\d+)s", services["gateway"]["stop_grace_period"]).groups()  # type: ignore[union-attr]
    needed = sum(int(server[name].removesuffix("s")) for name in ("drain", "grace")) + 5
    assert int(minutes) * 60 + int(seconds) >= needed


@needs_parser
def test_every_file_that_is_mounted_is_there(services: dict[str, Any]) -> None:
    """Except the secrets, which secrets.sh creates."""
    mounted = [Path(v["source"]) for one in services.values() for v in one["volumes"] if v["type"] == "bind"]
    made_later = FOLDER / "secrets"
    assert [] == [path for path in mounted if made_later not in path.parents and not path.exists()]


@needs_root
def test_the_gateways_configuration_is_valid_with_the_secrets_that_the_script_writes(secrets: Path) -> None:
    settings = load(FOLDER / "gateway" / "gateway.yaml", {"RUNWARD_SECRETS_DIR": str(secrets / "gateway")})
    assert [] == settings.warnings()
    assert "pl_0123456789" == settings.providers["promptlayer"].api_key.get_secret_value()
    password = settings.store.password
    assert password is not None
    assert (secrets / "store" / "password").read_text() == password.get_secret_value()
    assert 48 == len(password.get_secret_value())


@needs_root
def test_the_script_keeps_what_is_there_and_each_user_reads_its_own(secrets: Path) -> None:
    before = (secrets / "store" / "password").read_text()
    command = ["sh", str(secrets.parent / "secrets.sh")]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True, timeout=_PATIENCE)
    assert before == (secrets / "store" / "password").read_text()
    owners = {(path.parent.name, path.stat().st_uid, path.stat().st_mode & 0o777) for path in secrets.glob("*/*")}
    assert {("gateway", 10001, 0o600), ("grafana", 472, 0o600), ("store", 999, 0o600)} == owners


async def test_promtool_accepts_the_configuration_of_prometheus(tmp_path: Path) -> None:
    text = (FOLDER / "prometheus.yaml").read_text()
    told = text.replace("/etc/prometheus/rules/*.yaml", str(ROOT / "config" / "prometheus-rules.yaml"))
    assert text != told
    (tmp_path / "prometheus.yaml").write_text(told)
    code, written = await run_promtool("check", "config", str(tmp_path / "prometheus.yaml"))
    assert 0 == code, written
    assert "rules found" in written


@needs_parser
def test_valkey_requires_the_password_and_persists_writes(services: dict[str, Any], tmp_path: Path) -> None:
    """The command of the container, executed with a real server."""
    [script] = services["valkey"]["command"]
    port = free_port()
    config = (FOLDER / "valkey.conf").read_text().replace("dir /data", f"dir {tmp_path}").replace("6379", str(port))
    (tmp_path / "valkey.conf").write_text(config.replace("bind * -::*", "bind 127.0.0.1"))
    (tmp_path / "password").write_text("0123456789abcdef")
    local = (
        script.replace("$$", "$").replace("/etc/valkey/", f"{tmp_path}/").replace("/run/secrets/store/", f"{tmp_path}/")
    )
    local = local.replace("valkey-server", bundled_server())
    process = subprocess.Popen(["sh", "-ec", local], stdout=subprocess.DEVNULL)
    try:
        told = _settings_of(port, "0123456789abcdef")
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    finally:
        process.terminate()
        assert 0 == process.wait(_START)
    assert ("yes", "always", "noeviction") == (told["appendonly"], told["appendfsync"], told["maxmemory-policy"])
    assert b"0123456789abcdef" not in shown


def _settings_of(port: int, password: str) -> dict[str, str]:
    end = time.monotonic() + _START
    while True:
        try:
            found: dict[str, str] = redis.Redis(port=port, password=password, decode_responses=True).config_get("*")  # type: ignore[assignment]
        except redis.ConnectionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return found


def test_grafana_finds_prometheus_and_the_dashboards_where_they_are_mounted() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())["services"]
    [source] = yaml.safe_load((FOLDER / "grafana" / "datasources.yaml").read_text())["datasources"]
    [provider] = yaml.safe_load((FOLDER / "grafana" / "dashboards.yaml").read_text())["providers"]
    assert "http://prometheus:9090" == source["url"]
    assert set(compose["prometheus"]["networks"]) & set(compose["grafana"]["networks"])
    assert f"./config/grafana:{provider['options']['path']}:ro" in compose["grafana"]["volumes"]
