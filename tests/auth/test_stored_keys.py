"""Stored keys in a process: what is accepted, how the copy follows the store, and what an outage of the store does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from hashlib import sha256

import pytest
import structlog
from structlog.testing import LogCapture

from gateway.auth.client import Client
from gateway.auth.keys import KeyRefusal, PresentedKey, new_key
from gateway.auth.stored_keys.directory import KEPT_AFTER_END, MAX_AGE, DirectoryUnavailable, KeyDirectory
from gateway.auth.stored_keys.follower import KEYS_CHANGED, KeyFollower
from gateway.auth.stored_keys.terms import KeyTerms, decode_terms
from gateway.limits.config import ClientLimitsConfig, KeyLimits, RateLimit
from gateway.observability.metrics import Metrics
from gateway.store.client_key import StoredKey
from gateway.store.contract import StoreUnavailable
from gateway.store.memory.store import MemoryStore
from tests.support.virtual_clock import VirtualClock

CLIENTS = {"shop": Client("shop", ("support-*",)), "desk": Client("desk", ("*",))}
TERMS = KeyTerms("app", ("support-eu",), ClientLimitsConfig(RateLimit(5, 60.0), 2, 3, 4), "ann")


@dataclass
class Process:
    """A process with its copy of the keys; `store` may be shared with another one."""

    clock: VirtualClock
    store: MemoryStore
    clients: dict[str, Client] = field(default_factory=lambda: dict(CLIENTS))
    metrics: Metrics = field(default_factory=Metrics)
    capture: LogCapture = field(default_factory=LogCapture)

    def __post_init__(self) -> None:
        log = structlog.wrap_logger(None, processors=[self.capture])
        self.directory = KeyDirectory(self.clock)
        self.follower = KeyFollower(self.store, self.directory, lambda: self.clients, self.clock, self.metrics, log)

    @property
    def now(self) -> float:
        return self.clock.now().timestamp()

    def find(self, text: str) -> Client | KeyRefusal:
        return self.directory.find(PresentedKey(text), self.clock.now(), self.clients)

    async def add(
        self, name: str = "key_1", *, client: str = "shop", terms: KeyTerms = TERMS, **members: object
    ) -> str:
        """Store a key; returns its text."""
        text = new_key(self.clock)
        key = StoredKey(name, client, sha256(text.encode()).digest(), terms.encode(), self.now)
        assert await self.store.client_keys.add(replace(key, **members), most=10**6)  # type: ignore[arg-type]
        return text

    async def change(self, name: str = "key_1", **members: object) -> None:
        stored = await self.store.client_keys.get(name)
        assert stored is not None
        assert await self.store.client_keys.change(replace(stored, **members))  # type: ignore[arg-type]

    async def last_used(self, name: str = "key_1") -> float | None:
        stored = await self.store.client_keys.get(name)
        return None if stored is None else stored.last_used_at


@pytest.fixture
async def process() -> Process:
    clock = VirtualClock()
    store = MemoryStore(clock)
    await store.open()
    made = Process(clock, store)
    await made.follower.refresh()
    return made


@pytest.mark.parametrize("terms", [TERMS, KeyTerms("é")])
def test_terms_are_read_as_they_were_stored(terms: KeyTerms) -> None:
    assert terms == decode_terms(terms.encode())


@pytest.mark.parametrize("stored", [b"{}", b"[]", b"", b'{"name":"x","ips":["10.0.0.0/8"]}', b'{"name":"x","daily":0}'])
def test_terms_of_a_later_version_are_refused(stored: bytes) -> None:
    with pytest.raises(ValueError, match="not of this version"):
        decode_terms(stored)


async def test_a_key_stands_for_its_client_with_its_own_terms(process: Process) -> None:
    text = await process.add()
    assert process.find(text) is KeyRefusal.UNKNOWN
    await process.follower.refresh()
    found = process.find(text)
    assert isinstance(found, Client)
    assert TERMS.limits is not None
    assert ("shop", "key_1", KeyLimits("key_1", TERMS.limits)) == (found.name, found.key_id, found.key_limits)
    assert found.may_run("support-eu")
    assert not found.may_run("support-us")
    assert found is process.find(text)
    assert process.find(new_key(process.clock)) is KeyRefusal.UNKNOWN


async def test_a_reload_changes_the_client_behind_a_key(process: Process) -> None:
    text = await process.add()
    await process.follower.refresh()
    assert isinstance(process.find(text), Client)
    process.clients["shop"] = Client("shop", ("triage",))
    found = process.find(text)
    assert isinstance(found, Client)
    assert not found.may_run("support-eu")
    del process.clients["shop"]
    assert process.find(text) is KeyRefusal.NO_CLIENT


async def test_a_key_ends_by_its_expiry_and_by_revocation(process: Process) -> None:
    expiring = await process.add("key_1", expires_at=process.now + 10.0)
    revoked = await process.add("key_2")
    await process.follower.refresh()
    assert isinstance(process.find(expiring), Client)
    process.clock.advance(10.0)
    await process.follower.refresh()
    assert process.find(expiring) is KeyRefusal.EXPIRED
    assert isinstance(process.find(revoked), Client)
    await process.change("key_2", revoked_at=process.now)
    await process.follower.refresh()
    assert process.find(revoked) is KeyRefusal.REVOKED


async def test_both_keys_of_a_rotation_are_accepted_until_its_end(process: Process) -> None:
    before, after = await process.add(), new_key(process.clock)
    await process.follower.refresh()
    stored = await process.store.client_keys.get("key_1")
    assert stored is not None
    digest = sha256(after.encode()).digest()
    await process.change(digest=digest, previous_digest=stored.digest, previous_until_at=process.now + 5.0)
    await process.follower.refresh()
    found = [process.find(text) for text in (before, after)]
    assert ["key_1"] * 2 == [each.key_id for each in found if isinstance(each, Client)]
    process.clock.advance(5.0)
    assert process.find(before) is KeyRefusal.ROTATED
    assert isinstance(process.find(after), Client)
    await process.change(previous_digest=None, previous_until_at=None)
    await process.follower.refresh()
    assert process.find(before) is KeyRefusal.UNKNOWN


async def test_a_key_of_a_later_version_is_refused(process: Process) -> None:
    """What this version cannot read may be a restriction."""
    text = await process.add(terms=TERMS)
    await process.change(terms=b'{"name":"app","addresses":["10.0.0.0/8"]}')
    await process.follower.refresh()
    assert process.find(text) is KeyRefusal.NOT_SUPPORTED


async def test_changes_hold_within_a_second_and_at_once_if_notified(process: Process) -> None:
    following = asyncio.create_task(process.follower.run_forever())
    await process.clock.run_ready_tasks()
    text = await process.add()
    await process.clock.run_for(1.0)
    assert isinstance(process.find(text), Client)
    await process.change(revoked_at=process.now)
    await process.store.notify(KEYS_CHANGED)
    await process.clock.run_ready_tasks()
    assert process.find(text) is KeyRefusal.REVOKED
    following.cancel()


async def test_many_keys_are_read_in_pages(process: Process) -> None:
    texts = [await process.add(f"key_{number}") for number in range(1250)]
    pages = []
    read = process.store.client_keys.read_changes

    async def counted(after: int, *, limit: int) -> object:
        changes = await read(after, limit=limit)
        pages.append(len(changes.keys))
        return changes

    process.store.client_keys.read_changes = counted  # type: ignore[assignment,method-assign]
    await process.follower.refresh()
    assert [500, 500, 250] == pages
    assert all(isinstance(process.find(text), Client) for text in texts)


async def test_no_key_is_unknown_before_all_were_read(process: Process) -> None:
    text = await process.add()
    starting = KeyDirectory(process.clock)
    with pytest.raises(DirectoryUnavailable):
        starting.find(PresentedKey(text), process.clock.now(), process.clients)


async def test_during_an_outage_the_copy_is_used_for_a_bounded_time(process: Process) -> None:
    """Then a key may have been revoked elsewhere; one that is not in the copy may have been created there."""
    text, revoked = await process.add(), await process.add("key_2", revoked_at=process.now)
    await process.follower.refresh()
    following = asyncio.create_task(process.follower.run_forever())
    await process.store.close()
    await process.clock.run_for(20.0)
    assert isinstance(process.find(text), Client)
    with pytest.raises(DirectoryUnavailable) as unknown:
        process.find(new_key(process.clock))
    assert not unknown.value.known
    await process.clock.run_for(MAX_AGE - 21.0)
    assert isinstance(process.find(text), Client)
    await process.clock.run_for(3.0)
    with pytest.raises(DirectoryUnavailable) as stale:
        process.find(text)
    assert stale.value.known
    assert process.find(revoked) is KeyRefusal.REVOKED
    await process.store.open()
    await process.clock.run_for(3.0)
    assert isinstance(process.find(text), Client)
    assert process.find(new_key(process.clock)) is KeyRefusal.UNKNOWN
    assert [] == [line for line in process.capture.entries if line["event"] == "internal_error"]
    following.cancel()


async def test_a_store_that_lost_the_latest_changes_is_read_anew(process: Process) -> None:
    """After a failover to a server that lacks them."""
    lost = await process.add("key_1")
    await process.change(expires_at=process.now + 1e6)
    await process.follower.refresh()
    older = MemoryStore(process.clock)
    await older.open()
    process.follower.store = process.store = older
    kept = await process.add("key_2")
    await process.follower.refresh()
    assert process.find(lost) is KeyRefusal.UNKNOWN
    assert isinstance(process.find(kept), Client)


async def test_the_last_use_is_written_to_the_minute_once_a_minute(process: Process) -> None:
    text, unused = await process.add(), await process.add("key_2")
    await process.follower.refresh()
    written: list[int] = []
    note = process.store.client_keys.note_uses

    async def counted(uses: list[tuple[str, float]]) -> None:
        written.append(len(uses))
        await note(uses)

    process.store.client_keys.note_uses = counted  # type: ignore[assignment,method-assign]
    began = process.now
    for _ in range(119):
        process.find(text)
        process.clock.advance(1.0)
        await process.follower.refresh()
        await process.follower.write_uses()
    assert [1, 1] == written
    assert began + 60.0 == await process.last_used()
    assert None is await process.last_used("key_2")
    assert isinstance(process.find(unused), Client)
    await process.follower.close()
    assert began + 60.0 == await process.last_used("key_2")


async def test_uses_are_written_in_groups_and_after_an_outage(process: Process) -> None:
    texts = [await process.add(f"key_{number}") for number in range(1100)]
    await process.follower.refresh()
    assert all(isinstance(process.find(text), Client) for text in texts)
    await process.store.close()
    with pytest.raises(StoreUnavailable):
        await process.follower.write_uses()
    await process.store.open()
    await process.follower.write_uses()
    assert [True] * 1100 == [await process.last_used(f"key_{number}") is not None for number in range(1100)]
    assert {} == process.directory.take_uses()


async def test_keys_are_counted_by_state_and_forgotten_long_after_their_end(process: Process) -> None:
    await process.add("key_1")
    await process.add("key_2", expires_at=process.now - 1.0)
    await process.add("key_3", revoked_at=process.now)
    await process.add("key_4", client="gone")
    await process.follower.refresh()
    await process.follower.count()
    values = process.metrics.read(["runward_keys"])["runward_keys"]
    assert {("active",): (1,), ("expired",): (1,), ("revoked",): (1,), ("no_client",): (1,)} == values
    assert 0 == process.metrics.gauge("runward_keys_expiring")
    process.clock.advance(KEPT_AFTER_END + 1.0)
    await process.follower.count()
    assert {"key_1", "key_4"} == set(process.directory.ids())


async def test_keys_that_expire_soon_are_counted_but_not_those_made_for_a_short_time(process: Process) -> None:
    for number, days in enumerate((7, 27, 29, 100)):
        await process.add(f"key_{number}", expires_at=process.now + days * 86_400.0)
    await process.add("key_9", expires_at=process.now + 29 * 86_400.0, revoked_at=process.now)
    await process.follower.refresh()
    seen = []
    for _ in range(4):
        await process.follower.count()
        seen.append(process.metrics.gauge("runward_keys_expiring"))
        process.clock.advance(14 * 86_400.0)
    assert [0, 0, 1, 0] == seen
