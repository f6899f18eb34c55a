"""The chain of audit records: a fixed serialization, and what its check finds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping

import pytest

from gateway.audit.chain import ChainCheck, canonical, parse_head, seal, shown
from gateway.audit.entry import INVALID, REMOVED, AuditEntry, clean
from gateway.key_format import encode_key
from gateway.store.audit import GENESIS, AuditHead, AuditState
from tests.audit.samples import at, chain, documents, entry

Documents = list[Mapping[str, object]]


def check(found: Documents, *, noted: AuditHead | None = None, anchor: AuditHead | None = GENESIS) -> ChainCheck:
    """Return the check of these records, and of the head of a store that has ten."""
    made = ChainCheck(anchor, noted)
    for each in found:
        made.add(each)
    made.end(AuditState(anchor or GENESIS, chain(10)[-1].head))
    return made


def test_the_hash_is_of_the_documented_serialization() -> None:
    """Never to be changed: records of years before must verify. Any SHA-256 and JSON library computes it."""
    members = AuditEntry("act_1", "runs.judge", "begun", 'Zoë "\\\U0001f600', "key").members(at(1), "pod-1/7")
    record = seal(members, GENESIS)
    expected = (
        '{"act":"act_1","action":"runs.judge","actor":"Zoë \\"\\\\\U0001f600","address":"","code":"","details":{},'
        '"format":1,"previous":"' + "0" * 64 + '","replica":"pod-1/7","request_id":"","result":"begun","role":"",'
        '"sequence":1,"target":"","time":"2026-11-27T10:00:01.000Z","via":"key"}'
    )
    assert expected.encode() == record.content
    assert hashlib.sha256(expected.encode()).hexdigest() == record.hash
    own = json.loads(json.dumps({name: value for name, value in shown(record).items() if name != "hash"}))
    again = json.dumps(own, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert record.hash == hashlib.sha256(again).hexdigest()


def test_a_value_that_no_record_has_is_refused() -> None:
    with pytest.raises(ValueError, match="no record has such a value"):
        canonical({"a": "\ud800"})


def test_an_unchanged_chain_has_no_findings() -> None:
    made = check(documents(chain(10)), noted=chain(7)[-1].head)
    assert [] == made.findings
    assert (10, chain(10)[-1].head) == (made.count, made.head)


def _change(found: Documents) -> None:
    found[4] = {**found[4], "actor": "someone else"}


def _change_and_hash_again(found: Documents) -> None:
    own = {name: value for name, value in found[4].items() if name != "hash"}
    own["target"] = "run_99"
    found[4] = {**own, "hash": hashlib.sha256(canonical(own)).hexdigest()}


def _delete(found: Documents) -> None:
    del found[4]


def _delete_several(found: Documents) -> None:
    del found[3:7]


def _swap(found: Documents) -> None:
    found[4], found[5] = found[5], found[4]


def _insert(found: Documents) -> None:
    found.insert(5, shown(seal(entry(5).members(at(9), "x"), chain(4)[-1].head)))


def _insert_what_is_no_record(found: Documents) -> None:
    found.insert(5, {"sequence": "5"})


def _truncate(found: Documents) -> None:
    del found[8:]


def _remove_the_first(found: Documents) -> None:
    del found[0]


def _move(found: Documents) -> None:
    found.append(found.pop(2))


@pytest.mark.parametrize(
    ("tamper", "first"),
    [
        (_change, "record 5: was changed"),
        (_change_and_hash_again, "record 6: does not contain the hash of record 5"),
        (_delete, "record 5: removed"),
        (_delete_several, "records 4 to 7: removed"),
        (_swap, "record 5: removed, or moved; record 6 follows record 4"),
        (_insert, "record 5: is there twice"),
        (_insert_what_is_no_record, "after record 5: what follows is no record"),
        (_truncate, "records 9 to 10: removed, the store has the head 10"),
        (_remove_the_first, "record 1: removed"),
        (_move, "record 3: removed, or moved; record 4 follows record 2"),
    ],
)
def test_each_way_to_tamper_is_found_with_its_place(tamper: Callable[[Documents], None], first: str) -> None:
    found = documents(chain(10))
    tamper(found)
    assert check(found).findings[0].startswith(first), check(found).findings


def test_a_chain_that_was_written_anew_is_found_by_a_head_that_was_noted() -> None:
    """And only by that: every record of it has its hash and the one before."""
    anew = [*chain(4), *chain(6, chain(4)[-1].head)]
    noted = chain(7)[-1].head
    made = ChainCheck(GENESIS)
    for each in documents(anew):
        made.add(each)
    made.end()
    assert [] == made.findings
    assert ["record 7: is not the noted one, the chain was written anew"] == [
        each for each in check(documents(anew), noted=noted).findings if "noted" in each
    ]
    cut = ChainCheck(GENESIS, noted)
    for each in documents(chain(5)):
        cut.add(each)
    cut.end()
    assert ["records 6 to 7: removed, the noted head is not in the chain"] == cut.findings


def test_a_purged_chain_verifies_from_its_anchor() -> None:
    whole = chain(10)
    anchor = whole[5].head
    assert [] == check(documents(whole[6:]), anchor=anchor, noted=anchor).findings
    assert (
        "record 7: removed, or moved; record 8 follows record 6"
        == check(documents(whole[7:]), anchor=anchor).findings[0]
    )
    old = check(documents(whole[6:]), anchor=anchor, noted=whole[2].head).findings
    assert ["record 3: the noted head is older than these records, note a newer one"] == old


def test_acts_without_an_end_are_told() -> None:
    """What became of them is not known: the process ended in between."""
    made = ChainCheck(GENESIS)
    last = GENESIS
    for number, result in ((1, "begun"), (2, "begun"), (1, "succeeded"), (3, "refused")):
        record = seal(entry(number, result=result).members(at(number), "x"), last)
        made.add(shown(record))
        last = record.head
    assert [2] == made.without_end
    assert [] == made.findings


def test_findings_are_bounded() -> None:
    made = ChainCheck(GENESIS)
    for _ in range(500):
        made.add({})
    assert 101 == len(made.findings)


@pytest.mark.parametrize("text", ["", "5", ":", f"5:{'g' * 64}", f"x:{'0' * 64}", f"5:{'0' * 63}", f"-1:{'0' * 64}"])
def test_a_noted_head_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a sequence number, a colon"):
        parse_head(text)


def test_a_noted_head_is_parsed() -> None:
    assert AuditHead(12, "ab" * 32) == parse_head(f" 12:{'AB' * 32}\n")


@pytest.mark.parametrize("text", ["a\nb", "a\x1b[31m", "\u202eabc", "x" * 201, "\ud800", "a\x7f", "\x85"])
def test_what_is_not_printable_or_too_long_is_not_in_a_record(text: str) -> None:
    assert INVALID == clean(text)


def test_a_key_is_not_in_a_record() -> None:
    """Although a caller put it into the path."""
    key = encode_key(bytes(32))
    assert [REMOVED] * 2 == [clean(key), clean(f"x{key[:40]}")]
    assert "support_triage é" == clean("support_triage é")
    details = {f"d{number}": key for number in range(30)}
    members = AuditEntry("act_1", "a", "begun", target=key, details=details).members(at(1), "x")
    assert key not in repr(members)
    assert 10 == len(members["details"])  # type: ignore[arg-type]
