"""Chain of audit records: their serialization, their hashes, and what a check of them finds.

The content of a record is its JSON object as in RFC 8785: members sorted by name, no spaces, UTF-8, characters escaped
only where JSON requires it. Its values are texts, integers and objects of texts. Its hash is the SHA-256 of that. The
member `previous` is the hash of the record before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import orjson

from gateway.store.audit import GENESIS, AuditHead, AuditRecord, AuditState

MAX_FINDINGS = 100


def canonical(members: Mapping[str, object]) -> bytes:
    """Return the canonical serialization of a record. Raises ValueError for values that a record cannot have."""
    try:
        return orjson.dumps(members, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a lone surrogate, an integer beyond 64 bits, nesting without an end
        raise ValueError("no record has such a value") from None


def seal(members: Mapping[str, object], after: AuditHead) -> AuditRecord:
    """Return the record with these members that follows `after`."""
    sequence = after.sequence + 1
    content = canonical({**members, "sequence": sequence, "previous": after.hash})
    return AuditRecord(sequence, hash_of(content), content)


def seal_all(batch: Iterable[Mapping[str, object]], after: AuditHead) -> list[AuditRecord]:
    """Return the records with these members, of which the first follows `after`."""
    records: list[AuditRecord] = []
    for members in batch:
        records.append(seal(members, records[-1].head if records else after))
    return records


def hash_of(content: bytes) -> str:
    """Return the hash of a record."""
    return hashlib.sha256(content).hexdigest()


def shown(record: AuditRecord) -> dict[str, object]:
    """Return the members of a record and its `hash`, as in the operations API and in an export."""
    return {**record.members(), "hash": record.hash}


def parse_head(text: str) -> AuditHead:
    """Parse a noted head, `SEQUENCE:HASH`. Raises ValueError."""
    sequence, _, digest = text.strip().partition(":")
    valid = sequence.isascii() and sequence.isdigit() and len(sequence) <= 15 and len(digest) == len(GENESIS.hash)
    if not valid or not set(digest.lower()) <= set("0123456789abcdef"):
        raise ValueError("must be a sequence number, a colon and 64 hexadecimal digits, as `runward audit` prints it")
    return AuditHead(int(sequence), digest.lower())


@dataclass(slots=True)
class ChainCheck:
    """Check of records in the order in which they are kept or were exported; `findings` are one line each.

    A chain shows what was changed, removed, swapped or inserted before its head. It cannot show that its newest records
    were removed, or that it was written anew from some record on, unless a head was noted elsewhere: `noted`. `first`:
    sequence number of the first record.
    """

    anchor: AuditHead | None = None
    noted: AuditHead | None = None
    findings: list[str] = field(default_factory=list)
    count: int = 0
    first: int = 0
    _last: AuditHead | None = None
    _began: dict[str, int] = field(default_factory=dict)
    _passed_noted: bool = False

    def __post_init__(self) -> None:
        self._last = self.anchor
        self._look_for_noted(self.anchor)

    @property
    def head(self) -> AuditHead:
        """The place after which a further record is expected."""
        return self._last or GENESIS

    @property
    def without_end(self) -> list[int]:
        """Sequence numbers of the records of acts that began and have no record of their end."""
        return sorted(self._began.values())

    def add(self, members: Mapping[str, object]) -> None:
        """Check the next record: its members and its `hash`. The first one is not compared without an `anchor`."""
        own = {name: value for name, value in members.items() if name != "hash"}
        sequence, claimed = own.get("sequence"), members.get("hash")
        self.count += 1
        if not isinstance(sequence, int) or isinstance(sequence, bool) or not isinstance(claimed, str):
            self._report(f"after record {self.head.sequence}: what follows is no record, it was changed or inserted")
            return
        try:
            genuine = hash_of(canonical(own)) == claimed
        except ValueError:
            genuine = False
        if not genuine:
            self._report(f"record {sequence}: was changed, its content does not have its hash")
        self.first = self.first or sequence
        if self._last is None and sequence == 1:
            self._last = GENESIS
        elif self._last is None and self.noted is not None and sequence == self.noted.sequence + 1:
            self._last, self._passed_noted = self.noted, True
        if self._last is not None:
            self._compare(sequence, own.get("previous"))
        if self._last is None or sequence > self._last.sequence:
            self._last = AuditHead(sequence, claimed)
        self._look_for_noted(AuditHead(sequence, claimed if genuine else ""))
        self._pair(own, sequence)

    def _compare(self, sequence: int, previous: object) -> None:
        last = self.head
        if sequence == last.sequence + 1:
            if previous != last.hash:
                self._report(
                    f"record {sequence}: does not contain the hash of record {last.sequence}; "
                    "one of them was changed, replaced or inserted"
                )
        elif sequence > last.sequence:
            missing = (
                f"record {last.sequence + 1}"
                if sequence == last.sequence + 2
                else (f"records {last.sequence + 1} to {sequence - 1}")
            )
            self._report(f"{missing}: removed, or moved; record {sequence} follows record {last.sequence}")
        elif sequence == last.sequence:
            self._report(f"record {sequence}: is there twice, one of them was inserted")
        else:
            self._report(f"record {sequence}: stands after record {last.sequence}, it was moved or inserted")

    def end(self, state: AuditState | None = None) -> None:
        """Compare the last record with the head that the store has, if it is known, and with the noted one."""
        if state is not None and self.head.sequence < state.head.sequence:
            self._report(
                f"records {self.head.sequence + 1} to {state.head.sequence}: removed, the store has the head "
                f"{state.head.sequence} and no such records"
            )
        elif state is not None and self.head.sequence == state.head.sequence and self.head.hash != state.head.hash:
            self._report(f"record {self.head.sequence}: is not the one that the store has as its head")
        if self.noted is None or self._passed_noted:
            return
        noted = self.noted.sequence
        if noted < (self.first - 1 if self.anchor is None else self.anchor.sequence):
            self._report(f"record {noted}: the noted head is older than these records, note a newer one")
        elif noted > self.head.sequence:
            self._report(f"records {self.head.sequence + 1} to {noted}: removed, the noted head is not in the chain")
        else:
            self._report(f"record {noted}: is not the noted one, the chain was written anew")

    def continue_after_purge(self, anchor: AuditHead) -> None:
        """Go on after a record up to which the older ones were purged, before the check or meanwhile."""
        if anchor.sequence > self.head.sequence:
            self.anchor = self._last = anchor
            self._look_for_noted(anchor)

    def _look_for_noted(self, place: AuditHead | None) -> None:
        if self.noted is not None and place == self.noted:
            self._passed_noted = True

    def _pair(self, members: Mapping[str, object], sequence: int) -> None:
        act = str(members.get("act", ""))
        if members.get("result") == "begun":
            self._began[act] = sequence
        else:
            self._began.pop(act, None)

    def _report(self, finding: str) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)
        elif len(self.findings) == MAX_FINDINGS:
            self.findings.append("further findings are left out")
