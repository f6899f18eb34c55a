"""Settings model: immutable, consistent, and with warnings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from gateway.settings import Settings, StoreSettings
from tests.settings.sample_config import VALID, load_error, load_settings

if TYPE_CHECKING:
    from pathlib import Path

CLIENT = "clients:\n  app:\n    keys: [{hash: 'sha256:" + "ab" * 32 + "'}]\n    workflows: [%s]\n"


def test_frozen(tmp_path: Path) -> None:
    """Settings are immutable."""
    settings = load_settings(tmp_path)
    with pytest.raises(ValidationError, match="frozen"):
        settings.server.port = 1  # type: ignore[misc]  # mypy knows, too
    with pytest.raises(ValidationError, match="frozen"):
        settings.server = settings.server  # type: ignore[misc]  # the same


def test_consistent_without_load() -> None:
    """Inconsistent settings cannot be constructed in code either."""
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({"workflows": {"w": {"provider": "nobody"}}})
    assert [("workflows", "w", "provider")] == [error["loc"] for error in refused.value.errors()]
    assert "nobody" not in str(refused.value)


def test_long_chains_of_fallbacks_are_no_cycle() -> None:
    """Fallbacks may be chained and shared."""
    chain = {f"w{n}": {"provider": "p", "fallback": [f"w{n + 1}", "w500"]} for n in range(499)}
    last = {"w499": {"provider": "p", "fallback": ["w500"]}, "w500": {"provider": "p"}}
    settings = Settings.model_validate({"providers": {"p": {"api_key": "0123456789"}}, "workflows": chain | last})
    assert 501 == len(settings.workflows)


def test_long_cycles_are_counted() -> None:
    """Long cycles are abbreviated."""
    circle = {f"w{n}": {"provider": "p", "fallback": [f"w{(n + 1) % 300}"]} for n in range(300)}
    with pytest.raises(ValidationError, match=r"leads back to itself \(300 workflows\)"):
        Settings.model_validate({"providers": {"p": {"api_key": "0123456789"}}, "workflows": circle})


@pytest.mark.parametrize(
    "pattern", ["support-triage", "support-*", "'*'", "'s[tu]pport-triage'", "studio/*", "studio/dep_1"]
)
def test_no_warnings(tmp_path: Path, pattern: str) -> None:
    """A pattern that matches an alias or names a provider causes no warning."""
    assert [] == load_settings(tmp_path, VALID + CLIENT % pattern).warnings()


@pytest.mark.parametrize("pattern", ["suport-*", "Support-*", "stduio/*", "support-triage/*"])
def test_pattern_without_a_match(tmp_path: Path, pattern: str) -> None:
    """A warning only, because the alias may be added later."""
    settings = load_settings(tmp_path, VALID + CLIENT % f"support-triage, {pattern}")
    assert ["clients.app.workflows[1]: matches no workflow"] == settings.warnings()


def test_empty_providers_and_clients_are_warnings(tmp_path: Path) -> None:
    """The gateway starts with a warning; the same for a client without keys."""
    assert ["providers: none configured", "clients: none configured"] == load_settings(tmp_path, "logs:\n").warnings()
    settings = load_settings(tmp_path, VALID + "clients: {app: {workflows: ['*']}}\n")
    assert ["clients.app: has no keys here: only stored keys can be used"] == settings.warnings()


@pytest.mark.parametrize(("scheme", "count"), [("http", 1), ("https", 0)])
def test_a_plain_http_public_url_is_a_warning(tmp_path: Path, scheme: str, count: int) -> None:
    """Providers send hint tokens to `public_url`."""
    server = f"server: {{public_url: '{scheme}://runward.example.com'}}\n"
    warnings = load_settings(tmp_path, VALID + CLIENT % "support-triage" + server).warnings()
    assert [True] * count == [each.startswith("server.public_url: is plain http") for each in warnings]


@pytest.mark.parametrize(
    ("written", "fits"), [("2s", True), ("1h", True), ("1.9s", False), ("0", False), ("2h", False)]
)
def test_a_lease_is_neither_too_short_nor_too_long(tmp_path: Path, written: str, fits: bool) -> None:  # noqa: FBT001 - a value
    """Renewal must be possible in time, and recovery must not take hours."""
    text = f"{VALID}store: {{lease: {written}}}\n"
    if fits:
        assert load_settings(tmp_path, text).store.lease >= 2.0
    else:
        assert "store.lease: must be at least 2s and at most 1h" in load_error(tmp_path, text)


@pytest.mark.parametrize("name", ["ca_file", "client_cert_file"])
def test_tls_files_of_the_store_need_tls(tmp_path: Path, name: str) -> None:
    """With redis:// the files would have no effect, so they are refused."""
    path = tmp_path / "file.pem"
    path.write_text("-----BEGIN CERTIFICATE-----")
    assert path == getattr(StoreSettings.model_validate({"url": "rediss://cache", name: path}), name)
    with pytest.raises(ValidationError, match="needs a rediss://"):
        StoreSettings.model_validate({"url": "redis://cache", name: path})
