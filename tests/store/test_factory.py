"""Store factory: URLs of each store, and refused URLs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway.redis.connection import RedisAddress, SentinelAddress
from gateway.settings import SettingsError
from gateway.settings.sections import TlsFiles
from gateway.store.factory import RedisAccess, create_store
from gateway.store.memory.store import MemoryStore
from gateway.store.redis.store import RedisStore
from gateway.store.sqlite.store import SqliteStore
from tests.store.samples import SAMPLE_RUN
from tests.support.clock import ManualClock


@pytest.mark.parametrize("below", ["store.db", "var/store.db", "deep/er/with%20space.db"])
async def test_a_sqlite_url_with_four_slashes_names_a_file_from_the_root(tmp_path: Path, below: str) -> None:
    made = create_store(f"sqlite:///{tmp_path}/{below}", ManualClock())
    await made.open()
    await made.create_run(SAMPLE_RUN, None)
    await made.close()
    assert (tmp_path / below.replace("%20", " ")).is_file()


async def test_a_sqlite_url_with_three_slashes_names_a_file_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = create_store("sqlite:///var/runward.db", ManualClock())
    assert isinstance(made, SqliteStore)
    await made.open()
    await made.close()
    assert (tmp_path / "var" / "runward.db").is_file()


def test_memory_is_a_store() -> None:
    assert isinstance(create_store("memory://", ManualClock()), MemoryStore)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache", RedisAddress("cache", 6379, 0)),
        ("redis://cache:7000/3", RedisAddress("cache", 7000, 3)),
        ("rediss://app%40eu@[::1]:6380/", RedisAddress("::1", 6380, 0, "app@eu", tls=True)),
        (
            "redis+sentinel://app@s1,[::1]:7000/orders/2",
            RedisAddress("", 0, 2, "app", sentinel=SentinelAddress("orders", (("s1", 26379), ("::1", 7000)))),
        ),
        ("rediss+sentinel://s1/x", RedisAddress("", 0, tls=True, sentinel=SentinelAddress("x", (("s1", 26379),)))),
    ],
)
def test_a_redis_url_names_a_server(url: str, expected: RedisAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password is not part of the URL."""
    asked: list[RedisAddress] = []
    monkeypatch.setattr("gateway.redis.connection.RedisConnection", lambda address, **_: asked.append(address))
    made = create_store(url, ManualClock(), RedisAccess(SecretStr("password")))
    assert isinstance(made, RedisStore)
    assert [replace(expected, password=SecretStr("password"))] == asked


@pytest.mark.process
def test_without_the_library_the_rest_works() -> None:
    """Without the optional dependency `redis`, only a redis:// URL is refused."""
    code = """
import sys
sys.modules["redis"] = None
import gateway.app.bootstrap
from gateway.store.factory import RedisAccess, create_store
from gateway.clock import SystemClock
create_store("sqlite:///a.db", SystemClock())
try:
    create_store("redis://cache/0", SystemClock())
except Exception as refused:
    print(refused)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "store.url: needs the redis library: install runward[redis]" == done.stdout.strip()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (
            "postgres://localhost/db",
            "must be one of sqlite://, memory://, redis://, rediss://, redis+sentinel://, rediss+sentinel://",
        ),
        ("", "must be one of sqlite://, memory://, redis://, rediss://, redis+sentinel://, rediss+sentinel://"),
        ("redis:///0", "must be redis://user@host:port/0 or rediss://user@host:port/0"),
        ("redis://localhost/zero", "must be redis://user@host:port/0 or rediss://user@host:port/0"),
        ("redis://:canary@localhost", "must be redis://user@host:port/0 or rediss://user@host:port/0"),
        ("redis://localhost?ssl=no", "must not have a query or fragment"),
        ("sqlite://var/runward.db", "must be sqlite:///relative/path.db or sqlite:////absolute/path.db"),
        ("sqlite://", "must be sqlite:///relative/path.db or sqlite:////absolute/path.db"),
        ("sqlite:///", "must be sqlite:///relative/path.db or sqlite:////absolute/path.db"),
        ("sqlite:///var/", "must be sqlite:///relative/path.db or sqlite:////absolute/path.db"),
        ("sqlite:///a%00b", "must be sqlite:///relative/path.db or sqlite:////absolute/path.db"),
        ("sqlite:///a.db?mode=ro", "must not have a query or fragment"),
        ("memory://here", "must be memory://"),
    ],
)
def test_an_invalid_url_is_refused(url: str, reason: str) -> None:
    with pytest.raises(SettingsError) as refused:
        create_store(url, ManualClock())
    assert (("store.url", reason),) == refused.value.errors


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (TlsFiles(ca_file=Path("missing.pem")), ("store.ca_file", "holds no certificate")),
        (
            TlsFiles(client_cert_file=Path("missing.pem")),
            ("store.client_cert_file", "holds no certificate with its key"),
        ),
    ],
)
def test_unusable_tls_files_are_refused(files: TlsFiles, problem: tuple[str, str]) -> None:
    with pytest.raises(SettingsError) as refused:
        create_store("rediss://cache", ManualClock(), RedisAccess(tls_files=files))
    assert (problem,) == refused.value.errors
