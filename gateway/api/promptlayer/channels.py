"""The channels on which PromptLayer's SDKs wait for a run, and the runs behind them."""

from __future__ import annotations

import re

from gateway.api.promptlayer.execution_ids import ExecutionIds

MAX_CHANNEL_LENGTH = 1024
"""Characters of a channel's name."""
_PYTHON_CHANNEL = re.compile(r"workflows:.+:run:([^:]+)", re.DOTALL).fullmatch  # Python's: subscribes, then starts
_JAVASCRIPT_CHANNEL = re.compile(
    r"workflow_updates:([1-9][0-9]{0,15})"
).fullmatch  # JavaScript's: starts, then subscribes


def execution_id_of_channel(channel: str, client: str, execution_ids: ExecutionIds) -> int | None:
    """The number of the run that `client` waits for on this channel; None where it is no run's channel.

    Python's channel ends in the suffix that its start carries as `channel_name_suffix`.
    """
    if len(channel) > MAX_CHANNEL_LENGTH:
        return None
    if python_match := _PYTHON_CHANNEL(channel):
        return execution_ids.for_channel(client, python_match[1])
    if javascript_match := _JAVASCRIPT_CHANNEL(channel):
        return int(javascript_match[1])
    return None
