"""Audit records: what was changed by which operator, as a chain, and the part of a store that keeps it.

Each record contains the hash of the record before it. The store does not compute hashes: it appends a record only if
the head of its chain is the one that the record was made for, so replicas build one chain. Records are never changed;
the oldest are purged, and the last purged one stays known as the anchor of the chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import orjson

MAX_EXAMINED = 5_000
"""Records that one page examines at most."""
PURGE_BATCH = 500
"""Records that are deleted in one step."""


@dataclass(frozen=True, slots=True)
class AuditHead:
    """Place in a chain: the sequence number of a record, and its SHA-256 in hexadecimal."""

    sequence: int
    hash: str


GENESIS = AuditHead(0, "0" * 64)
"""What the first record follows."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """A record. `content`: a JSON object with its sequence number and the hash of the record before."""

    sequence: int
    hash: str
    content: bytes

    @property
    def head(self) -> AuditHead:
        """Its place in the chain."""
        return AuditHead(self.sequence, self.hash)

    def members(self) -> dict[str, object]:
        """Members of the object; none if the content is no JSON object, because it was changed."""
        try:
            document = orjson.loads(self.content)
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}


@dataclass(frozen=True, slots=True)
class AuditState:
    """Ends of a chain. `anchor`: the last purged record. `head`: the newest record; the anchor if none is left."""

    anchor: AuditHead = GENESIS
    head: AuditHead = GENESIS


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Records of a page: those that meet all conditions, after the sequence number `cursor` in the order of the page.

    `equal`: members of a record and their values. `from_time`, `until_time`: RFC 3339 in UTC with milliseconds, as in
    the records; the second is excluded. Newest first, unless `ascending`.
    """

    equal: Mapping[str, str]
    from_time: str | None = None
    until_time: str | None = None
    cursor: int | None = None
    ascending: bool = False
    limit: int = 100

    def matches(self, record: AuditRecord) -> bool:
        """Return whether a record meets the conditions. Without conditions its content is not read."""
        if not self.equal and self.from_time is None and self.until_time is None:
            return True
        members = record.members()
        time = str(members.get("time", ""))
        return (
            all(members.get(name) == value for name, value in self.equal.items())
            and (self.from_time is None or time >= self.from_time)
            and (self.until_time is None or time < self.until_time)
        )


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Records in the order of the page. `next`: the cursor of the page after it; None if this is the last one.

    `complete`: False if the page ended because `MAX_EXAMINED` records were examined.
    """

    records: list[AuditRecord]
    next: int | None = None
    complete: bool = True


class AuditStore(Protocol):
    """The audit records of a store. Every method may raise `StoreUnavailable`."""

    async def state(self) -> AuditState:
        """Return the ends of the chain."""

    async def append(self, records: Sequence[AuditRecord], after: AuditHead) -> AuditHead:
        """Append all of these records, at least one, if `after` is the head of the chain; else none.

        Returns the head after the call, whichever it is.
        """

    async def list(self, audit_filter: AuditFilter) -> AuditPage:
        """List records by their sequence numbers."""

    async def purge(self, before_time: str, *, most: int) -> int:
        """Delete the oldest records, up to the first that is neither before this time nor one of more than `most`.

        Returns their number.
        """


class KeepsAudit(Protocol):
    """A store that has audit records."""

    audit: AuditStore


def select_page(candidates: Iterable[AuditRecord], audit_filter: AuditFilter) -> AuditPage:
    """Return the page of these records, which follow the cursor in the order of the page.

    There are at most MAX_EXAMINED of them, and fewer only if there are no others.
    """
    found: list[AuditRecord] = []
    examined, last = 0, 0
    for record in candidates:
        examined, last = examined + 1, record.sequence
        if audit_filter.matches(record):
            found.append(record)
            if len(found) == audit_filter.limit:
                return AuditPage(found, last)
    if examined < MAX_EXAMINED:
        return AuditPage(found)
    return AuditPage(found, last, complete=False)


def last_surplus(oldest: Iterable[AuditRecord], before_time: str, through: int) -> AuditRecord | None:
    """Return the last of the oldest records that are all before a time, or have a sequence number up to `through`.

    None if the first is not.
    """
    last = None
    for record in oldest:
        if record.sequence > through and str(record.members().get("time", "")) >= before_time:
            break
        last = record
    return last
