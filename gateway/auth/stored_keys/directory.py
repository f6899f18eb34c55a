"""Key directory: the copy of all stored keys in this process, by hash."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from typing import Literal, TypeAlias

from gateway.auth.client import Client
from gateway.auth.keys import KeyRefusal, PresentedKey
from gateway.auth.stored_keys.terms import decode_terms
from gateway.clock import Clock
from gateway.store.client_key import StoredKey

MAX_AGE = 300.0
"""Seconds after the last look at the store for which the copy is used: then stored keys are refused, as one may have
been revoked."""

KEPT_AFTER_END = 30 * 86_400.0
"""Seconds for which a key is kept after it was revoked or has expired."""

EXPIRY_WARNING = 14 * 86_400.0
"""Seconds before its expiry from which a key expires soon, unless it was made for less than twice that time."""

_UP_TO_DATE = 10.0  # seconds after the last look at the store for which a key that is not in the copy is unknown
_MAX_CLIENTS = 10_000  # clients that are kept as one of their keys stands for them
_MINUTE = 60


KeyState: TypeAlias = Literal["active", "expired", "revoked", "no_client"]
"""`no_client`: the client of the key is not configured."""


class DirectoryUnavailable(Exception):
    """The copy is not loaded, or too old: whether the key is valid is not known. `known`: it was valid before."""

    def __init__(self, *, known: bool) -> None:
        super().__init__()
        self.known = known


class _Entry:
    """What of a key is needed to accept it. `used_minute`: the last one that was noted, in minutes since 1970."""

    __slots__ = ("client", "created_at", "digest", "expires_at", "id", "previous", "revoked", "terms", "used_minute")

    def __init__(self, key: StoredKey) -> None:
        self.id = key.id
        self.client = key.client
        self.digest = key.digest
        self.terms = key.terms
        self.created_at = key.created_at
        self.expires_at = key.expires_at
        self.revoked = key.revoked_at
        self.previous = None if key.previous_digest is None else (key.previous_digest, key.previous_until_at or 0.0)
        self.used_minute = 0

    @property
    def digests(self) -> Iterator[bytes]:
        yield self.digest
        if self.previous is not None:
            yield self.previous[0]

    def refusal(self, digest: bytes, now: float) -> KeyRefusal | None:
        if self.revoked is not None:
            return KeyRefusal.REVOKED
        if self.expires_at is not None and now >= self.expires_at:
            return KeyRefusal.EXPIRED
        if digest != self.digest and self.previous is not None and now >= self.previous[1]:
            return KeyRefusal.ROTATED
        return None


@dataclass(slots=True)
class KeyDirectory:
    """The stored keys. A look-up takes the hash of a key, whatever their number, and never the store.

    `revision`: the newest of the changes that are in the copy.
    """

    clock: Clock
    revision: int = 0
    _by_digest: dict[bytes, _Entry] = field(default_factory=dict)
    _by_id: dict[str, _Entry] = field(default_factory=dict)
    _clients: dict[str, tuple[Client, Client]] = field(default_factory=dict)
    _uses: dict[str, float] = field(default_factory=dict)
    _confirmed: float | None = None  # monotonic

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def age(self) -> float:
        """Seconds since the copy had all changes; infinite until it is complete."""
        return inf if self._confirmed is None else self.clock.monotonic() - self._confirmed

    def find(self, presented: PresentedKey, now: datetime, clients: Mapping[str, Client]) -> Client | KeyRefusal:
        """Return the client as this key stands for it, or the reason for its refusal.

        `clients`: those of the configuration. Raises DirectoryUnavailable if that is not known.
        """
        digest = presented.digest
        entry = self._by_digest.get(digest)
        age = self.age
        if entry is None:
            if age > _UP_TO_DATE:  # it may be a new one
                raise DirectoryUnavailable(known=False)
            return KeyRefusal.UNKNOWN
        at = now.timestamp()
        refusal = entry.refusal(digest, at)
        if refusal is not None:
            return refusal
        if age > MAX_AGE:
            raise DirectoryUnavailable(known=True)
        configured = clients.get(entry.client)
        if configured is None:
            return KeyRefusal.NO_CLIENT
        minute = int(at) // _MINUTE
        if entry.used_minute != minute:
            entry.used_minute = minute
            self._uses[entry.id] = float(minute * _MINUTE)
        known = self._clients.get(entry.id)
        if known is not None and known[0] is configured:
            return known[1]
        return self._narrow(entry, configured)

    def id_of(self, presented: PresentedKey) -> str | None:
        """Return the id of the key with this text, or this text before its rotation; None if there is none."""
        entry = self._by_digest.get(presented.digest)
        return None if entry is None else entry.id

    def _narrow(self, entry: _Entry, configured: Client) -> Client | KeyRefusal:
        try:
            terms = decode_terms(entry.terms)
        except ValueError:
            return KeyRefusal.NOT_SUPPORTED
        if len(self._clients) >= _MAX_CLIENTS:
            self._clients.clear()
        client = configured.narrowed(entry.id, terms.workflows, terms.own_limits)
        self._clients[entry.id] = configured, client
        return client

    def apply(self, keys: Iterable[StoredKey]) -> None:
        """Put changed keys in the place of what was known of them."""
        for key in keys:
            self._remove(key.id)
            entry = _Entry(key)
            self._by_id[key.id] = entry
            for digest in entry.digests:
                self._by_digest[digest] = entry
            self.revision = max(self.revision, key.revision)

    def confirm(self, as_of: float) -> None:
        """Note that the copy has all changes that were made before `as_of` (monotonic)."""
        self._confirmed = as_of

    def clear(self) -> None:
        """Forget all keys; the copy is not usable until it is confirmed again."""
        for mapping in (self._by_digest, self._by_id, self._clients):
            mapping.clear()
        self.revision, self._confirmed = 0, None

    def take_uses(self) -> dict[str, float]:
        """Return the uses that were noted since, as seconds since 1970 by id, at most one for each key and minute."""
        taken, self._uses = self._uses, {}
        return taken

    def return_uses(self, uses: Mapping[str, float]) -> None:
        """Note uses again that could not be stored. Their number is at most that of the keys."""
        self._uses = {**{key_id: at for key_id, at in uses.items() if key_id in self._by_id}, **self._uses}

    def ids(self) -> list[str]:
        """Return the ids of all keys."""
        return list(self._by_id)

    def state(self, key_id: str, now: float, clients: Mapping[str, Client]) -> KeyState | None:
        """Return the state of a key; None if there is no such key."""
        entry = self._by_id.get(key_id)
        if entry is None:
            return None
        return key_state(entry.revoked, entry.expires_at, now, configured=entry.client in clients)

    def expires_soon(self, key_id: str, now: float) -> bool:
        """Return True if a key that was made for long expires within `EXPIRY_WARNING`."""
        entry = self._by_id.get(key_id)
        if entry is None or entry.expires_at is None or entry.revoked is not None:
            return False
        return is_expiring(entry.created_at, entry.expires_at, now)

    def forget_ended(self, key_id: str, now: float) -> None:
        """Forget a key that the store no longer has."""
        entry = self._by_id.get(key_id)
        ends = [] if entry is None else [each for each in (entry.revoked, entry.expires_at) if each is not None]
        if ends and min(ends) + KEPT_AFTER_END < now:
            self._remove(key_id)

    def _remove(self, key_id: str) -> None:
        entry = self._by_id.pop(key_id, None)
        if entry is not None:
            for digest in entry.digests:
                self._by_digest.pop(digest, None)
            self._clients.pop(key_id, None)


def is_expiring(created_at: float, expires_at: float, now: float) -> bool:
    """Return True within `EXPIRY_WARNING` before the expiry, if it was twice that time after the creation."""
    return 0 < expires_at - now <= EXPIRY_WARNING and expires_at - created_at >= 2 * EXPIRY_WARNING


def key_state(revoked_at: float | None, expires_at: float | None, now: float, *, configured: bool) -> KeyState:
    """Return the state of a key. `configured`: its client is."""
    if revoked_at is not None:
        return "revoked"
    if expires_at is not None and now >= expires_at:
        return "expired"
    return "active" if configured else "no_client"
