"""CSV (RFC 4180) whose texts no spreadsheet takes for formulas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")
"""What a spreadsheet may take a cell that begins with it for."""


def csv_lines(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV: texts as `safe_cell` makes them, None as an empty cell."""
    text = io.StringIO()
    csv.writer(text).writerows([safe_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return text.getvalue()


def safe_cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: an apostrophe in front says that it is a text."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text
