"""Input and key of commands: from options, files, standard input and the environment."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from gateway.cli.errors import CliError
from gateway.cli.keys import warn_if_malformed
from gateway.json import strict_json
from providers.contract import JsonValue


def read_input(input_option: str | None, pairs: Iterable[str]) -> dict[str, JsonValue]:
    """Build the input: `input_option` is a JSON object or @FILE, `pairs` (name=text, name:=JSON) add members."""
    document = _parse_json(_resolve_file_reference(input_option), "--input") if input_option is not None else {}
    if not isinstance(document, dict):
        raise CliError("--input must be a JSON object")
    for text in pairs:
        name, value = _parse_pair(text)
        document[name] = value
    return document


def read_key(
    key: str | None, key_file: Path | None, *, variable: str = "RUNWARD_KEY", option: str = "--key-file"
) -> str:
    """Read a key from a file, or from `key`, which has the value of the environment variable; warns about typos.

    Raises CliError, whose text names the variable and the option of the file.
    """
    if key_file is not None:
        key = _read_file(str(key_file))
    key = (key or "").strip()
    if not key:
        raise CliError(f"no key: set {variable}, or name a file with {option}")
    if not key.isascii() or not key.isprintable():
        raise CliError("the key has characters that keys do not have")
    warn_if_malformed(key)
    return key


def read_ops_key(key: str | None, key_file: Path | None) -> str:
    """Read a key of the operations port as `read_key` does; "" if neither source has one."""
    if key_file is None and not (key or "").strip():
        return ""
    return read_key(key, key_file, variable="RUNWARD_OPS_KEY", option="--ops-key-file")


def _parse_pair(pair: str) -> tuple[str, JsonValue]:
    name, found, text = pair.partition("=")
    if not found or name in {"", ":"}:
        raise CliError("-i takes name=text or name:=JSON")
    if name.endswith(":"):
        return name[:-1], _parse_json(text, f"-i {name}=")
    return name, text


def _resolve_file_reference(option: str) -> str:
    return _read_file(option[1:]) if option.startswith("@") else option


def _read_file(path: str) -> str:
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
    except OSError as error:
        raise CliError(f"{path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise CliError(f"{path} is not UTF-8") from None


def _parse_json(text: str, option_name: str) -> JsonValue:
    try:
        return strict_json.read_unique(text.encode("utf-8", "surrogateescape"))
    except strict_json.NotJson as error:
        raise CliError(f"{option_name}: {error}") from None
