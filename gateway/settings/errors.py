"""What is wrong with a configuration, and where; never a value of it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from typing import TypeAlias

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

Location: TypeAlias = tuple[str | int, ...]
"""The way to a setting: keys of mappings and indexes of lists."""

MAX_ERRORS = 50
"""Nobody reads more complaints than that, and a hostile file could cause a hundred thousand."""


class SettingsError(Exception):
    """A configuration that can not be used. `places` has (place, complaint) pairs, `str` a line for each.

    A place is where it was written and which setting it is: "gateway.yaml:12 workflows.triage.provder",
    "RUNWARD_SERVER__PORT server.port".
    """

    def __init__(self, errors: Iterable[tuple[str, str]]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(f"{location}: {message}" for location, message in self.errors))


def format_location(location: Location) -> str:
    """Write a way as people do: clients.checkout.keys[0].hash; keys are cleaned and capped, as anything may be one."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{printable_key(part)}" for part in location)
    return text.removeprefix(".")


def printable_key(key: str) -> str:
    """Make a key fit to be printed."""
    printable = "".join(c if c.isprintable() else "?" for c in key[:100])
    return printable + "…" * (len(key) > 100)


def did_you_mean(key: str, known: Iterable[str]) -> str:
    """Guess which of the known keys was meant: " (did you mean …?)", or nothing."""
    close = get_close_matches(key[:100], list(islice(known, 200)), n=1)
    return f" (did you mean {printable_key(close[0])}?)" if close else ""


def raise_validation_error(errors: Iterable[tuple[Location, str]]) -> None:
    """Raise the complaints from inside a validator, each at its place below the model; return where there are none."""
    details = [
        InitErrorDetails(
            type=PydanticCustomError("setting", "{complaint}", {"complaint": text}), loc=location, input=None
        )
        for location, text in islice(errors, MAX_ERRORS)
    ]
    if details:
        raise ValidationError.from_exception_data("settings", details, hide_input=True)
