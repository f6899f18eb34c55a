"""Encryption of single values: what cannot be authenticated is refused."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.content_cipher import MAGIC, OVERHEAD, ContentCipher, is_encrypted
from gateway.store.contract import ContentUnreadable

OLD, NEW = bytes(32), bytes(range(32))
CLEAR = b'{"input":{"prompt":"canary"}}'


def cipher(*keys: bytes) -> ContentCipher:
    return ContentCipher(keys, os.urandom)


@given(value=st.binary(max_size=1000), binding=st.lists(st.text(), max_size=3))
def test_a_value_is_decrypted_in_its_place(value: bytes, binding: list[str]) -> None:
    """Whatever the value, also one that begins like an encrypted one."""
    for clear in (value, MAGIC + value):
        stored = cipher(NEW).encrypt(clear, *binding)
        assert (True, len(clear) + OVERHEAD) == (is_encrypted(stored), len(stored))
        assert clear == cipher(NEW).decrypt(stored, *binding)


def test_equal_values_are_encrypted_differently() -> None:
    one = cipher(NEW)
    assert 100 == len({one.encrypt(CLEAR, "order", "run_1") for _ in range(100)})


@pytest.mark.parametrize(
    "binding",
    [
        ("document", "run_1"),
        ("order", "run_2"),
        ("order",),
        ("order", "run_1", ""),
        ("orderrun_1",),
        ("orde", "rrun_1"),
    ],
)
def test_a_value_in_another_place_is_refused(binding: tuple[str, ...]) -> None:
    """Of another kind, of another run, or with the same texts divided in another way."""
    stored = cipher(NEW).encrypt(CLEAR, "order", "run_1")
    with pytest.raises(ContentUnreadable, match="changed, or belongs to another run"):
        cipher(NEW).decrypt(stored, *binding)


def test_a_changed_value_is_refused() -> None:
    """Every single byte is authenticated; one of another version or in clear is not taken for an encrypted one."""
    stored = cipher(NEW).encrypt(CLEAR, "order", "run_1")
    for place in range(len(MAGIC), len(stored)):
        changed = stored[:place] + bytes([stored[place] ^ 1]) + stored[place + 1 :]
        with pytest.raises(ContentUnreadable) as refused:
            cipher(NEW).decrypt(changed, "order", "run_1")
        assert "canary" not in str(refused.value)


@pytest.mark.parametrize("length", [len(MAGIC), len(MAGIC) + 8, len(MAGIC) + 8 + 5, OVERHEAD - 1, OVERHEAD + 3])
def test_a_value_that_was_cut_off_is_refused(length: int) -> None:
    stored = cipher(NEW).encrypt(CLEAR, "order", "run_1")
    with pytest.raises(ContentUnreadable):
        cipher(NEW).decrypt(stored[:length], "order", "run_1")


def test_the_first_key_encrypts_and_each_decrypts() -> None:
    before = cipher(OLD).encrypt(CLEAR, "order", "run_1")
    rotated = cipher(NEW, OLD)
    assert CLEAR == rotated.decrypt(before, "order", "run_1")
    after = rotated.encrypt(CLEAR, "order", "run_1")
    assert CLEAR == cipher(NEW).decrypt(after, "order", "run_1")
    with pytest.raises(ContentUnreadable, match=r"a key that is not configured \([0-9a-f]{16}\)"):
        cipher(OLD).decrypt(after, "order", "run_1")


def test_without_keys_values_stay_in_clear_and_encrypted_ones_are_refused() -> None:
    stored = cipher(NEW).encrypt(CLEAR, "order", "run_1")
    assert (CLEAR, CLEAR) == (cipher().encrypt(CLEAR, "order"), cipher().decrypt(CLEAR, "order"))
    with pytest.raises(ContentUnreadable, match="a key that is not configured"):
        cipher().decrypt(stored, "order", "run_1")
