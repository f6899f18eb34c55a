"""The house holds its shape: arrows go down only, and what has one room stays in it (ARCHITECTURE.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Floors from the top down. A room may use the floors below its own, and rooms of its own floor without circles.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("gateway.__main__",),
    ("gateway.cli",),
    ("gateway.supervisor",),
    ("gateway.app",),
    ("gateway.house",),
    ("gateway.lifecycle", "gateway.reload", "gateway.watch", "gateway.plan", "gateway.configured"),
    ("gateway.api",),
    ("gateway.runs",),
    ("gateway.access", "gateway.upstream", "gateway.store"),
    ("gateway.sandbox",),
    (
        "gateway.problems",
        "gateway.metrics",
        "gateway.tallies",
        "gateway.logs",
        "gateway.settings",
        "gateway.clock",
        "gateway.strictjson",
        "gateway",
    ),
    ("providers.promptlayer", "providers.prompt_studio"),
    ("providers.contract", "providers"),
)

# What only these rooms may touch.
DOORS = {
    "os.environ": ("gateway.settings", "gateway.systemd_notify"),
    "os.getenv": ("gateway.settings",),
    "prometheus_client": ("gateway.metrics", "gateway.tallies"),
    "structlog.configure": ("gateway.logs",),
    "aiohttp.ClientSession": (),
    "httptools": ("gateway.upstream",),
    "asyncio.sleep": ("gateway.clock",),
    "time.time": ("gateway.clock",),
    "time.monotonic": ("gateway.clock",),
    "time.perf_counter": ("gateway.clock",),
    "time.sleep": ("gateway.clock",),
    "datetime.now": ("gateway.clock",),
    "random": ("gateway.clock",),
    "secrets": ("gateway.clock",),
    "os.urandom": ("gateway.clock",),
    "uuid.uuid4": (),
    "uuid.uuid1": (),
    "tenacity": ("gateway.runs.retry",),
    "importlib.metadata.entry_points": ("gateway.configured",),
}

FILES = sorted([*(ROOT / "gateway").rglob("*.py"), *(ROOT / "providers").rglob("*.py")])


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Every imported module or name, as dotted text; type-checking imports too: a circle is a circle."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def uses(path: Path) -> Iterator[str]:
    """Imports and dotted uses such as `os.environ`."""
    yield from imports(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def floor(name: str) -> int:
    """The floor whose room's name fits best."""
    fitting = [(len(room), level) for level, rooms in enumerate(FLOORS) for room in rooms if within(name, room)]
    assert fitting, f"{name} has no floor"
    return max(fitting)[1]


def ours(name: str) -> bool:
    return name.partition(".")[0] in {"gateway", "providers"}


def test_arrows_go_down() -> None:
    """No room knows a floor above its own; adapters know their contract only."""
    wrong = [
        f"{module(path)} -> {name}"
        for path in FILES
        for name in imports(path)
        if ours(name) and floor(name) < floor(module(path))
    ]
    assert [] == wrong


def test_api_does_not_reach_upstream() -> None:
    """A face parses, calls `runs` and renders."""
    wrong = [
        f"{module(path)} -> {name}"
        for path in FILES
        if within(module(path), "gateway.api")
        for name in imports(path)
        if within(name, "gateway.upstream")
    ]
    assert [] == wrong


def test_only_the_table_of_adapters_names_them() -> None:
    """Nothing in the gateway imports an adapter: entry points do."""
    wrong = [
        f"{module(path)} -> {name}"
        for path in FILES
        if within(module(path), "gateway")
        for name in imports(path)
        if within(name, "providers") and not within(name, "providers.contract")
    ]
    assert [] == wrong


@pytest.mark.parametrize("what", DOORS)
def test_each_door_has_one_room(what: str) -> None:
    """The environment, metrics, time, chance and the network each have one place."""
    wrong = [
        f"{module(path)} uses {name}"
        for path in FILES
        for name in uses(path)
        if within(name, what) and not any(within(module(path), room) for room in DOORS[what])
    ]
    assert [] == wrong


def test_there_are_no_import_circles() -> None:
    """Following imports never leads back."""
    names = {module(path) for path in FILES}
    graph = {
        module(path): {
            name if name in names else name.rpartition(".")[0]
            for name in imports(path)
            if name in names or name.rpartition(".")[0] in names
        }
        for path in FILES
    }
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for other in graph[name] - {name}:
                walk(other, (*trail, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def test_nothing_goes_upstream_by_another_door() -> None:
    """Outside `upstream`, only the command line opens a connection: to a gateway, never to a provider."""
    doors = ("aiohttp.client", "http.client", "urllib.request", "socket.create_connection", "asyncio.open_connection")
    rooms = {module(path) for path in FILES for name in uses(path) for door in doors if within(name, door)}
    assert all(within(room, "gateway.cli") or within(room, "gateway.upstream") for room in rooms), rooms


def test_no_room_has_a_name_that_says_nothing() -> None:
    """One room, one noun."""
    empty = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc", "core", "lib"}
    assert [] == [module(path) for path in FILES if path.stem in empty]


def test_every_room_says_what_it_is_for() -> None:
    """A file's first line is a docstring; files stay within what one can read at once."""
    silent = [module(p) for p in FILES if p.read_text().strip() and not ast.get_docstring(ast.parse(p.read_text()))]
    large = [f"{module(p)}: {n}" for p in FILES if (n := p.read_text().count("\n")) > 260]
    assert ([], []) == (silent, large)
