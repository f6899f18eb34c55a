"""`runward check`: contents and errors of a configuration."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support.configuration import PROVIDER_SECRETS, gateway_config, merged
from tests.support.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from providers.contract import JsonValue
    from tests.cli.conftest import RunCommand


@pytest.fixture
def config_path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.yaml"


def write(path: Path, **overrides: JsonValue) -> str:
    """Write the tests' configuration with these changes; returns the path."""
    path.write_text(yaml.safe_dump(gateway_config("http://127.0.0.1:1", "http://127.0.0.1:2", **overrides)))
    return str(path)


def test_the_example_configuration_is_valid(runward: RunCommand) -> None:
    """R103: `check config/gateway.yaml` succeeds and lists the contents."""
    result = runward("check", str(ROOT / "config" / "gateway.yaml"), **PROVIDER_SECRETS)
    assert (0, "") == (result.code, result.err)
    for found in (
        "https://api.promptlayer.com",
        "promptlayer/support-triage",
        "production",
        "triage-studio",
        "support-*",
        "20/s, burst 40, concurrency 50, daily 10000",
        "(providers: 2, workflows: 2, clients: 1)",
    ):
        assert found in result.out


def test_no_secret_is_shown(runward: RunCommand, config_path: Path) -> None:
    """R79, R84: only the presence of a key is reported."""
    result = runward("check", write(config_path), **PROVIDER_SECRETS)
    assert 0 == result.code
    assert result.out.count("found") == 2
    assert [] == [name for name, secret in PROVIDER_SECRETS.items() if secret in result.out + result.err]


@pytest.mark.parametrize("way", ["argument", "option", "environment"])
def test_the_file_is_named_in_three_ways(runward: RunCommand, config_path: Path, way: str) -> None:
    path = write(config_path)
    words = {"argument": [path], "option": ["--config", path], "environment": []}[way]
    env = {"RUNWARD_CONFIG": path} if way == "environment" else {}
    assert 0 == runward("check", *words, **PROVIDER_SECRETS, **env).code


