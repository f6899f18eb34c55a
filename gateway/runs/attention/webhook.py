"""Webhook of attention items: new ones are posted, signed as callbacks are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from gateway.clock import Clock, format_rfc3339
from gateway.json import strict_json
from gateway.observability.logger_protocol import Logger
from gateway.outbound.webhook.sender import WebhookResponse, WebhookSender
from gateway.runs.attention.items import AttentionItem
from gateway.runs.callbacks.webhook_message import sign_message
from gateway.store.announcements import AnnouncementStore

MAX_POSTED = 100
"""Items in one message; further ones are in the next."""

TAKEN_SECONDS = 60.0
"""Time for which a replica that sends an item keeps others from sending it; longer than a delivery."""

AWAY_SECONDS = 900.0
"""Time for which an item has to be away before it is new again."""


@dataclass(frozen=True, slots=True)
class AttentionWebhook:
    """Posts items that were not announced yet, by any replica: at least once."""

    announcements: AnnouncementStore
    sender: WebhookSender
    clock: Clock
    log: Logger

    async def announce(self, items: Sequence[AttentionItem], url: str, keys: Sequence[bytes]) -> None:
        """Post the new ones of these items in one message. What is not accepted is sent again a minute later.

        Raises StoreUnavailable; then nothing was sent, or it is sent again.
        """
        by_id = {item.id: item for item in items}
        now = self.clock.now()
        now_at = now.timestamp()
        taken = await self.announcements.take_unannounced(
            list(by_id),
            limit=MAX_POSTED,
            now_at=now_at,
            taken_until_at=now_at + TAKEN_SECONDS,
            kept_until_at=now_at + AWAY_SECONDS,
        )
        if not taken:
            return
        body = strict_json.write(
            {
                "type": "attention.items",
                "timestamp": format_rfc3339(now),
                "data": {"items": [by_id[item_id].document() for item_id in taken]},
            }
        )
        result = await self.sender.deliver(url, sign_message(_message_id(by_id, taken), body, keys, now))
        if isinstance(result, WebhookResponse) and 200 <= result.status < 300:
            await self.announcements.mark_announced(taken, kept_until_at=now_at + AWAY_SECONDS)
            self.log.info("attention_announced", items=len(taken))
        else:
            why = str(result.status) if isinstance(result, WebhookResponse) else result.value
            self.log.warning("attention_not_announced", items=len(taken), why=why)


def _message_id(items: dict[str, AttentionItem], taken: Sequence[str]) -> str:
    """Return the id of a message: the same for a repetition with the same items."""
    named = "\n".join(f"{item_id} {items[item_id].since_at}" for item_id in sorted(taken))
    return "msg_att_" + sha256(named.encode()).hexdigest()[:32]
