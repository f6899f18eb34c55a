"""A ticket is good for one client, one channel and one hour, and can not be made or changed by anybody else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gateway.api.promptlayer.tickets import LIFETIME, Ticket, Tickets

NOW = datetime(2026, 11, 22, tzinfo=UTC)
END = int(NOW.timestamp()) + LIFETIME
TICKETS = Tickets(b"s" * 32)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(TEXT, TEXT)
def test_what_was_written_is_read(client: str, channel: str) -> None:
    """By every replica that has the same secret."""
    assert Ticket(client, channel, END) == Tickets(b"s" * 32).read(TICKETS.write(client, channel, NOW), NOW)


def test_it_ends_after_an_hour() -> None:
    """Not a second earlier: the SDKs come back with the same one for as long as they wait."""
    ticket = TICKETS.write("one", "c", NOW)
    assert TICKETS.read(ticket, NOW + timedelta(seconds=LIFETIME - 1)) is not None
    assert TICKETS.read(ticket, NOW + timedelta(seconds=LIFETIME)) is None


def test_another_secret_makes_another_ticket() -> None:
    assert TICKETS.read(Tickets(b"t" * 32).write("one", "c", NOW), NOW) is None


def test_no_character_can_be_changed() -> None:
    """Signature and content are both of one piece."""
    ticket = TICKETS.write("one", "workflow_updates:7", NOW)
    for place in range(len(ticket) - 1):  # the last one may hold bits that nothing reads
        changed = ticket[:place] + ("A" if ticket[place] != "A" else "B") + ticket[place + 1 :]
        assert TICKETS.read(changed, NOW) is None


@given(st.text())
def test_what_is_no_ticket_is_none(text: str) -> None:
    assert TICKETS.read(text, NOW) is None


def test_it_is_bounded() -> None:
    assert TICKETS.read("A" * 100_000, NOW) is None