def test_a_missing_secret_is_named(runward: RunCommand, config_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R84: the setting and its variable, in one line, without further errors."""
    monkeypatch.delenv("PROMPTLAYER_API_KEY", raising=False)
    result = runward("check", write(config_path), PROMPT_STUDIO_API_KEY=PROVIDER_SECRETS["PROMPT_STUDIO_API_KEY"])
    assert (2, "") == (result.code, result.out)
    [line] = result.err.splitlines()
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
def test_an_invalid_configuration_is_refused(
    runward: RunCommand, config_path: Path, overrides: dict[str, JsonValue], place: str
) -> None:
    """R84: with the place, without a traceback; also for errors that only an adapter can find."""
    result = runward("check", write(config_path, **overrides), **PROVIDER_SECRETS)
    assert (2, "") == (result.code, result.out)
    [line] = result.err.splitlines()
    assert place in line


def test_each_error_has_its_line(runward: RunCommand, config_path: Path) -> None:
    result = runward("check", write(config_path, serverr={}, logs={"level": "loud"}), **PROVIDER_SECRETS)
    lines = result.err.splitlines()
    assert 2 == len(lines)
    assert {"runward"} == {line.partition(":")[0] for line in lines}


def test_an_invalid_certificate_file_is_refused(runward: RunCommand, config_path: Path, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    path = write(config_path, providers={"promptlayer": {"base_url": "https://127.0.0.1:1", "ca_file": "ca.pem"}})
    result = runward("check", path, **PROVIDER_SECRETS)
    assert (2, "runward: providers.promptlayer.ca_file: holds no certificate\n") == (result.code, result.err)


def test_an_unused_setting_is_a_warning(runward: RunCommand, config_path: Path) -> None:
    """The gateway could start, so the exit code is 0."""
    old: JsonValue = {"hash": "sha256:" + "0" * 64, "expires": "2020-01-01"}
    config = merged(
        gateway_config("http://127.0.0.1:1", "http://127.0.0.1:2"),
        {"clients": {"gone": {"keys": [old], "workflows": ["nothing-*"]}}, "store": {"url": "memory://"}},
    )
    config_path.write_text(yaml.safe_dump(config))
    result = runward("check", str(config_path), **PROVIDER_SECRETS)
    assert 0 == result.code
    warnings = [line for line in result.out.splitlines() if line.startswith("warning: ")]
    for place in ("clients.gone.workflows[0]: matches no workflow", "clients.gone.keys[0]: has expired"):
        assert 1 == sum(place in line for line in warnings)


def test_it_says_whether_stored_content_is_encrypted(runward: RunCommand, config_path: Path) -> None:
    plain = runward("check", write(config_path), **PROVIDER_SECRETS)
    assert "stored content: not encrypted (content.encrypt)" in plain.out.splitlines()
    key = b64encode(bytes(range(32))).decode()
    result = runward("check", write(config_path), **PROVIDER_SECRETS, RUNWARD_CONTENT__ENCRYPT__KEY=key)
    assert "stored content: encrypted (AES-256-GCM), keys: 1" in result.out.splitlines()
    assert key not in result.out + result.err


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"key": 1, "keys": [2]}, "content.encrypt.keys: key is given too: give one of them"),
        ({"keys": [1, 2, 1]}, "content.encrypt.keys[2]: is the same key as one before"),
    ],
)
def test_content_keys_that_contradict_each_other_are_refused(
    runward: RunCommand, config_path: Path, keys: dict[str, JsonValue], complaint: str
) -> None:
    def key(number: int) -> str:
        return b64encode(bytes([number]) + bytes(range(31))).decode()

    named = {f"CONTENT_KEY_{number}": key(number) for number in (1, 2)}
    references: dict[str, JsonValue] = {
        name: [{"env": f"CONTENT_KEY_{n}"} for n in value] if isinstance(value, list) else {"env": "CONTENT_KEY_1"}
        for name, value in keys.items()
    }
    result = runward("check", write(config_path, content={"encrypt": references}), **PROVIDER_SECRETS, **named)
    [line] = result.err.splitlines()
    assert (2, True) == (result.code, complaint in line)


def test_only_valid_keys_are_counted(runward: RunCommand, config_path: Path) -> None:
    """The earliest expiry is shown."""
    ends = ("2020-01-01", "2998-01-01", "2999-01-01")
    keys: list[JsonValue] = [{"hash": f"sha256:{n:064}", "expires": end} for n, end in enumerate(ends)]
    result = runward(
        "check", write(config_path, clients={"three": {"keys": keys, "workflows": ["*"]}}), **PROVIDER_SECRETS
    )
    [row] = [line.split() for line in result.out.splitlines() if line.split()[:1] == ["three"]]
    assert ["three", "2", "2998-01-01", "00:00", "UTC"] == row[:5]


def test_a_pattern_is_shown_as_it_stands(runward: RunCommand, config_path: Path) -> None:
    """Brackets are markup for the table library and must be escaped."""
    result = runward("check", write(config_path, clients={"one": {"workflows": ["stu[bold]*"]}}), **PROVIDER_SECRETS)
    assert "stu[bold]*" in result.out


def test_an_ambiguous_name_is_a_warning(runward: RunCommand, config_path: Path) -> None:
    """In each provider's API its own workflow is meant; two of its own remain ambiguous, and of others too."""
    workflows: dict[str, JsonValue] = {
        "one": {"provider": "prompt_studio", "name": "same"},
        "other": {"provider": "promptlayer", "name": "same"},
    }
    assert "share the name" not in runward("check", write(config_path, workflows=workflows), **PROVIDER_SECRETS).out
    more: dict[str, JsonValue] = {**workflows, "third": {"provider": "promptlayer", "name": "same"}}
    found = runward("check", write(config_path, workflows=more), **PROVIDER_SECRETS)
    warning = "warning: workflows: other, third share the name same in PromptLayer's API; only their aliases work"
    assert (0, 1) == (found.code, found.out.count("share the name"))
    assert warning in found.out
