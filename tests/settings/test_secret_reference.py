"""Secrets: sources, and rejected values (R84)."""

from __future__ import annotations

from base64 import b64decode, b64encode
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from gateway.runs.callbacks.webhook_message import signing_key
from gateway.settings import Settings, load
from gateway.settings.sources.secret_locations import SECRET_PATHS, secret_referencer
from gateway.settings.types.secret_reference import (
    SecretReference,
    decode_content_key,
    parse_content_key,
    parse_secret,
    parse_webhook_secret,
)
from tests.settings.sample_config import ENVIRON, KEY, VALID, load_error, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

FROM_FILE = VALID.replace("env: STUDIO_KEY", "file: studio")


def key_of(settings: Settings) -> str:
    """Return the key of the provider in `SOUND`."""
    return settings.providers["studio"].api_key.get_secret_value()


def test_from_the_environment(tmp_path: Path) -> None:
    """{env: NAME} is the value of that variable; no representation of the settings shows it."""
    settings = load_settings(tmp_path)
    assert KEY == key_of(settings)
    assert KEY not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"


def test_from_a_file(tmp_path: Path) -> None:
    """{file: PATH} is relative to the folder of the YAML; trailing line ends are removed."""
    (tmp_path / "studio").write_bytes(b"ps_0123456789\r\n")
    assert "ps_0123456789" == key_of(load_settings(tmp_path, FROM_FILE))


def test_from_a_file_elsewhere(tmp_path: Path) -> None:
    """An absolute {file: PATH}."""
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "studio").write_text("ps_0123456789")
    assert "ps_0123456789" == key_of(
        load_settings(tmp_path, VALID.replace("env: STUDIO_KEY", f"file: {elsewhere}/studio"))
    )


def test_as_a_plain_text_from_the_environment(tmp_path: Path) -> None:
    """RUNWARD_…__API_KEY is the secret itself, even if it looks like a number; a file reference is not read then."""
    environ = {"RUNWARD_PROVIDERS__STUDIO__API_KEY": "1234567890123"}
    assert "1234567890123" == key_of(load_settings(tmp_path, VALID, environ))


def test_literal_in_the_file_though_it_is_overridden(tmp_path: Path) -> None:
    """A secret in the YAML is refused even if the environment takes precedence: it has leaked."""
    text = VALID.replace("{env: STUDIO_KEY}", KEY)
    environ = {"RUNWARD_PROVIDERS__STUDIO__API_KEY": "1234567890123"}
    complaint = "secrets are not accepted in the YAML: use {env: NAME} or {file: PATH}"
    assert f"gateway.yaml:3 providers.studio.api_key: {complaint}" == load_error(tmp_path, text, environ)


@pytest.mark.parametrize("content", [b"", b"\n", b"changeme\n", b"\xff\xfe\x00\x00\x00\x00\x00\x00", b"x" * 70_000])
def test_bad_file(tmp_path: Path, content: bytes) -> None:
    """Empty, placeholder, binary or too large files are refused with their location."""
    (tmp_path / "studio").write_bytes(content)
    assert load_error(tmp_path, FROM_FILE).startswith("gateway.yaml:3 providers.studio.api_key: the ")


def test_folder_instead_of_a_file(tmp_path: Path) -> None:
    """Kubernetes creates a folder for a missing subPath."""
    (tmp_path / "studio").mkdir()
    expected = "gateway.yaml:3 providers.studio.api_key: the secret's file cannot be read (Is a directory)"
    assert expected == load_error(tmp_path, FROM_FILE)


@pytest.mark.parametrize(
    "text",
    [
        "changeme",
        "CHANGE-ME-please",
        "change_me",
        "replace-me!",
        "<your key>",
        "<secret>",
        "your-api-key",
        "YOUR_KEY_HERE",
        "xxxxxxxx",
        "XXXX-XXXX",
        "pl_xxxxxxxxxxxx",
        "********",
        "00000000",
        "${API_KEY}",
        "{{ api_key }}",
        "%API_KEY%",
        "password",
        "my-secret",
        "the_api_key",
        "placeholder-1",
        "example-key",
        "pl_your_key_here",
        "undefined",
        "dummy-key",
    ],
)
def test_placeholder(text: str) -> None:
    """Common placeholders are recognized."""
    with pytest.raises(ValueError, match="is a placeholder"):
        parse_secret(text)


@pytest.mark.parametrize(
    "text", ["pl_4f9a8b7c6d5e", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "correct horse battery", "aexxxb12"]
)
def test_valid_secret(text: str) -> None:
    """Valid secrets pass."""
    assert SecretStr(text) == parse_secret(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("  \t ", "empty"),
        ("short12", "shorter than 8"),
        (" leading-space", "cannot be sent"),
        ("two\r\nlines: injected", "cannot be sent"),
        ("nul\x00inside", "cannot be sent"),
        ("Schlüssel-12", "cannot be sent"),
    ],
)
def test_unusable(text: str, complaint: str) -> None:
    """Text that cannot be a key or be sent in a header."""
    with pytest.raises(ValueError, match=complaint) as refused:
        parse_secret(text)
    assert not text or text not in str(refused.value)


