"""Loading of settings: precedence, defaults, and error messages."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gateway.settings import RateSpec, Settings, SettingsError, load
from tests.settings.sample_config import ENVIRON, VALID, load_error, load_settings

if TYPE_CHECKING:
    from pathlib import Path


def test_defaults(tmp_path: Path) -> None:
    """A missing setting has the documented default, in seconds and bytes."""
    settings = load_settings(tmp_path, "server:\n")
    server, retries, polling = settings.server, settings.retries, settings.polling
    assert ("127.0.0.1", 8080, "127.0.0.1", 9090) == (server.host, server.port, server.ops_host, server.ops_port)
    assert (10.0, 60.0, 1_000_000, 2000) == (server.drain, server.grace, server.max_body, server.max_in_flight)
    assert (10.0, 75.0, 10.0, False, ()) == (
        server.header_timeout,
        server.idle_timeout,
        server.body_timeout,
        server.open_docs,
        server.trusted_proxies,
    )
    assert settings.server.public_url is None
    assert ("info", "auto") == (settings.logs.level, settings.logs.format)
    assert ("sqlite:///var/runward.db", 604800.0, 30.0) == tuple(
        getattr(settings.store, n) for n in ("url", "retention", "lease")
    )
    assert (3, 0.1, 5.0) == (retries.attempts, retries.backoff, retries.backoff_max)
    assert () == settings.content.encrypt.all_keys
    assert (0.25, 60.0, 10.0, 3600.0) == (polling.first, polling.max, polling.timeout, polling.follow_for)
    assert ((), (), 10) == (settings.callbacks.secrets, settings.callbacks.allow, len(settings.callbacks.schedule))


def test_own_names_and_maximum_are_filled_in(tmp_path: Path) -> None:
    """Defaults: adapter by the provider's name, workflow name by its alias, maximum by the timeout."""
    settings = load_settings(tmp_path)
    workflow = settings.workflows["support-triage"]
    assert ("support-triage", 90.0, 90.0) == (workflow.name, workflow.timeout, workflow.max_timeout)
    provider = settings.providers["studio"]
    assert ("studio", None, 5.0, 10_000_000, 1.0) == (
        provider.adapter,
        provider.base_url,
        provider.connect_timeout,
        provider.max_response,
        provider.limits.max_wait,
    )


