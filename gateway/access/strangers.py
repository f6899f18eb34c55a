"""Who sends bad keys too often: told to wait, and remembered within a bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

from gateway.access.gcra import Bucket
from gateway.access.limits import Rate
from gateway.clock import Clock

_BURST = 20
_RATE = Rate(count=20, per=60.0)
_MOST = 10_000


class Strangers:
    """Counts refused keys by address: 20 at once, then one every 3 seconds.

    Good keys are never asked here, so that nobody can lock out a client who shares its address. Beyond 10 000 addresses
    the one that was quiet longest is forgotten.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def note(self, address: str) -> float:
        """Count a refused key; 0 where that was still in order, else the seconds to wait."""
        name = _neighbourhood(address)
        bucket = self._buckets.pop(name, None) or Bucket(_RATE, _BURST)
        self._buckets[name] = bucket
        if len(self._buckets) > _MOST:
            self._buckets.popitem(last=False)
        now = self._clock.monotonic()
        if bucket.blocked(now):
            return bucket.wait(now)
        bucket.take(now)
        return 0.0


def _neighbourhood(address: str) -> str:
    """What one sender can choose from freely: a /64 of IPv6, an address of IPv4."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped else str(IPv6Address(int(parsed) >> 64 << 64))
    return str(parsed)