@pytest.mark.parametrize("value", [None, 12345678, 1.5, True, [], {}, {"env": "NAME"}])
def test_not_a_secret(value: object) -> None:
    """References are resolved by `load` only."""
    with pytest.raises(ValueError, match=r"must be \{env: NAME\} or \{file: PATH\}"):
        parse_secret(value)


@pytest.mark.parametrize(
    "written", [{}, {"env": 5}, {"env": "A B"}, {"file": ""}, {"file": "a\0b"}, {"file": 5}, {"path": "a"}]
)
def test_not_a_reference(written: dict[str, object]) -> None:
    """A reference has one key, env or file, with a valid text."""
    with pytest.raises(ValueError, match=r"must be \{env: NAME\} or \{file: PATH\}"):
        SecretReference(written, ENVIRON, Path()).resolve()


def test_reference_hides_the_environment() -> None:
    """The representation of a reference does not show its source."""
    assert KEY not in repr(SecretReference({"env": "STUDIO_KEY"}, ENVIRON, Path()))


@pytest.mark.parametrize("value", ["plain-secret", {"env": "STUDIO_KEY"}])
def test_hidden_until_it_is_validated(value: object) -> None:
    """R79: whatever prints a tree of settings, for example a debugger or an error, shows no secret."""
    hidden = repr(secret_referencer(ENVIRON, Path())(value))
    assert not [secret for secret in (KEY, "plain-secret") if secret in hidden]


def test_overrides_may_hold_secrets(tmp_path: Path) -> None:
    """Callers of `load` may pass secrets as text."""
    load_settings(tmp_path)
    overrides = {"providers": {"studio": {"api_key": SecretStr("handed-over")}}}
    assert "handed-over" == key_of(load(tmp_path / "gateway.yaml", ENVIRON, overrides=overrides))


def test_every_secret_of_the_model_is_known() -> None:
    """The list of secret fields equals the `SecretStr` fields of the model."""
    schema = Settings.model_json_schema()
    assert sorted(SECRET_PATHS) == sorted(_references(schema, schema))


def _references(
    schema: dict[str, object], root: dict[str, object], way: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Return the places in the schema where a reference is allowed."""
    match schema:
        case {"properties": {"env": _, "file": _}}:
            yield way
        case {"$ref": str(name)}:
            yield from _references(root["$defs"][name.rpartition("/")[2]], root, way)  # type: ignore[index]
        case {"properties": dict(fields)}:
            for field, inner in fields.items():
                yield from _references(inner, root, (*way, field))
        case {"items": dict(inner)}:
            yield from _references(inner, root, (*way, "*"))
        case {"patternProperties": dict(patterns)}:
            for inner in patterns.values():
                yield from _references(inner, root, (*way, "*"))
        case {"anyOf": list(choices)}:
            for inner in choices:
                yield from _references(inner, root, way)


@pytest.mark.parametrize("text", ['"pl_0123456789"', "'pl_0123456789'", "`pl_0123456789`", '"pl_0123456789'])
def test_a_secret_in_quotes_is_refused(text: str) -> None:
    """Some tools keep the quotes of an environment file."""
    with pytest.raises(ValueError, match="is in quotes"):
        parse_secret(text)


def test_a_secret_with_its_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="give the key alone"):
        parse_secret("Bearer pl_0123456789")


def test_a_webhook_secret_is_read_as_the_libraries_do() -> None:
    text = "whsec_" + b64encode(bytes(range(32))).decode()
    assert text == parse_webhook_secret(text).get_secret_value()
    assert signing_key(text) == b64decode(text.removeprefix("whsec_"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b64encode(bytes(range(24))).decode(), "must be whsec_ and base64"),
        ("a plain passphrase", "must be whsec_ and base64"),
        ("whsec_" + b64encode(bytes(range(32))).decode().rstrip("="), "must be whsec_ and base64"),
        ("whsec_not-base64", "must be whsec_ and base64"),
        ("v1,whsec_" + b64encode(bytes(range(24))).decode(), "must begin with whsec_"),
        ('"whsec_' + b64encode(bytes(range(24))).decode() + '"', "is in quotes"),
    ],
    ids=["no prefix", "passphrase", "no padding", "no base64", "version", "quotes"],
)
def test_a_webhook_secret_of_another_form_is_refused(text: str, words: str) -> None:
    """Receiver libraries would read other forms differently."""
    with pytest.raises(ValueError, match=words):
        parse_webhook_secret(text)


def test_a_content_key_is_32_bytes_in_base64() -> None:
    key = bytes(range(32))
    assert key == decode_content_key(parse_content_key(b64encode(key).decode()))


@pytest.mark.parametrize(
    "text",
    [
        b64encode(bytes(range(16))).decode(),
        b64encode(bytes(range(33))).decode(),
        b64encode(bytes(range(32))).decode().rstrip("="),
        bytes(range(32)).hex(),
        "a plain passphrase of whatever length",
    ],
    ids=["16 bytes", "33 bytes", "no padding", "hexadecimal", "passphrase"],
)
def test_a_content_key_of_another_form_is_refused(text: str) -> None:
    """A key that is derived from less would be guessed."""
    with pytest.raises(ValueError, match="must be 32 bytes in base64") as refused:
        parse_content_key(text)
    assert text not in str(refused.value)
