"""Runs by number, as PromptLayer's clients know them: the id follows from the number, so nothing is looked up."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from gateway.clock import Clock

_BITS = 52
_MAX = 1 << _BITS  # what JavaScript has exactly goes up to 2**53


@dataclass(frozen=True, slots=True)
class ExecutionIds:
    """What numbers stand for. Whoever has the same `secret` agrees: every replica, and this one after a restart.

    A number says nothing to another client: for that one it stands for a run that does not exist.
    """

    secret: bytes = field(repr=False)

    def run_id(self, client: str, execution_id: int) -> str:
        """The id of the run that has this number for `client`; nobody can guess it, nor the number from it."""
        return "run_" + self._digest("run", client, str(execution_id))[:16].hex()

    def for_channel(self, client: str, channel: str) -> int:
        """The number, 1 to 2**52, of the run that is told about on `channel`: known before the run is."""
        return 1 + (int.from_bytes(self._digest("channel", client, channel)[:7]) & (_MAX - 1))

    @staticmethod
    def generate(clock: Clock) -> int:
        """A number, 1 to 2**52, for a run that has no channel."""
        return 1 + (int.from_bytes(clock.token(7)) & (_MAX - 1))

    def _digest(self, *parts: str) -> bytes:
        text = "".join(f"{len(part)}:{part}" for part in parts)  # lengths, or ("a", "bc") would be ("ab", "c")
        return hmac.digest(self.secret, text.encode("utf-8", "surrogatepass"), "sha256")
