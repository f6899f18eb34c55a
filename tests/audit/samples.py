"""Sample audit records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.audit.chain import seal, shown
from gateway.audit.entry import AuditEntry
from gateway.store.audit import GENESIS, AuditHead, AuditRecord

REPLICA = "pod-1/7"


def entry(number: int, **changes: str) -> AuditEntry:
    """Return what the record with this number says."""
    said = {"actor": "maria", "action": "runs.judge", "result": "succeeded", "target": f"run_{number}", **changes}
    return AuditEntry(f"act_{number}", via="key", role="operator", **said)  # type: ignore[arg-type]


def at(second: int) -> str:
    """Return a time."""
    return f"2026-11-27T10:00:{second:02}.000Z"


def chain(count: int, after: AuditHead = GENESIS) -> list[AuditRecord]:
    """Return so many records, one a second."""
    records: list[AuditRecord] = []
    for number in range(1, count + 1):
        head = records[-1].head if records else after
        records.append(seal(entry(number).members(at(number), REPLICA), head))
    return records


def documents(records: Sequence[AuditRecord]) -> list[Mapping[str, object]]:
    """Return the records as the API and an export show them."""
    return [shown(record) for record in records]
