"""Check of `runward check --connect`: stored keys that the configuration leaves without effect."""

from __future__ import annotations

from gateway.settings import Settings
from gateway.store.client_key import ClientKeyStore

_PAGE, _MOST = 500, 5000  # keys
_MOST_NAMED = 3


async def describe_ineffective_keys(keys: ClientKeyStore, settings: Settings) -> str | None:
    """Return what is wrong with stored keys, or None: their client is not configured, or their hash is in the file.

    The newest 5000 keys are read. Raises StoreUnavailable.
    """
    complaints = []
    orphans = await _without_client(keys, settings)
    if orphans:
        complaints.append(f"their client is not configured: {_named(orphans)}")
    doubled = [
        f"{stored.id} (clients.{name}.keys[{index}])"
        for name, client in settings.clients.items()
        for index, key in enumerate(client.keys)
        if (stored := await keys.find(bytes.fromhex(key.hash.removeprefix("sha256:")))) is not None
    ]
    if doubled:
        complaints.append(f"their hash is in the configuration, which goes first: {_named(doubled)}")
    return "; ".join(complaints) or None


async def _without_client(keys: ClientKeyStore, settings: Settings) -> list[str]:
    found: list[str] = []
    before: int | None = None
    for _ in range(_MOST // _PAGE):
        page = await keys.list(before=before, limit=_PAGE)
        found += [
            f"{key.id} ({key.client})" for key in page if key.revoked_at is None and key.client not in settings.clients
        ]
        if len(page) < _PAGE:
            break
        before = page[-1].number
    return found


def _named(texts: list[str]) -> str:
    more = f" and {len(texts) - _MOST_NAMED} more" if len(texts) > _MOST_NAMED else ""
    return ", ".join(texts[:_MOST_NAMED]) + more
