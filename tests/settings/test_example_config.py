"""config/gateway.yaml and its schema."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]  # it comes without types
import pytest
import yaml

from gateway.settings import Settings, json_schema, load
from gateway.settings.schema import render_schema
from tests.settings.test_bad_config import FOLDER

CONFIG = Path(__file__).parent.parent.parent / "config"
EXAMPLE = CONFIG / "gateway.yaml"
ENVIRON = {
    "PROMPTLAYER_API_KEY": "pl_4f9a8b7c6d5e",
    "PROMPT_STUDIO_API_KEY": "ps_4f9a8b7c6d5e",
    "RUNWARD_CALLBACK_SECRET": "whsec_4f9a8b7c6d5e",
    "PROXY_AUTH": "user:4f9a8b7c6d5e",
    "RUNWARD_LOGIN_SECRET": "ls_4f9a8b7c6d5e",
    "RUNWARD_STORE_PASSWORD": "vk_4f9a8b7c6d5e",
    "RUNWARD_CONTENT_KEY": "TTrL0Zy3p5kUMpiPS0JmtgLQBRFZVhnpfDiRoQOQKVQ=",
}
SHAPE_ERRORS = [
    "misspelled_section",
    "misspelled_key",
    "unknown_key",
    "missing_provider",
    "missing_api_key",
    "alias_with_slash",
]
SHAPE_ERRORS += [
    "secret_in_yaml",
    "secret_env_and_file",
    "bad_duration",
    "bad_size",
    "bad_rate",
    "port_too_high",
    "key_instead_of_hash",
    "passthrough_without_method",
    "passthrough_to_everything",
    "passthrough_with_host",
]
"""Mistakes in tests/bad_config that an editor can point out with the schema alone."""


def uncommented_example() -> str:
    """Return the example with all commented settings enabled."""
    return re.sub(r"^( *)#(?=[a-z])", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE)


def test_loads_without_a_warning() -> None:
    """R103: the example is valid with the secrets that it names."""
    settings = load(EXAMPLE, ENVIRON)
    assert [] == settings.warnings()
    assert (["promptlayer", "prompt_studio"], ["checkout"]) == (list(settings.providers), list(settings.clients))


def test_commented_settings_are_valid(tmp_path: Path) -> None:
    """Every disabled setting can be enabled, and shows the default unless its comment says otherwise."""
    (tmp_path / "gateway.yaml").write_text(uncommented_example())
    (tmp_path / "tls").mkdir()
    for name in (
        "server.pem",
        "server.key",
        "ops.pem",
        "ops.key",
        "clients.pem",
        "provider-ca.pem",
        "issuer-ca.pem",
        "issuer-token",
    ):
        (tmp_path / "tls" / name).touch()
    settings = load(tmp_path / "gateway.yaml", ENVIRON)
    plain = load(EXAMPLE, ENVIRON)
    assert plain.store == settings.store.model_copy(update={"password": None})
    assert "https://runward.example.com" == settings.server.public_url
    own_choice = {
        "public_url": None,
        "max_bytes_in_flight": None,
        "tls": None,
        "ops_tls": plain.server.ops_tls,
        "ops_keys": (),
    }
    assert plain.server == settings.server.model_copy(update=own_choice)
    assert plain.callbacks.schedule == settings.callbacks.schedule
    unlimited = {"limits": plain.providers["promptlayer"].limits, "ca_file": None, "proxy": None, "proxy_auth": None}
    unlimited |= {"price": None, "budget": None}
    assert plain.providers["promptlayer"] == settings.providers["promptlayer"].model_copy(update=unlimited)


def test_explains_every_setting() -> None:
    """The example shows every setting of the model, or names it in a comment if it depends on another."""
    text = uncommented_example()
    shown = set(re.findall(r"([a-z_]+):", text))
    known = {field for model in json_schema()["$defs"].values() for field in model.get("properties", {})}
    assert {"client_cert_file", "client_key_file", "sentinel_password"} == known - shown
    assert all(name in EXAMPLE.read_text() for name in known)
    assert set(Settings.model_fields) <= set(re.findall(r"^([a-z]+):", text, flags=re.MULTILINE))


def test_every_setting_has_a_comment() -> None:
    """Every line with a value has a comment, except a few self-explanatory ones."""
    bare = [
        line.strip()
        for line in EXAMPLE.read_text().splitlines()
        if re.match(r" *#?[a-z_]+: +[^ ]", line) and " # " not in line
    ]
    assert ["base_url: https://api.prompt.studio", "provider: prompt_studio", "timeout: 60s"] == bare


def test_schema_file_is_the_models() -> None:
    """config/gateway.schema.json is generated: python -m gateway.settings > config/gateway.schema.json."""
    assert render_schema() == (CONFIG / "gateway.schema.json").read_text()


@pytest.mark.process
def test_schema_is_printed() -> None:
    """The documented command prints it."""
    printed = subprocess.run([sys.executable, "-m", "gateway.settings"], capture_output=True, check=True, text=True)
    assert (render_schema(), "") == (printed.stdout, printed.stderr)


@pytest.mark.parametrize("text", [EXAMPLE.read_text(), uncommented_example()], ids=["as it is", "switched on"])
def test_example_fits_the_schema(text: str) -> None:
    """A valid configuration conforms to the schema."""
    jsonschema.Draft202012Validator.check_schema(json_schema())
    _validator().validate(_plain(text))


@pytest.mark.parametrize("mistake", SHAPE_ERRORS)
def test_mistakes_break_the_schema(mistake: str) -> None:
    """Structural errors violate the schema."""
    with pytest.raises(jsonschema.ValidationError):
        _validator().validate(_plain((FOLDER / f"{mistake}.yaml").read_text()))


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json_schema())


def _plain(text: str) -> object:
    """Return the YAML as JSON, with dates as texts."""
    return json.loads(json.dumps(yaml.safe_load(text), default=str))
