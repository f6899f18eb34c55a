"""Execution ids and channels of PromptLayer's API. The run id is derived from the execution id, without a look-up."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field

from gateway.clock import Clock

_BITS = 52
_MAX = 1 << _BITS  # JavaScript represents integers up to 2**53 exactly
MAX_CHANNEL_LENGTH = 1024
"""Maximum length of a channel name in characters."""
_PYTHON_CHANNEL = re.compile(r"workflows:.+:run:([^:]+)", re.DOTALL).fullmatch  # subscribed to before the start
_JAVASCRIPT_CHANNEL = re.compile(r"workflow_updates:([1-9][0-9]{0,15})").fullmatch  # subscribed to after the start


@dataclass(frozen=True, slots=True)
class ExecutionIds:
    """Maps execution ids of a client to run ids. Replicas with the same `secret` agree, also after a restart.

    An execution id is valid for its client only: for another client, it maps to a run that does not exist.
    """

    secret: bytes = field(repr=False)

    def run_id(self, client: str, execution_id: int) -> str:
        """Run id of the client's execution id. Neither can be derived from the other without the secret."""
        return "run_" + self._digest("run", client, str(execution_id))[:16].hex()

    def for_channel(self, client: str, channel: str) -> int:
        """Execution id, 1 to 2**52, of the run that `channel` reports on. Known before the run starts."""
        return 1 + (int.from_bytes(self._digest("channel", client, channel)[:7]) & (_MAX - 1))

    @staticmethod
    def generate(clock: Clock) -> int:
        """Random execution id, 1 to 2**52, for a run without a channel."""
        return 1 + (int.from_bytes(clock.token(7)) & (_MAX - 1))

    def of_channel(self, client: str, channel: str) -> int | None:
        """Execution id of the client's run on `channel`. None if it is not the channel of a run.

        The Python SDK's channel ends in the suffix that its start sends as `channel_name_suffix`.
        """
        if len(channel) > MAX_CHANNEL_LENGTH:
            return None
        if python_match := _PYTHON_CHANNEL(channel):
            return self.for_channel(client, python_match[1])
        if javascript_match := _JAVASCRIPT_CHANNEL(channel):
            return int(javascript_match[1])
        return None

    def _digest(self, *parts: str) -> bytes:
        text = "".join(
            f"{len(part)}:{part}" for part in parts
        )  # with lengths, so that ("a", "bc") differs from ("ab", "c")
        return hmac.digest(self.secret, text.encode("utf-8", "surrogatepass"), "sha256")
