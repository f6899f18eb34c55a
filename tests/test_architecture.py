"""Architecture rules: imports go down only, and restricted APIs have one module each (ARCHITECTURE.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Layers from the top down. A module imports from the layers below its own, and from its own layer without cycles.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("gateway.__main__",),
    ("gateway.cli",),
    ("gateway.supervisor",),
    ("gateway.app",),
    ("gateway.api",),
    ("gateway.http",),
    ("gateway.runs",),
    ("gateway.audit", "gateway.auth"),
    ("gateway.limits", "gateway.outbound", "gateway.store"),
    ("gateway.redis",),
    ("gateway.sandbox",),
    (
        "gateway.errors",
        "gateway.problems",
        "gateway.observability",
        "gateway.settings",
        "gateway.passthrough_rules",
        "gateway.redaction",
        "gateway.clock",
        "gateway.byte_budget",
        "gateway.memory_limit",
        "gateway.money",
        "gateway.safe_csv",
        "gateway.json",
        "gateway",
    ),
    ("providers.promptlayer", "providers.prompt_studio"),
    ("providers.contract", "providers"),
)

# Names that only these modules may use.
RESTRICTED_NAMES = {
    "os.environ": ("gateway.settings", "gateway.app.systemd_notify", "providers.testing"),
    "os.getenv": ("gateway.settings",),
    "prometheus_client": ("gateway.observability",),
    "opentelemetry": ("gateway.observability.tracing",),
    "structlog": ("gateway.observability.console_logger",),
    "aiohttp.ClientSession": (),
    "jwt": ("gateway.auth.oidc.key_set",),
    "httptools": ("gateway.http.connection.usual_request", "gateway.outbound"),
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
    "tenacity": ("gateway.runs.resilience.retry",),
    "importlib.metadata.entry_points": ("gateway.app.factories",),
}

FILES = sorted([*(ROOT / "gateway").rglob("*.py"), *(ROOT / "providers").rglob("*.py")])


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path) -> frozenset[str]:
    """Return every imported module or name as dotted text, including type-checking imports."""
    return frozenset(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def uses(path: Path) -> frozenset[str]:
    """Return imports and dotted uses such as `os.environ`."""
    nodes = ast.walk(ast.parse(path.read_text()))
    attributes = (node for node in nodes if isinstance(node, ast.Attribute))
    return imports(path) | {f"{node.value.id}.{node.attr}" for node in attributes if isinstance(node.value, ast.Name)}


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def layer_of(name: str) -> int:
    """Return the layer of the most specific package that contains the module."""
    fitting = [(len(room), level) for level, rooms in enumerate(LAYERS) for room in rooms if within(name, room)]
    assert fitting, f"{name} has no floor"
    return max(fitting)[1]


def is_first_party(name: str) -> bool:
    return name.partition(".")[0] in {"gateway", "providers"}


def test_imports_go_down_only() -> None:
    """No module imports from a layer above its own; adapters import their contract only."""
    wrong = [
        f"{module_name(path)} -> {name}"
        for path in FILES
        for name in imports(path)
        if is_first_party(name) and layer_of(name) < layer_of(module_name(path))
    ]
    assert [] == wrong


def test_api_does_not_reach_upstream() -> None:
    """Handlers parse, call `runs` and render."""
    wrong = [
        f"{module_name(path)} -> {name}"
        for path in FILES
        if within(module_name(path), "gateway.api")
        for name in imports(path)
        if within(name, "gateway.outbound")
    ]
    assert [] == wrong


def test_only_the_table_of_adapters_names_them() -> None:
    """Adapters are loaded by entry points, not imported."""
    wrong = [
        f"{module_name(path)} -> {name}"
        for path in FILES
        if within(module_name(path), "gateway")
        for name in imports(path)
        if within(name, "providers")
        and not any(within(name, module) for module in ("providers.contract", "providers.declarations"))
    ]
    assert [] == wrong


@pytest.mark.parametrize("restricted", RESTRICTED_NAMES)
def test_each_restricted_name_has_its_modules(restricted: str) -> None:
    """Environment, metrics, time, randomness and network."""
    wrong = [
        f"{module_name(path)} uses {name}"
        for path in FILES
        for name in uses(path)
        if within(name, restricted)
        and not any(within(module_name(path), room) for room in RESTRICTED_NAMES[restricted])
    ]
    assert [] == wrong


def test_there_are_no_import_cycles() -> None:
    """The import graph is acyclic."""
    names = {module_name(path) for path in FILES}
    graph = {
        module_name(path): {
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


def test_only_the_outbound_package_opens_connections() -> None:
    """Outside `outbound`, only the command line opens a connection: to a gateway, never to a provider."""
    connection_apis = (
        "aiohttp.client",
        "http.client",
        "urllib.request",
        "socket.create_connection",
        "asyncio.open_connection",
    )
    modules = {
        module_name(path) for path in FILES for name in uses(path) for door in connection_apis if within(name, door)
    }
    allowed = ("gateway.cli", "gateway.outbound", "providers.testing")
    assert [] == [module for module in modules if not any(within(module, package) for package in allowed)]


def test_no_module_has_an_empty_name() -> None:
    """Generic names are not allowed."""
    empty = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc", "core", "lib"}
    assert [] == [module_name(path) for path in FILES if path.stem in empty]


def test_every_module_has_a_docstring() -> None:
    """And has at most 400 lines."""
    silent = [
        module_name(p) for p in FILES if p.read_text().strip() and not ast.get_docstring(ast.parse(p.read_text()))
    ]
    large = [f"{module_name(p)}: {n}" for p in FILES if (n := p.read_text().count("\n")) > 400]
    assert ([], []) == (silent, large)