def test_everything_can_be_set(tmp_path: Path) -> None:
    """Every setting can be changed."""
    (tmp_path / "ca.pem").write_text("")
    settings = load_settings(
        tmp_path,
        f"""\
server:
  {{host: 0.0.0.0, port: 0, ops_host: "::", ops_port: 0, drain: 0, grace: 9s, max_body: 2MiB, max_in_flight: 7,
   header_timeout: 1s, idle_timeout: 3s, body_timeout: 2s, open_docs: true, trusted_proxies: [10.0.0.0/8, "::1"]}}
logs: {{level: debug, format: json}}
store: {{url: "memory://", retention: 1h, lease: 2s}}
providers:
  a: {{adapter: studio, base_url: "http://sandbox:8001/", allow_http: true, api_key: {{env: STUDIO_KEY}}, dialect: old,
      ca_file: ca.pem, proxy: "http://proxy:3128/", proxy_auth: {{env: PROXY_AUTH}},
      connect_timeout: 1s, max_response: 1kB,
      limits: {{rate: 5/m, burst: 2, concurrency: 3, max_wait: 0}}}}
workflows:
  w: {{provider: a, name: dep/1, version: 3, timeout: 1s, max_timeout: 2s, fallback: [v], repeatable: true,
      aliases: {{promptlayer: [old, 4711], prompt_studio: []}}, limits: {{rate: 1/s, burst: 4, concurrency: 5}}}}
  v: {{provider: a, label: production}}
clients:
  c: {{keys: [{{hash: "sha256:{"AB" * 32}", expires: 2027-01-01}}, {{hash: "sha256:{"cd" * 32}"}}],
      workflows: ["*", a/x], limits: {{rate: 2/h, burst: 6, concurrency: 7, daily: 8}},
      passthrough: {{a: ["POST /log-request", "GET /prompt-templates/*"]}}}}
callbacks: {{secrets: [{{env: HOOK_SECRET}}], allow: ["*.example.com"], schedule: [0s, 5s]}}
retries: {{attempts: 10, backoff: 0, backoff_max: 0}}
polling: {{first: 1s, max: 1s, timeout: 1s, follow_for: 0}}
""",
        ENVIRON | {"HOOK_SECRET": "whsec_MDEyMzQ1Njc4", "PROXY_AUTH": "user:pass-phrase"},
    )
    server = settings.server
    assert ("0.0.0.0", 0, "::", 0, 0.0, 9.0, 2_097_152, 7, 1.0, 3.0, 2.0, True) == tuple(server.model_dump().values())[
        :12
    ]
    assert (ip_network("10.0.0.0/8"), ip_network("::1")) == server.trusted_proxies
    assert ("debug", "json") == (settings.logs.level, settings.logs.format)
    assert ("memory://", 3600.0, 2.0) == (settings.store.url, settings.store.retention, settings.store.lease)
    provider = settings.providers["a"]
    assert ("studio", "http://sandbox:8001", True, "old") == (
        provider.adapter,
        provider.base_url,
        provider.allow_http,
        provider.dialect,
    )
    assert (tmp_path / "ca.pem", 1.0, 1000) == (provider.ca_file, provider.connect_timeout, provider.max_response)
    assert provider.proxy_auth is not None
    assert ("http://proxy:3128", "user:pass-phrase") == (provider.proxy, provider.proxy_auth.get_secret_value())
    assert (RateSpec(5, 60), 2, 3, 0.0) == tuple(value for _, value in provider.limits)
    workflow = settings.workflows["w"]
    assert ("a", "dep/1", None, 3, 1.0, 2.0, ("v",), True) == tuple(value for _, value in workflow)[:8]
    assert (("old", "4711"), ()) == (workflow.aliases.promptlayer, workflow.aliases.prompt_studio)
    assert (RateSpec(1, 1), 4, 5) == tuple(value for _, value in workflow.limits)
    assert "production" == settings.workflows["v"].label
    client = settings.clients["c"]
    assert [("sha256:" + "ab" * 32, datetime(2027, 1, 1, tzinfo=UTC)), ("sha256:" + "cd" * 32, None)] == [
        (key.hash, key.expires) for key in client.keys
    ]
    assert (("*", "a/x"), (RateSpec(2, 3600), 6, 7, 8)) == (
        client.workflows,
        tuple(value for _, value in client.limits),
    )
    assert {"a": ("POST /log-request", "GET /prompt-templates/*")} == client.passthrough
    assert (1, ("*.example.com",), (0.0, 5.0)) == (
        len(settings.callbacks.secrets),
        settings.callbacks.allow,
        settings.callbacks.schedule,
    )
    assert (10, 0.0, 0.0) == tuple(value for _, value in settings.retries)
    assert (1.0, 1.0, 1.0, 0.0) == tuple(value for _, value in settings.polling)


def test_order_of_the_sources(tmp_path: Path) -> None:
    """Precedence: overrides, environment, secret files, YAML."""
    (folder := tmp_path / "secrets").mkdir()
    text = "server: {port: 1, ops_port: 2, max_in_flight: 3, drain: 4s}\n"
    for key in ("port", "ops_port", "max_in_flight"):
        (folder / f"runward_server__{key}").write_text("10\n")
    environ = {"RUNWARD_SECRETS_DIR": str(folder), "RUNWARD_SERVER__PORT": "20", "RUNWARD_SERVER__OPS_PORT": "20"}
    (tmp_path / "gateway.yaml").write_text(text)
    server = load(tmp_path / "gateway.yaml", environ, overrides={"server": {"port": 30}}).server
    assert (30, 20, 10, 4.0) == (server.port, server.ops_port, server.max_in_flight, server.drain)


def test_the_environment_is_that_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults of `environ` and `path` come from the process."""
    (tmp_path / "named.yaml").write_text("server: {port: 8081}\n")
    monkeypatch.setenv("RUNWARD_CONFIG", str(tmp_path / "named.yaml"))
    monkeypatch.setenv("RUNWARD_SERVER__OPS_PORT", "8082")
    assert (8081, 8082) == (load(None).server.port, load(None).server.ops_port)


@pytest.mark.parametrize("environ", [{}, {"RUNWARD_CONFIG": ""}])
def test_no_file_named(environ: dict[str, str]) -> None:
    """Without a file, the error states how to name one."""
    with pytest.raises(SettingsError) as refused:
        load(None, environ)
    assert (("RUNWARD_CONFIG", "is not set; set it, or name the file with --config"),) == refused.value.errors


def test_only_the_named_sources_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings built in tests do not depend on the environment."""
    monkeypatch.setenv("RUNWARD_SERVER__PORT", "1")
    assert 8080 == Settings().server.port


