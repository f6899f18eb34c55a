"""`runward check`: what is in a configuration, or what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from tests.configuration import SECRETS, gateway_config, merged
from tests.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from providers.contract import JsonValue
    from tests.cli.conftest import Runward


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return tmp_path / "gateway.yaml"


def write(path: Path, **overrides: JsonValue) -> str:
    """Write the configuration of the tests, changed, and name the file."""
    path.write_text(yaml.safe_dump(gateway_config("http://127.0.0.1:1", "http://127.0.0.1:2", **overrides)))
    return str(path)


def test_the_example_configuration_is_sound(runward: Runward) -> None:
    """R103: `check config/gateway.yaml` works, and names what it found."""
    said = runward("check", str(ROOT / "config" / "gateway.yaml"), **SECRETS)
    assert (0, "") == (said.code, said.err)
    for found in (
        "https://api.promptlayer.com",
        "promptlayer/support-triage",
        "production",
        "triage-studio",
        "support-*",
        "20/s, burst 40, concurrency 50, daily 10000",
        "(providers: 2, workflows: 2, clients: 1)",
    ):
        assert found in said.out


def test_no_secret_is_shown(runward: Runward, written: Path) -> None:
    """R79, R84: that a key was found is said, and no more."""
    said = runward("check", write(written), **SECRETS)
    assert 0 == said.code
    assert said.out.count("found") == 2
    assert [] == [name for name, secret in SECRETS.items() if secret in said.out + said.err]


@pytest.mark.parametrize("way", ["argument", "option", "environment"])
def test_the_file_is_named_in_three_ways(runward: Runward, written: Path, way: str) -> None:
    path = write(written)
    words = {"argument": [path], "option": ["--config", path], "environment": []}[way]
    env = {"RUNWARD_CONFIG": path} if way == "environment" else {}
    assert 0 == runward("check", *words, **SECRETS, **env).code


def test_a_missing_secret_is_named(runward: Runward, written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R84: the setting and the variable are named, in one line, and nothing else is wrong."""
    monkeypatch.delenv("PROMPTLAYER_API_KEY", raising=False)
    said = runward("check", write(written), PROMPT_STUDIO_API_KEY=SECRETS["PROMPT_STUDIO_API_KEY"])
    assert (2, "") == (said.code, said.out)
    [line] = said.err.splitlines()
    assert "providers.promptlayer.api_key" in line
    assert "PROMPTLAYER_API_KEY" in line


@pytest.mark.parametrize(
    ("overrides", "place"),
    [
        ({"serverr": {}}, "serverr"),
        ({"providers": {"promptlayer": {"adapter": "none_such"}}}, "providers.promptlayer.adapter"),
        ({"providers": {"prompt_studio": {"dialect": "klingon"}}}, "providers.prompt_studio.dialect"),
        ({"workflows": {"studio": {"label": "production"}}}, "workflows.studio"),
        ({"workflows": {"studio": {"fallback": ["nobody"]}}}, "workflows.studio.fallback[0]"),
    ],
)
def test_what_a_gateway_would_refuse_is_refused(
    runward: Runward, written: Path, overrides: dict[str, JsonValue], place: str
) -> None:
    """R84: with the place, and without a traceback; what only an adapter can know is no exception."""
    said = runward("check", write(written, **overrides), **SECRETS)
    assert (2, "") == (said.code, said.out)
    [line] = said.err.splitlines()
    assert place in line


def test_each_thing_that_is_wrong_has_its_line(runward: Runward, written: Path) -> None:
    said = runward("check", write(written, serverr={}, logs={"level": "loud"}), **SECRETS)
    lines = said.err.splitlines()
    assert 2 == len(lines)
    assert {"runward"} == {line.partition(":")[0] for line in lines}


def test_certificates_that_are_none_are_refused(runward: Runward, written: Path, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    path = write(written, providers={"promptlayer": {"base_url": "https://127.0.0.1:1", "ca_file": "ca.pem"}})
    said = runward("check", path, **SECRETS)
    assert (2, "runward: providers.promptlayer.ca_file: holds no certificate\n") == (said.code, said.err)


def test_what_can_not_be_meant_is_a_warning(runward: Runward, written: Path) -> None:
    """It does not stop a gateway, so the exit code stays 0."""
    old: JsonValue = {"hash": "sha256:" + "0" * 64, "expires": "2020-01-01"}
    config = merged(
        gateway_config("http://127.0.0.1:1", "http://127.0.0.1:2"),
        {"clients": {"gone": {"keys": [old], "workflows": ["nothing-*"]}}, "store": {"url": "memory://"}},
    )
    written.write_text(yaml.safe_dump(config))
    said = runward("check", str(written), **SECRETS)
    assert 0 == said.code
    warnings = [line for line in said.out.splitlines() if line.startswith("warning: ")]
    for place in ("clients.gone.workflows[0]: matches no workflow", "clients.gone.keys[0]: has expired"):
        assert 1 == sum(place in line for line in warnings)


def test_only_keys_that_still_work_are_counted(runward: Runward, written: Path) -> None:
    """The next expiry is the first one to come."""
    ends = ("2020-01-01", "2998-01-01", "2999-01-01")
    keys: list[JsonValue] = [{"hash": f"sha256:{n:064}", "expires": end} for n, end in enumerate(ends)]
    said = runward("check", write(written, clients={"three": {"keys": keys, "workflows": ["*"]}}), **SECRETS)
    [row] = [line.split() for line in said.out.splitlines() if line.split()[:1] == ["three"]]
    assert ["three", "2", "2998-01-01", "00:00", "UTC"] == row[:5]


def test_a_pattern_is_shown_as_it_stands(runward: Runward, written: Path) -> None:
    """Brackets mean something to whatever draws the tables."""
    said = runward("check", write(written, clients={"one": {"workflows": ["stu[bold]*"]}}), **SECRETS)
    assert "stu[bold]*" in said.out
