"""Walks and changes what a source says, before it is validated: mappings, lists and what they end in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gateway.settings.complaints import Loc

Change = Callable[[object], object]


def rewrite(tree: dict[str, Any], ways: tuple[Loc, ...], change: Change) -> dict[str, Any]:
    """Copy the tree with everything changed that one of the ways leads to; "*" in a way is any key or index."""
    for way in ways:
        tree = _rewritten(tree, way, change)
    return tree


def find(tree: object, way: Loc, done: Loc = ()) -> Iterator[tuple[Loc, object]]:
    """Yield where a way leads to in the tree, and what is there."""
    if not way:
        yield done, tree
        return
    for key, value in _entries(tree):
        if way[0] in ("*", key):
            yield from find(value, way[1:], (*done, key))


def nodes(tree: object, loc: Loc = ()) -> Iterator[tuple[Loc, bool]]:
    """Yield every place in the tree, and whether it is a leaf: neither a mapping nor a list."""
    yield loc, not isinstance(tree, dict | list)
    for key, value in _entries(tree):
        yield from nodes(value, (*loc, key))


def _rewritten(tree: Any, way: Loc, change: Change) -> Any:
    if not way:
        return change(tree)
    changed = {k: _rewritten(v, way[1:], change) if way[0] in ("*", k) else v for k, v in _entries(tree)}
    if isinstance(tree, list):
        return list(changed.values())
    return changed if isinstance(tree, dict) else tree


def _entries(tree: object) -> Iterator[tuple[str | int, Any]]:
    if isinstance(tree, dict):
        yield from tree.items()
    elif isinstance(tree, list):
        yield from enumerate(tree)