def test_one_line_for_each_error(tmp_path: Path) -> None:
    """All errors of file, environment and secret files are reported at once."""
    (folder := tmp_path / "secrets").mkdir()
    (folder / "runward_logs__level").write_text("loud")
    environ = {"RUNWARD_SECRETS_DIR": str(folder), "RUNWARD_SERVER__PRT": "1"}
    text = "providers:\n  a:\n    api_key: literal-secret\nworkflows:\n  w: {}\npolling: {frist: 1s}\n"
    assert [
        "gateway.yaml:3 providers.a.api_key: secrets are not accepted in the YAML: use {env: NAME} or {file: PATH}",
        "RUNWARD_SERVER__PRT server.prt: unknown key (did you mean port?)",
        "secret file runward_logs__level logs.level: must be 'debug', 'info', 'warning' or 'error'",
        "gateway.yaml:5 workflows.w.provider: is required",
        "gateway.yaml:6 polling.frist: unknown key (did you mean first?)",
    ] == load_error(tmp_path, text, environ).splitlines()


def test_the_location_is_that_of_the_winning_source(tmp_path: Path) -> None:
    """An invalid value is reported with the source of highest precedence."""
    (folder := tmp_path / "secrets").mkdir()
    (folder / "runward_server__port").write_text("1")
    environ = {"RUNWARD_SECRETS_DIR": str(folder), "RUNWARD_SERVER__PORT": "canary"}
    expected = "RUNWARD_SERVER__PORT server.port: must be a whole number"
    assert expected == load_error(tmp_path, "server: {port: 2}\n", environ)


def test_overrides_are_checked(tmp_path: Path) -> None:
    """Overrides are validated like other sources."""
    (tmp_path / "gateway.yaml").write_text(VALID)
    with pytest.raises(SettingsError) as refused:
        load(tmp_path / "gateway.yaml", ENVIRON, overrides={"server": {"port": "canary"}})
    assert (("override server.port", "must be a whole number"),) == refused.value.errors


def test_the_number_of_errors_is_bounded(tmp_path: Path) -> None:
    """At most fifty errors are listed; the rest are counted."""
    lines = load_error(tmp_path, "".join(f"key{n}: 1\n" for n in range(500))).splitlines()
    assert (51, "gateway.yaml: and 450 more errors") == (len(lines), lines[-1])


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    place=st.sampled_from(
        [
            "server.host",
            "server.port",
            "server.drain",
            "server.max_body",
            "server.open_docs",
            "server.trusted_proxies.0",
        ]
        + [
            "logs.level",
            "store.url",
            "callbacks.secrets.0",
            "callbacks.allow.0",
            "callbacks.schedule",
            "retries.attempts",
        ]
        + [
            f"providers.p.{key}"
            for key in ("api_key", "api_key.env", "api_key.file", "api_key.other", "base_url", "ca_file")
        ]
        + [
            "providers.p.limits.rate",
            "providers.p",
            "workflows.w.provider",
            "workflows.w.version",
            "workflows.w.fallback.0",
        ]
        + [
            "clients.c.keys.0.hash",
            "clients.c.keys.0.expires",
            "clients.c.keys",
            "clients.c.workflows.0",
            "clients.c.limits",
        ]
    ),
    value=st.sampled_from(
        ["canary", "https://canary:canary@a", "{canary}", "canary/s", "-canary", "pl_canary", "canary\n"]
    ),
)
def test_no_value_is_ever_shown(tmp_path: Path, place: str, value: str) -> None:
    """R84: neither values of the file nor of the environment."""
    tree: object = value
    for key in reversed(place.split(".")):
        tree = [tree] if key == "0" else {key: tree}
    assert isinstance(tree, dict)
    section, content = next(iter(tree.items()))
    in_the_environment = _refused(tmp_path, {"RUNWARD_" + section.upper(): json.dumps(content)}, "logs:\n")
    in_the_file = _refused(tmp_path, {}, json.dumps(tree))
    for error in (in_the_environment, in_the_file):
        assert "canary" not in str(error)
        assert error is None or (None, None) == (error.__cause__, error.__context__)


def _refused(folder: Path, environ: dict[str, str], text: str) -> SettingsError | None:
    (folder / "gateway.yaml").write_text(text)
    try:
        load(folder / "gateway.yaml", environ)
    except SettingsError as error:
        return error
    return None
