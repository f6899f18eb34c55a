"""Settings from the environment and from secret files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.settings import RateSpec
from tests.settings.sample_config import ENVIRON, VALID, load_error, load_settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "variable",
    [
        "RUNWARD_WORKFLOWS__SUPPORT_TRIAGE__TIMEOUT",
        "runward_workflows__support-triage__timeout",
        "RUNWARD_WORKFLOWS__SUPPORT-TRIAGE__TIMEOUT",
    ],
)
def test_names_as_a_shell_can_write_them(tmp_path: Path, variable: str) -> None:
    """Case-insensitive; _ matches - and . in names of the file."""
    settings = load_settings(tmp_path, environ={**ENVIRON, variable: "5s"})
    assert {"support-triage": 5.0} == {alias: w.timeout for alias, w in settings.workflows.items()}


def test_names_that_only_the_environment_has(tmp_path: Path) -> None:
    """New entries get a lower-case name."""
    environ = {**ENVIRON, "RUNWARD_WORKFLOWS__NEW__PROVIDER": "studio", "RUNWARD_CLIENTS__APP__WORKFLOWS": '["*"]'}
    settings = load_settings(tmp_path, environ=environ)
    assert ({"support-triage", "new"}, {"app"}) == (set(settings.workflows), set(settings.clients))


def test_names_that_could_be_several(tmp_path: Path) -> None:
    """An ambiguous variable is refused; an exact spelling is not ambiguous."""
    text = VALID + "  support.triage: {provider: studio}\n"
    environ = {**ENVIRON, "RUNWARD_WORKFLOWS__SUPPORT_TRIAGE__TIMEOUT": "5s"}
    expected = "RUNWARD_WORKFLOWS__SUPPORT_TRIAGE__TIMEOUT: could mean any of support-triage, support.triage"
    assert expected == load_error(tmp_path, text, environ)
    exact = {**ENVIRON, "RUNWARD_WORKFLOWS__support.triage__TIMEOUT": "5s"}
    assert 5.0 == load_settings(tmp_path, text, exact).workflows["support.triage"].timeout


def test_values_are_read_as_in_the_file(tmp_path: Path) -> None:
    """Units, numbers and booleans are texts; lists and sections are JSON."""
    environ = {
        **ENVIRON,
        "RUNWARD_SERVER__PORT": "8123",
        "RUNWARD_SERVER__OPEN_DOCS": "true",
        "RUNWARD_SERVER__TRUSTED_PROXIES": '["10.0.0.0/8"]',
        "RUNWARD_PROVIDERS__STUDIO__LIMITS__RATE": "5/m",
        "RUNWARD_WORKFLOWS__SUPPORT_TRIAGE__VERSION": "3",
        "RUNWARD_WORKFLOWS__SUPPORT_TRIAGE__NAME": "123",
        "RUNWARD_CALLBACKS__SECRETS": '["whsec_MDEyMzQ1Njc4"]',
        "RUNWARD_CALLBACKS__SCHEDULE": "0s,5s",
        "RUNWARD_LOGS": '{"level": "error", "format": "json"}',
        "RUNWARD_LOGS__LEVEL": "warning",
    }
    settings = load_settings(tmp_path, environ=environ)
    workflow = settings.workflows["support-triage"]
    assert (8123, True, 1) == (settings.server.port, settings.server.open_docs, len(settings.server.trusted_proxies))
    assert (RateSpec(5, 60), 3, "123") == (settings.providers["studio"].limits.rate, workflow.version, workflow.name)
    assert "whsec_MDEyMzQ1Njc4" == settings.callbacks.secrets[0].get_secret_value()
    assert (0.0, 5.0) == settings.callbacks.schedule
    assert ("warning", "json") == (settings.logs.level, settings.logs.format)


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("RUNWARD_SERVR__PORT", "canary", "RUNWARD_SERVR__PORT: unknown section (did you mean server?)"),
        ("RUNWARD_SERVER__", "canary", "RUNWARD_SERVER__: is not the name of a setting"),
        ("RUNWARD_SERVER____PORT", "canary", "RUNWARD_SERVER____PORT: is not the name of a setting"),
        ("RUNWARD_SERVER__PORT", "", "RUNWARD_SERVER__PORT: is empty: remove it, or give it a value"),
        ("RUNWARD_SERVER__PORT__X", "canary", "RUNWARD_SERVER__PORT__X server.port: must be a whole number"),
        ("RUNWARD_SERVER", "canary", "RUNWARD_SERVER server: must be JSON"),
        ("RUNWARD_SERVER", '{"port": "canary"}', "RUNWARD_SERVER server.port: must be a whole number"),
        (
            "RUNWARD_SERVER__TRUSTED_PROXIES",
            "canary",
            "RUNWARD_SERVER__TRUSTED_PROXIES server.trusted_proxies: must be JSON",
        ),
        (
            "RUNWARD_WORKFLOWS__NEW__TIMEOUT",
            "5s",
            "RUNWARD_WORKFLOWS__NEW__TIMEOUT workflows.new.provider: is required",
        ),
        (
            "RUNWARD_WORKFLOWS__A/B__PROVIDER",
            "studio",
            "RUNWARD_WORKFLOWS__A/B__PROVIDER workflows.a/b: a name has letters",
        ),
        (
            "RUNWARD_PROVIDERS__STUDIO__API_KEY",
            "short",
            "RUNWARD_PROVIDERS__STUDIO__API_KEY providers.studio.api_key: the secret is shorter than 8 characters",
        ),
        (
            "RUNWARD_PROVIDERS",
            '{"studio": {"api_key": {"env": "MISSING"}}}',
            "RUNWARD_PROVIDERS providers.studio.api_key: the environment variable MISSING is not set",
        ),
    ],
)
def test_mistakes(tmp_path: Path, variable: str, value: str, complaint: str) -> None:
    """An error names the variable, without the value."""
    text = VALID + "server: {port: 8123}\n"
    refusal = load_error(tmp_path, text, {**ENVIRON, variable: value})
    assert (complaint, 1) == (refusal[: len(complaint)], len(refusal.splitlines()))
    assert "canary" not in refusal


def test_nested_too_deep(tmp_path: Path) -> None:
    """JSON of extreme depth is refused."""
    assert "RUNWARD_SERVER server: must be JSON" == load_error(
        tmp_path, VALID, {**ENVIRON, "RUNWARD_SERVER": "[" * 100_000}
    )


def test_one_setting_twice(tmp_path: Path) -> None:
    """Two variables for one setting are ambiguous and refused."""
    environ = {**ENVIRON, "RUNWARD_SERVER__PORT": "1", "runward_server__port": "2"}
    assert "runward_server__port: is the same setting as RUNWARD_SERVER__PORT" == load_error(tmp_path, VALID, environ)


@pytest.mark.parametrize(
    "variable", ["RUNWARD_PORT", "RUNWARD_SERVICE_HOST", "RUNWARD_CALLBACK_SECRET", "RUNWARD_CONFIG"]
)
def test_variables_of_others(tmp_path: Path, variable: str) -> None:
    """Kubernetes sets RUNWARD_PORT for a service named runward; such variables are ignored."""
    assert 8080 == load_settings(tmp_path, VALID, {**ENVIRON, variable: "tcp://10.0.0.1:80"}).server.port


def test_secret_files(tmp_path: Path) -> None:
    """The name of a mounted file selects the setting; other files, folders and dotted names are ignored."""
    (folder := tmp_path / "secrets").mkdir()
    (folder / "runward_providers__studio__api_key").write_text("from-the-file\n")
    (folder / "runward_callback_secret").write_text("not a setting")
    (folder / "tls.key").write_bytes(b"\xff")
    (folder / "..data").mkdir()
    settings = load_settings(tmp_path, environ={"RUNWARD_SECRETS_DIR": str(folder)})
    assert "from-the-file" == settings.providers["studio"].api_key.get_secret_value()


def test_bad_secret_files(tmp_path: Path) -> None:
    """The error names the file; a missing configured folder is an error."""
    (folder := tmp_path / "secrets").mkdir()
    (folder / "runward_server__port").write_bytes(b"\xff")
    (folder / "runward_servr__port").write_text("1")
    environ = {**ENVIRON, "RUNWARD_SECRETS_DIR": str(folder)}
    assert [
        "secret file runward_server__port: the secret's file is not text",
        "secret file runward_servr__port: unknown section (did you mean server?)",
    ] == load_error(tmp_path, VALID, environ).splitlines()
    missing = {**ENVIRON, "RUNWARD_SECRETS_DIR": str(tmp_path / "missing")}
    assert "RUNWARD_SECRETS_DIR: cannot be read (No such file or directory)" == load_error(tmp_path, VALID, missing)
