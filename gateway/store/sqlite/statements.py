"""Statements in SQL."""

from __future__ import annotations

import sqlite3
from typing import Any


def fetch_first(db: sqlite3.Connection, statement: str, *values: object) -> tuple[Any, ...] | None:
    """Run a statement to its end, and return its first row or None."""
    rows = db.execute(statement, values).fetchall()
    return rows[0] if rows else None
