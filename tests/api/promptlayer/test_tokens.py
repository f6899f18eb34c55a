"""A token is valid for one client, one channel and one hour, and cannot be forged or changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gateway.api.promptlayer.realtime.tokens import LIFETIME, ChannelToken, ChannelTokens

NOW = datetime(2026, 11, 22, tzinfo=UTC)
END = int(NOW.timestamp()) + LIFETIME
TOKENS = ChannelTokens(b"s" * 32)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(TEXT, TEXT)
def test_an_issued_token_is_verified(client: str, channel: str) -> None:
    """By every replica with the same secret."""
    assert ChannelToken(client, channel, END) == ChannelTokens(b"s" * 32).verify(
        TOKENS.issue(client, channel, NOW), NOW
    )


def test_it_ends_after_an_hour() -> None:
    """Not earlier: the SDKs use one token for as long as they wait."""
    token = TOKENS.issue("one", "c", NOW)
    assert TOKENS.verify(token, NOW + timedelta(seconds=LIFETIME - 1)) is not None
    assert TOKENS.verify(token, NOW + timedelta(seconds=LIFETIME)) is None


def test_a_token_of_another_secret_is_invalid() -> None:
    assert TOKENS.verify(ChannelTokens(b"t" * 32).issue("one", "c", NOW), NOW) is None


def test_no_character_can_be_changed() -> None:
    """The signature covers the whole token."""
    token = TOKENS.issue("one", "workflow_updates:7", NOW)
    for index in range(len(token) - 1):  # the last one may hold bits that nothing reads
        changed = token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :]
        assert TOKENS.verify(changed, NOW) is None


@given(st.text())
def test_an_arbitrary_text_is_no_token(text: str) -> None:
    assert TOKENS.verify(text, NOW) is None


def test_it_is_bounded() -> None:
    assert TOKENS.verify("A" * 100_000, NOW) is None
