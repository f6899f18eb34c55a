"""Traversal and transformation of configuration trees before validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gateway.settings.errors import Location

Transform = Callable[[object], object]


def merge(*trees: Mapping[str, Any]) -> dict[str, Any]:
    """Merge trees, those of the highest precedence first. Only mappings are merged: a list replaces a list."""
    merged: dict[str, Any] = {}
    for tree in reversed(trees):
        for key, value in tree.items():
            below = merged.get(key)
            merged[key] = merge(value, below) if isinstance(value, dict) and isinstance(below, dict) else value
    return merged


def rewrite(tree: dict[str, Any], patterns: tuple[Location, ...], transform: Transform) -> dict[str, Any]:
    """Copy the tree and transform the values at the patterns; "*" matches any key or index."""
    for pattern in patterns:
        tree = _rewrite_matches(tree, pattern, transform)
    return tree


def find(tree: object, pattern: Location, prefix: Location = ()) -> Iterator[tuple[Location, object]]:
    """Yield the locations that match a pattern, with their values."""
    if not pattern:
        yield prefix, tree
        return
    for key, value in _entries(tree):
        if pattern[0] in ("*", key):
            yield from find(value, pattern[1:], (*prefix, key))


def nodes(tree: object, loc: Location = ()) -> Iterator[tuple[Location, bool]]:
    """Yield every location, and True for leaves (neither mapping nor list)."""
    yield loc, not isinstance(tree, dict | list)
    for key, value in _entries(tree):
        yield from nodes(value, (*loc, key))


def _rewrite_matches(tree: Any, pattern: Location, transform: Transform) -> Any:
    if not pattern:
        return transform(tree)
    changed = {
        k: _rewrite_matches(v, pattern[1:], transform) if pattern[0] in ("*", k) else v for k, v in _entries(tree)
    }
    if isinstance(tree, list):
        return list(changed.values())
    return changed if isinstance(tree, dict) else tree


def _entries(tree: object) -> Iterator[tuple[str | int, Any]]:
    if isinstance(tree, dict):
        yield from tree.items()
    elif isinstance(tree, list):
        yield from enumerate(tree)
