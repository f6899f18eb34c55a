"""`runward keys`: output of the key, its hash and its configuration."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import yaml

from gateway.auth.keys import KeyRefusal, KeyRing, PresentedKey
from gateway.key_format import is_well_formed
from gateway.settings import ClientSettings

if TYPE_CHECKING:
    from tests.cli.conftest import RunCommand

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def test_only_the_key_goes_to_standard_output(runward: RunCommand) -> None:
    """`runward keys new > key.txt` writes a file for --key-file; keys are unique."""
    first, second = runward("keys", "new"), runward("keys", "new")
    assert (0, 1, True) == (first.code, first.out.count("\n"), is_well_formed(first.out.strip()))
    assert first.out != second.out
    assert first.out.strip() not in first.err


def test_the_printed_configuration_accepts_the_key(runward: RunCommand) -> None:
    """R77: until the given expiry date."""
    result = runward("keys", "new", "--client", "checkout", "--expires", "2026-11-22")
    clients = yaml.load(result.err[result.err.index("clients:") :], yaml.BaseLoader)["clients"]  # dates stay texts
    settings = ClientSettings.model_validate(clients["checkout"])
    ring = KeyRing({"checkout": [(key.hash, key.expires) for key in settings.keys]})
    key = result.out.strip()
    assert "checkout" == ring.find(PresentedKey(key), lambda: NOW)
    assert KeyRefusal.EXPIRED is ring.find(PresentedKey(key), lambda: NOW.replace(day=22))


def test_a_keys_hash_is_what_new_printed(runward: RunCommand) -> None:
    made = runward("keys", "new")
    result = runward("keys", "hash", stdin=made.out)
    assert (0, "") == (result.code, result.err)
    assert result.out.strip() in made.err


def test_a_mistyped_key_is_hashed_with_a_warning(runward: RunCommand) -> None:
    key = runward("keys", "new").out.strip()
    result = runward("keys", "hash", stdin=key[:-1] + ("a" if key[-1] != "a" else "b"))
    assert 0 == result.code
    assert result.out.startswith("sha256:")
    assert "typo" in result.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("new", "--client", "a b"), "name"),
        (("new", "--expires", "tomorrow"), "--expires: must be a date"),
        (("hash",), "no key"),
    ],
)
def test_invalid_arguments_are_refused(runward: RunCommand, words: tuple[str, ...], complaint: str) -> None:
    result = runward("keys", *words, stdin=" \n")
    assert (2, "", 1) == (result.code, result.out, result.err.count("\n"))
    assert complaint in result.err
