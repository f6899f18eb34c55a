"""Contract of the announcements in a store: which items of the attention list a webhook was told of already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class AnnouncementStore(Protocol):
    """The part of a store that keeps announcements. Every method may raise `StoreUnavailable`.

    A store that is not shared keeps them as long as the process.
    """

    async def take_unannounced(
        self, ids: Sequence[str], *, limit: int, now_at: float, taken_until_at: float, kept_until_at: float
    ) -> list[str]:
        """Return up to `limit` of these ids that are new, in their order. One caller gets each, until `taken_until_at`.

        An id is new unless it was announced. One that was is kept until `kept_until_at`, at least.
        """

    async def mark_announced(self, ids: Sequence[str], *, kept_until_at: float) -> None:
        """Mark ids as announced, until `kept_until_at`."""


class LocalAnnouncements:
    """Announcements of this process."""

    def __init__(self) -> None:
        self._taken: dict[str, float] = {}
        self._announced: dict[str, float] = {}

    async def take_unannounced(
        self, ids: Sequence[str], *, limit: int, now_at: float, taken_until_at: float, kept_until_at: float
    ) -> list[str]:
        """See `AnnouncementStore.take_unannounced`."""
        self._taken = {each: until_at for each, until_at in self._taken.items() if until_at > now_at}
        self._announced = {each: until_at for each, until_at in self._announced.items() if until_at > now_at}
        self._announced.update((each, kept_until_at) for each in ids if each in self._announced)
        new = [each for each in ids if each not in self._announced and each not in self._taken][:limit]
        self._taken.update((each, taken_until_at) for each in new)
        return new

    async def mark_announced(self, ids: Sequence[str], *, kept_until_at: float) -> None:
        """See `AnnouncementStore.mark_announced`."""
        for each in ids:
            self._taken.pop(each, None)
            self._announced[each] = kept_until_at
