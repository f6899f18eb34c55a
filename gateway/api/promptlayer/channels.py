"""The channels on which PromptLayer's SDKs wait for a run, and the runs behind them."""

from __future__ import annotations

import re

from gateway.runs.numbers import Numbers

LONGEST = 1024
"""Characters of a channel's name."""
_BEFORE = re.compile(r"workflows:.+:run:([^:]+)", re.DOTALL).fullmatch  # Python's: subscribes, then starts
_AFTER = re.compile(r"workflow_updates:([1-9][0-9]{0,15})").fullmatch  # JavaScript's: starts, then subscribes


def number_behind(channel: str, client: str, numbers: Numbers) -> int | None:
    """The number of the run that `client` waits for on this channel; None where it is no run's channel.

    Python's channel ends in the suffix that its start carries as `channel_name_suffix`.
    """
    if len(channel) > LONGEST:
        return None
    if before := _BEFORE(channel):
        return numbers.of_channel(client, before[1])
    if after := _AFTER(channel):
        return int(after[1])
    return None
