"""`runward logs`: the level of a running gateway's log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.cli.errors import CliError
from gateway.cli.operations.client import OpsClient
from gateway.cli.operations.output import print_json, print_table
from gateway.settings.types.units import parse_duration

if TYPE_CHECKING:
    from providers.contract import JsonValue

_COLUMNS = ("LEVEL", "UNTIL", "CONFIGURED")


def show_or_set_level(client: OpsClient, level: str | None, duration: str | None, *, as_json: bool) -> None:
    """Print the level of the log, after it was set to `level` if that is given, for `duration`. Raises CliError."""
    if level is None:
        if duration is not None:
            raise CliError("--for needs a level")
        document = client.get("logs", "level")
    else:
        body: dict[str, JsonValue] = {"level": level}
        if duration is not None:
            body["for"] = _seconds(duration)
        document = client.request("PUT", ("logs", "level"), body)
    if as_json:
        print_json(document)
    else:
        print_table(_COLUMNS, [[document.get(name) for name in ("level", "until", "configured")]])


def _seconds(duration: str) -> float:
    try:
        return parse_duration(duration if not duration.isdecimal() else int(duration))
    except ValueError as error:
        raise CliError(f"--for {error}") from None
