"""Files of a configuration, and detection of their changes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gateway.settings import ConfigFiles, SettingsError
from tests.support.config_files import mount_secret_files, replace_file

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """\
providers: {{a: {{adapter: prompt_studio, api_key: {{file: {key}}}, ca_file: ca.pem}}}}
callbacks: {{secrets: [{{file: hooks/one}}, {{env: OTHER}}]}}
"""
ENVIRON = {"OTHER": "whsec_ODc2NTQzMjEw"}


@pytest.fixture
def files(tmp_path: Path) -> ConfigFiles:
    """Valid configuration with its files."""
    (tmp_path / "hooks").mkdir()
    for name, text in {"key": "a-providers-key", "hooks/one": "whsec_MDEyMzQ1Njc4", "ca.pem": ""}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "gateway.yaml").write_text(TEXT.format(key="key"))
    made = ConfigFiles(tmp_path / "gateway.yaml", ENVIRON)
    made.load()
    return made


def test_nothing_has_changed_after_it_was_read(files: ConfigFiles) -> None:
    assert not files.changed()


@pytest.mark.parametrize("name", ["gateway.yaml", "key", "hooks/one", "ca.pem"])
@pytest.mark.parametrize("how", ["replaced", "written", "gone"])
def test_each_file_that_it_names_counts(tmp_path: Path, files: ConfigFiles, name: str, how: str) -> None:
    """R100: the file itself, secrets and certificates; a change counts until it was read."""
    path = tmp_path / name
    text = path.read_text()
    if how == "gone":
        path.unlink()
    elif how == "written":
        path.write_text(text + "\n")
    else:
        replace_file(path, text + "#")
    assert files.changed()
    replace_file(path, text)
    files.load()
    assert not files.changed()


@pytest.mark.parametrize("name", ["gateway.yaml", "key", "ca.pem"])
def test_the_same_content_is_no_change(tmp_path: Path, files: ConfigFiles, name: str) -> None:
    """A file that is touched or replaced constantly causes no reload."""
    for seconds in range(3):
        replace_file(tmp_path / name, (tmp_path / name).read_text())
        os.utime(tmp_path / name, (seconds, seconds))
        assert not files.changed()
    replace_file(tmp_path / name, (tmp_path / name).read_text() + "#")
    assert files.changed()


def test_other_files_do_not_count(tmp_path: Path, files: ConfigFiles) -> None:
    (tmp_path / "notes").write_text("x")
    (tmp_path / "hooks" / "two").write_text("x")
    assert not files.changed()
    assert {tmp_path, tmp_path / "hooks"} == files.watched().folders


def test_what_a_broken_file_named_before_still_counts(tmp_path: Path, files: ConfigFiles) -> None:
    """R100: an unparsable file names nothing, but the next correction may be in a secret file."""
    replace_file(tmp_path / "gateway.yaml", "providers: {")
    with pytest.raises(SettingsError):
        files.load()
    assert not files.changed()
    assert {tmp_path, tmp_path / "hooks"} == files.watched().folders
    replace_file(tmp_path / "key", "another-key")
    assert files.changed()


def test_a_file_changes_with_the_link_that_leads_to_it(tmp_path: Path) -> None:
    """R100: Kubernetes replaces the link `..data`, not the file."""
    mount_secret_files(tmp_path / "mounted", "1", {"key": "a-providers-key"})
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "one").write_text("whsec_MDEyMzQ1Njc4")
    (tmp_path / "ca.pem").write_text("")
    (tmp_path / "gateway.yaml").write_text(TEXT.format(key="mounted/key"))
    files = ConfigFiles(tmp_path / "gateway.yaml", ENVIRON)
    assert "a-providers-key" == files.load().providers["a"].api_key.get_secret_value()
    assert tmp_path / "mounted" in files.watched().folders
    mount_secret_files(tmp_path / "mounted", "2", {"key": "b-providers-key"})
    assert files.changed()
    assert "b-providers-key" == files.load().providers["a"].api_key.get_secret_value()


def test_secret_files_that_are_settings_by_their_names_count(tmp_path: Path) -> None:
    """R100: created, changed or deleted."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    (tmp_path / "gateway.yaml").write_text("providers: {a: {adapter: prompt_studio, api_key: {env: OTHER}}}")
    files = ConfigFiles(tmp_path / "gateway.yaml", {**ENVIRON, "RUNWARD_SECRETS_DIR": str(folder)})
    files.load()
    secret = folder / "runward_providers__a__api_key"
    for change in (lambda: secret.write_text("mounted-key"), lambda: replace_file(secret, "other-key"), secret.unlink):
        assert not files.changed()
        change()
        assert files.changed()
        files.load()
    folder.rmdir()
    with pytest.raises(SettingsError):
        files.load()
    assert {tmp_path} == files.watched().folders


def test_the_file_that_the_environment_names_is_as_good(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("logs: {level: debug}")
    files = ConfigFiles(None, {"RUNWARD_CONFIG": str(path)})
    assert "debug" == files.load().logs.level
    replace_file(path, "logs: {level: error}")
    assert (True, "error") == (files.changed(), files.load().logs.level)
    with pytest.raises(SettingsError):
        ConfigFiles(None, {}).load()


def test_a_missing_file_is_not_an_error(tmp_path: Path, files: ConfigFiles) -> None:
    """`load` reports folders and invalid paths."""
    for odd in (".", "a\\0b", "x" * 5000):
        replace_file(tmp_path / "gateway.yaml", TEXT.format(key=f'"{odd}"'))
        with pytest.raises(SettingsError):
            files.load()
        assert (False, True) == (files.changed(), tmp_path in files.watched().folders)
