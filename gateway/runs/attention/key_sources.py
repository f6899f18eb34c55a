"""Source of items about stored keys of clients that expire soon, or have expired while they were used."""

from __future__ import annotations

from gateway.auth.stored_keys.directory import EXPIRY_WARNING, is_expiring
from gateway.auth.stored_keys.terms import decode_terms
from gateway.runs.attention.items import AttentionContext, AttentionItem, AttentionKind
from gateway.store.client_key import StoredKey

_MOST = 500  # keys that are looked at
_IN_USE = 2 * 86_400.0  # seconds before its expiry in which a key was used


async def expiring_stored_keys(context: AttentionContext) -> list[AttentionItem]:
    """Return an item for each stored key that expires within two weeks, or has expired in the last two while in use.

    One that was made for less than four weeks is an item only if it has expired while in use.
    """
    now = context.now_at
    ending = await context.store.client_keys.list_ending(
        from_at=now - EXPIRY_WARNING, until_at=now + EXPIRY_WARNING, limit=_MOST
    )
    return [item for key in ending if (item := _item(key, now)) is not None]


def _item(key: StoredKey, now: float) -> AttentionItem | None:
    expires_at = key.expires_at
    if expires_at is None or key.revoked_at is not None:
        return None
    expired = expires_at <= now
    in_use = key.last_used_at is not None and key.last_used_at >= expires_at - _IN_USE
    if not (in_use if expired else is_expiring(key.created_at, expires_at, now)):
        return None
    return AttentionItem(
        AttentionKind.STORED_KEYS_EXPIRING,
        "critical" if expired else "warning",
        key.id,
        f"The key {_name(key)} of {key.client} "
        + ("has expired while in use." if expired else "expires within 14 days."),
        "docs/alerts.md#runwardkeysexpiring",
        f"runward keys expire {key.id} DATE",
        expires_at if expired else expires_at - EXPIRY_WARNING,
    )


def _name(key: StoredKey) -> str:
    try:
        return decode_terms(key.terms).name
    except ValueError:
        return key.id
