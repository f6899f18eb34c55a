"""Gateway keys: 256 random bits, checksum, look-up by hash."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.keys import KeyRefusal, KeyRing, PresentedKey, hash_key, new_key
from gateway.key_format import is_well_formed
from tests.support.clock import ManualClock

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY = new_key(ManualClock())
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class _FixedToken(ManualClock):
    """Clock with fixed random bits."""

    def __init__(self, bits: bytes) -> None:
        super().__init__()
        self._bits = bits

    def token(self, size: int) -> bytes:
        assert size == len(self._bits)
        return self._bits


@given(st.binary(min_size=32, max_size=32))
def test_a_new_key_has_a_fixed_width_and_a_right_checksum(bits: bytes) -> None:
    key = new_key(_FixedToken(bits))
    assert re.fullmatch("rw_[0-9A-Za-z]{49}", key)
    assert is_well_formed(key)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_every_random_bit_is_in_the_key(one: bytes, other: bytes) -> None:
    assert (one == other) == (new_key(_FixedToken(one)) == new_key(_FixedToken(other)))


def test_the_widest_number_still_fits() -> None:
    """2**256 - 1 needs all 43 digits; zero is padded."""
    assert len(new_key(_FixedToken(b"\xff" * 32))) == len(new_key(_FixedToken(bytes(32)))) == 52


@given(st.integers(0, len(KEY) - 1), st.characters())
def test_one_mistyped_character_is_always_noticed(position: int, character: str) -> None:
    typo = KEY[:position] + character + KEY[position + 1 :]
    assert (typo == KEY) == is_well_formed(typo)


@pytest.mark.parametrize("text", ["", "rw_", KEY[:-1], KEY + "0", KEY + "\n", " " + KEY, KEY.upper(), "\udc80" * 52])
def test_other_text_is_not_a_well_formed_key(text: str) -> None:
    assert not is_well_formed(text)


def test_a_key_is_kept_as_its_sha256() -> None:
    assert "sha256:" + hashlib.sha256(b"secret").hexdigest() == hash_key("secret")


def test_a_key_leads_to_its_client_among_ten_thousand() -> None:
    ring = KeyRing({f"client-{n}": [(hash_key(f"key-{n}"), None)] for n in range(10_000)})
    assert "client-7777" == ring.find(PresentedKey("key-7777"), lambda: NOW)


@pytest.mark.parametrize(
    ("presented", "refusal"),
    [
        ("", KeyRefusal.MISSING),
        ("hunter2", KeyRefusal.MALFORMED),
        (KEY[:-1] + ("0" if KEY[-1] != "0" else "1"), KeyRefusal.MALFORMED),
        ("\udcff\ud800", KeyRefusal.MALFORMED),
        (new_key(ManualClock(seed=2)), KeyRefusal.UNKNOWN),
    ],
)
def test_a_refused_key_has_a_reason_for_the_log(presented: str, refusal: KeyRefusal) -> None:
    ring = KeyRing({"checkout": [(hash_key(KEY), None)]})
    assert refusal is ring.find(PresentedKey(presented), lambda: NOW)


def test_a_missing_key_belongs_to_no_client() -> None:
    """R75: in any configuration."""
    assert KeyRefusal.MISSING is KeyRing({"one": [(hash_key(""), None)]}).find(PresentedKey(""), lambda: NOW)


def test_a_key_ends_at_its_very_moment() -> None:
    """R77: the expiry is exact."""
    ring = KeyRing({"checkout": [(hash_key(KEY), NOW)]})
    assert "checkout" == ring.find(PresentedKey(KEY), lambda: NOW - timedelta(microseconds=1))
    assert KeyRefusal.EXPIRED is ring.find(PresentedKey(KEY), lambda: NOW)


def test_an_expiry_in_another_time_zone_is_the_same_time() -> None:
    ring = KeyRing({"checkout": [(hash_key(KEY), datetime.fromisoformat("2026-11-21T13:00:00+01:00"))]})
    assert KeyRefusal.EXPIRED is ring.find(PresentedKey(KEY), lambda: NOW)


def test_both_keys_work_while_they_are_rotated() -> None:
    """R77: during a rotation both keys are valid."""
    ring = KeyRing({"checkout": [(hash_key("old"), NOW + timedelta(days=1)), (hash_key("new"), None)]})
    assert ["checkout", "checkout"] == [ring.find(PresentedKey(key), lambda: NOW) for key in ("old", "new")]


def test_a_hash_in_capitals_is_the_same_hash() -> None:
    ring = KeyRing({"checkout": [("sha256:" + hash_key(KEY)[7:].upper(), None)]})
    assert "checkout" == ring.find(PresentedKey(KEY), lambda: NOW)


@pytest.mark.parametrize(
    "entries",
    [
        {"checkout": [("sha256:abc", None)]},
        {"checkout": [(KEY, None)]},
        {"checkout": [(hash_key(KEY), datetime(2027, 1, 1))]},  # noqa: DTZ001 - the missing zone is the point
        {"checkout": [(hash_key(KEY), None)], "billing": [(hash_key(KEY), None)]},
    ],
)
def test_an_invalid_entry_is_refused_without_showing_it(
    entries: dict[str, list[tuple[str, datetime | None]]],
) -> None:
    """A value that is not a hash may be the key itself."""
    with pytest.raises(ValueError, match="client") as caught:
        KeyRing(entries)
    assert not any(key_hash in str(caught.value) for keys in entries.values() for key_hash, _ in keys)
