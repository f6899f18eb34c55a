"""Helper functions of adapters: `segment` and `clean`."""

from __future__ import annotations

import pytest

from providers.contract import clean, segment


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_names_that_no_encoding_protects_are_refused(name: str) -> None:
    """R61: clients and proxies resolve dot segments even where they are encoded."""
    with pytest.raises(ValueError, match="segment"):
        segment(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc\x1b[0m", "a b c [0m"),
        ("bad thing: Traceback (most recent call last)", "bad thing"),
        ("x" * 5000, "x" * 200),
        ("a\u202eb\u2028c", "a b c"),
        ("", ""),
    ],
)
def test_provider_text_is_cleaned(text: str, shown: str) -> None:
    """R15, R81: one line, no control or direction characters, no stack trace, a bounded length."""
    assert shown == clean(text)
