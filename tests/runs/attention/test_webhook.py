"""Webhook of the attention list: signed, once for each item, again after a failure and after an absence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from gateway.outbound.webhook.egress_policy import EgressPolicy
from gateway.outbound.webhook.sender import WebhookSender
from gateway.runs.attention.items import AttentionItem, AttentionKind
from gateway.runs.attention.webhook import MAX_POSTED, AttentionWebhook
from gateway.runs.callbacks.webhook_message import signing_key
from gateway.store.announcements import AnnouncementStore
from gateway.store.contract import Store
from tests.store.samples import NOW
from tests.support.callback_receiver import CALLBACK_PATH, deliveries, verify_signature
from tests.support.clock import ManualClock
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream

SECRET = "whsec_" + "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def item(subject: str, since_at: float = NOW) -> AttentionItem:
    return AttentionItem(AttentionKind.CIRCUIT_OPEN, "critical", subject, "It fails.", "docs/x.md", "wait", since_at, 2)


class Replica:
    """The webhook of one replica."""

    def __init__(self, announcements: AnnouncementStore, url: str, *allow: str) -> None:
        self.clock, self.logs, self.url = ManualClock(datetime.now(UTC)), LogCapture(), url  # verifiers check the time
        sender = WebhookSender(EgressPolicy(allow or ("127.0.0.1/32",)), self.clock)
        log = structlog.wrap_logger(None, processors=[self.logs])
        self.webhook = AttentionWebhook(announcements, sender, self.clock, log)

    async def announce(self, *items: AttentionItem, after: float = 0.0) -> None:
        self.clock.advance(after)
        await self.webhook.announce(items, self.url + CALLBACK_PATH, [signing_key(SECRET)])


def posted(receiver: FakeUpstream) -> list[list[str]]:
    """Return the subjects in each message."""
    messages: Sequence[dict[str, Any]] = [json.loads(each.body) for each in deliveries(receiver)]
    return [[each["subject"] for each in message["data"]["items"]] for message in messages]


async def test_new_items_are_one_signed_message(store: Store, receiver: FakeUpstream) -> None:
    receiver.always("POST", CALLBACK_PATH, reply(204))
    replica = Replica(store.announcements, receiver.url)
    await replica.announce(item("studio"), item("layer"))
    (delivery,) = deliveries(receiver)
    verify_signature(delivery, SECRET)
    message = json.loads(delivery.body)
    assert "attention.items" == message["type"]
    assert {
        "id": item("studio").id,
        "kind": "circuit_open",
        "severity": "critical",
        "since": message["data"]["items"][0]["since"],
        "subject": "studio",
        "summary": "It fails.",
        "runbook": "docs/x.md",
        "action": "wait",
        "count": 2,
    } == message["data"]["items"][0]
    assert ["attention_announced"] == [each["event"] for each in replica.logs.entries]


async def test_each_item_is_sent_once_while_it_lasts(store: Store, receiver: FakeUpstream) -> None:
    """By all replicas on the store together; and again once it was away for a quarter of an hour."""
    receiver.always("POST", CALLBACK_PATH, reply(200))
    one, two = (Replica(store.announcements, receiver.url) for _ in range(2))
    await one.announce(item("studio"))
    await two.announce(item("studio"))
    await one.announce(item("studio"), item("layer"), after=30)
    await two.announce(item("studio"), item("layer"), after=30)
    await one.announce(item("layer"), after=840)
    assert [["studio"], ["layer"]] == posted(receiver)
    await one.announce(item("studio"), item("layer"), after=840)
    assert [["studio"], ["layer"], ["studio"]] == posted(receiver)


@pytest.mark.parametrize("status", [302, 410, 500])
async def test_what_is_not_accepted_is_sent_again(store: Store, receiver: FakeUpstream, status: int) -> None:
    """A minute later, with the same id, by any replica."""
    receiver.script("POST", CALLBACK_PATH, [reply(status)])
    receiver.always("POST", CALLBACK_PATH, reply(200))
    one, two = (Replica(store.announcements, receiver.url) for _ in range(2))
    await one.announce(item("studio"))
    await two.announce(item("studio"), after=30)
    assert [["studio"]] == posted(receiver)
    await two.announce(item("studio"), after=61)
    await one.announce(item("studio"), after=200)
    assert [["studio"]] * 2 == posted(receiver)
    assert 1 == len({each.header("webhook-id") for each in deliveries(receiver)})
    assert [("attention_not_announced", str(status))] == [(each["event"], each["why"]) for each in one.logs.entries]


async def test_a_receiver_that_is_not_allowed_gets_nothing(store: Store, receiver: FakeUpstream) -> None:
    """The egress policy decides about it as about a callback_url."""
    replica = Replica(store.announcements, receiver.url, "10.0.0.0/8")
    await replica.announce(item("studio"))
    assert ([], "refused") == (receiver.received, replica.logs.entries[0]["why"])


async def test_many_items_are_several_messages(store: Store, receiver: FakeUpstream) -> None:
    receiver.always("POST", CALLBACK_PATH, reply(200))
    replica = Replica(store.announcements, receiver.url)
    items = [item(f"p{number}") for number in range(MAX_POSTED + 20)]
    for after in (0, 30, 30):
        await replica.announce(*items, after=after)
    assert [MAX_POSTED, 20] == [len(each) for each in posted(receiver)]
    assert [each.subject for each in items] == [name for message in posted(receiver) for name in message]


async def test_without_items_nothing_is_sent(store: Store, receiver: FakeUpstream) -> None:
    await Replica(store.announcements, receiver.url).announce()
    assert [] == receiver.received
