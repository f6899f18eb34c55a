"""Configuration errors with their location; values are never included."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from typing import TypeAlias

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

Location: TypeAlias = tuple[str | int, ...]
"""Path of a setting: keys of mappings and indexes of lists."""

MAX_ERRORS = 50
"""Bound on reported errors; a hostile file could cause a hundred thousand."""


class SettingsError(Exception):
    """The configuration cannot be used. `errors` has (place, message) pairs, `str` one line for each.

    A place is the origin and the path of a setting: "gateway.yaml:12 workflows.triage.provder",
    "RUNWARD_SERVER__PORT server.port".
    """

    def __init__(self, errors: Iterable[tuple[str, str]]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(f"{location}: {message}" for location, message in self.errors))


def format_location(location: Location) -> str:
    """Format a path, for example clients.checkout.keys[0].hash; keys are made printable and truncated."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{printable_key(part)}" for part in location)
    return text.removeprefix(".")


def printable_key(key: str) -> str:
    """Replace unprintable characters, and truncate to 100 characters."""
    printable = "".join(c if c.isprintable() else "?" for c in key[:100])
    return printable + "…" * (len(key) > 100)


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """Suggestion for a misspelled key: " (did you mean …?)", or ""."""
    close = get_close_matches(key[:100], list(islice(known, 200)), n=1)
    return f" (did you mean {printable_key(close[0])}?)" if close else ""


def raise_validation_error(errors: Iterable[tuple[Location, str]]) -> None:
    """Raise ValidationError inside a validator, each error at its location below the model; no-op without errors."""
    details = [
        InitErrorDetails(
            type=PydanticCustomError("setting", "{complaint}", {"complaint": text}), loc=location, input=None
        )
        for location, text in islice(errors, MAX_ERRORS)
    ]
    if details:
        raise ValidationError.from_exception_data("settings", details, hide_input=True)
