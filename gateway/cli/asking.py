"""What `runward run` is given: the input from the command line or a file, the key from where nobody else reads it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from gateway import strictjson
from gateway.cli.failure import Failure
from gateway.cli.keys import warn_of_typo
from providers.contract import JsonValue


def read_input(given: str | None, pairs: Iterable[str]) -> dict[str, JsonValue]:
    """Put the input together: `given` is a JSON object or @FILE, each of `pairs` (name=text, name:=JSON) adds to it."""
    whole = _json(_text(given), "--input") if given is not None else {}
    if not isinstance(whole, dict):
        raise Failure("--input must be a JSON object")
    for pair in pairs:
        name, value = _pair(pair)
        whole[name] = value
    return whole


def read_key(key: str | None, key_file: Path | None) -> str:
    """Take the gateway key from a file, or else from `key` (the environment's); warn where it was mistyped."""
    if key_file is not None:
        key = _read(str(key_file))
    key = (key or "").strip()
    if not key:
        raise Failure("no key: set RUNWARD_KEY, or name a file with --key-file")
    if not key.isascii() or not key.isprintable():
        raise Failure("the key has characters that no key has")
    warn_of_typo(key)
    return key


def _pair(pair: str) -> tuple[str, JsonValue]:
    name, found, text = pair.partition("=")
    if not found or name in {"", ":"}:
        raise Failure("-i takes name=text or name:=JSON")
    if name.endswith(":"):
        return name[:-1], _json(text, f"-i {name}=")
    return name, text


def _text(given: str) -> str:
    return _read(given[1:]) if given.startswith("@") else given


def _read(path: str) -> str:
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
    except OSError as error:
        raise Failure(f"{path} can not be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise Failure(f"{path} is not UTF-8") from None


def _json(text: str, where: str) -> JsonValue:
    try:
        return strictjson.read_unique(text.encode("utf-8", "surrogateescape"))
    except strictjson.NotJson as error:
        raise Failure(f"{where}: {error}") from None
